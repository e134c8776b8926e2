//! Any drafter, any seed, any tree, any budget: the text of plain decoding, as a loop without a decoder defines it.

mod plain;

use plain::Case;
use proptest::prelude::*;
use upcycle_core::{
    AdjacencyMatrix, AutoBudget, Decoder, Drafter, Limits, NullDrafter, PromptLookup, Request,
    SamplingConfig, Session, Support, TokenId, TokenRecycling, TreeTemplate, Verifier,
};
use upcycle_testkit::{AdversarialDrafter, NaiveVerifier, OracleDrafter, RandomDrafter};

const VOCAB: usize = 24;

fn a_sampling() -> impl Strategy<Value = SamplingConfig> {
    let penalty = prop_oneof![Just(1.0_f32), 0.7_f32..1.8];
    let warm = (0.2_f32..2.0, 0_usize..30, 0.3_f32..=1.0, 0.0_f32..0.3, penalty.clone(), any::<(u64, u32)>());
    let warm = warm.prop_map(|(temperature, top_k, top_p, min_p, repeat_penalty, (seed, stream))| {
        SamplingConfig { temperature, top_k, top_p, min_p, repeat_penalty, seed, stream }
    });
    let greedy =
        penalty.prop_map(|repeat_penalty| SamplingConfig { repeat_penalty, ..SamplingConfig::default() });
    prop_oneof![greedy, warm]
}

fn a_case() -> impl Strategy<Value = Case> {
    let token = 0..VOCAB as TokenId;
    (
        prop::collection::vec(token.clone(), 1..20),
        a_sampling(),
        0_usize..50,
        prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(token, 1..3)],
        prop::option::weighted(0.3, 4_u32..40),
    )
        .prop_map(|(prompt, sampling, max_tokens, end_of_sequence, stop_sum)| Case {
            prompt,
            sampling,
            max_tokens,
            end_of_sequence,
            stop_sum,
        })
}

fn a_model() -> impl Strategy<Value = NaiveVerifier> {
    let support = prop_oneof![
        5 => Just(Support::Tree),
        1 => Just(Support::Chain { reason: "a test".into() }),
        1 => Just(Support::Plain { reason: "a test".into() }),
    ];
    (any::<u64>(), 0.0_f32..1.0, 20_usize..80, 1_usize..70, 1_usize..40, support).prop_map(
        |(seed, share, max_context, max_rows, max_leaves, support)| {
            let limits = Limits { vocab: VOCAB, max_context, max_rows, max_leaves, max_seqs: 4, support };
            NaiveVerifier::new(VOCAB, seed).with_predictability(share).with_limits(limits)
        },
    )
}

/// Which drafter, with a seed for those that take one.
fn a_drafter(which: u8, seed: u64, texts: Vec<Vec<TokenId>>) -> Box<dyn Drafter> {
    let matrix = || AdjacencyMatrix::new(VOCAB, 8).unwrap();
    match which {
        0 => Box::new(NullDrafter),
        1 => Box::new(OracleDrafter::new(texts)),
        2 => Box::new(AdversarialDrafter::new(texts, VOCAB)),
        3 => Box::new(PromptLookup::default()),
        4 => Box::new(TokenRecycling::new(matrix(), TreeTemplate::paper_80())),
        _ => Box::new(RandomDrafter::new((0..VOCAB as TokenId).collect(), seed)),
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Open,
    Step,
    /// Closes the session at this place, finished or not.
    Close(prop::sample::Index),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        2 => Just(Op::Open),
        12 => Just(Op::Step),
        1 => any::<prop::sample::Index>().prop_map(Op::Close),
    ];
    prop::collection::vec(op, 0..80)
}

/// Runs `ops` and then everything to its end, checking after each step that every text is a head of the plain one.
fn run<D: Drafter>(decoder: &mut Decoder<NaiveVerifier, D>, cases: &[Case], ops: &[Op]) {
    let model = decoder.verifier().clone();
    let plain: Vec<_> = cases.iter().map(|case| case.plain(&model)).collect();
    let mut waiting: Vec<usize> = (0..cases.len()).rev().collect();
    let (mut running, mut sessions): (Vec<usize>, Vec<Session>) = (Vec::new(), Vec::new());
    // In the end each is opened, and there are steps enough for the longest text and prompt, one row at a time.
    let end = std::iter::repeat_n([Op::Open, Op::Step], 2000).flatten();
    for op in ops.iter().copied().chain(end) {
        match op {
            Op::Open => {
                let slots = model.limits().max_seqs;
                if let Some(case) = waiting.pop_if(|_| sessions.len() < slots) {
                    sessions.push(decoder.open(&cases[case].prompt, cases[case].request()).unwrap());
                    running.push(case);
                }
            }
            Op::Close(at) => {
                if !sessions.is_empty() {
                    let at = at.index(sessions.len());
                    running.remove(at);
                    decoder.close(sessions.remove(at));
                }
            }
            Op::Step => {
                let before: Vec<usize> = sessions.iter().map(|session| session.output().len()).collect();
                decoder.step(&mut sessions).unwrap();
                for ((session, &case), before) in sessions.iter().zip(&running).zip(before) {
                    let (text, finish) = &plain[case];
                    let output = session.output();
                    assert_eq!(output, &text[..output.len().min(text.len())], "{case}");
                    assert_eq!(session.finish_reason().is_some(), output.len() == text.len(), "{case}");
                    assert!(session.finish_reason().is_none_or(|found| found == *finish), "{case}");
                    assert!(before == output.len() || session.new_tokens() == &output[before..]);
                    let committed = decoder.verifier().committed(session.id()).unwrap();
                    assert!(session.tokens().starts_with(committed), "only what was emitted is committed");
                }
                let done = |session: &Session| session.finish_reason().is_some();
                while let Some(at) = sessions.iter().position(done) {
                    running.remove(at);
                    let stats = decoder.close(sessions.remove(at));
                    let emitted: u32 = stats.emitted.iter().sum();
                    assert!(stats.accepted <= stats.drafted && stats.accepted <= emitted as usize);
                }
            }
        }
    }
    assert!(sessions.is_empty() && waiting.is_empty(), "every text ends");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_text_is_that_of_plain_decoding(
        model in a_model(),
        cases in prop::collection::vec(a_case(), 1..6),
        (which, seed) in (0_u8..7, any::<u64>()),
        (nodes, chunk) in (0_usize..100, 1_usize..30),
        auto: bool,
        ops in ops(),
    ) {
        let texts = cases.iter().map(|case| [&case.prompt[..], &case.plain(&model).0].concat()).collect();
        let decoder = Decoder::new(model, a_drafter(which, seed, texts)).with_prefill_chunk(chunk);
        let mut decoder = match auto {
            true => decoder.with_auto_budget(AutoBudget::default()),
            false => decoder.with_budget(nodes),
        };
        run(&mut decoder, &cases, &ops);
    }

    #[test]
    fn a_session_that_is_resumed_gives_the_text_of_a_new_one(
        model in a_model(),
        first in a_case(),
        second in a_case(),
        (shared, bare) in (0_usize..20, any::<bool>()),
        seed: u64,
    ) {
        let mut second = second;
        let (before, _) = first.plain(&model);
        let all = [&first.prompt[..], &before].concat();
        // The next turn of a chat shares a part of the text so far, or is one, all of it cached.
        let head = &all[..shared.min(all.len())];
        second.prompt = if bare && shared > 0 { head.to_vec() } else { [head, &second.prompt].concat() };
        second.prompt.truncate(model.limits().max_context);
        let expected = second.plain(&model);
        let drafter = RandomDrafter::new((0..VOCAB as TokenId).collect(), seed);
        let mut decoder = Decoder::new(model, drafter).with_budget(20);
        let mut session = [decoder.open(&first.prompt, first.request()).unwrap()];
        let finish = |decoder: &mut Decoder<_, _>, session: &mut [Session; 1]| {
            while session[0].finish_reason().is_none() {
                decoder.step(session).unwrap();
            }
        };
        finish(&mut decoder, &mut session);
        decoder.resume(&mut session[0], &second.prompt, second.request()).unwrap();
        finish(&mut decoder, &mut session);
        prop_assert_eq!((session[0].output().to_vec(), session[0].finish_reason().unwrap()), expected);
    }
}

#[test]
fn the_oracle_has_all_of_it_accepted_and_the_adversary_none() {
    let model = NaiveVerifier::new(VOCAB, 9);
    let prompt = vec![1, 2, 3];
    let mut plain = Decoder::new(model.clone(), NullDrafter);
    let text: Vec<TokenId> =
        plain.generate(&prompt, Request::greedy(65)).unwrap().map(Result::unwrap).collect();
    let whole = [&prompt[..], &text].concat();
    let stats = |drafter: Box<dyn Drafter>| {
        let mut decoder = Decoder::new(model.clone(), drafter).with_budget(7);
        let mut generation = decoder.generate(&prompt, Request::greedy(65)).unwrap();
        let found: Vec<TokenId> = generation.by_ref().map(Result::unwrap).collect();
        assert_eq!(found, text);
        generation.stats().clone()
    };
    // The prompt gives the first token; then 7 are drafted at each step and an eighth is given.
    let oracle = stats(Box::new(OracleDrafter::new(vec![whole.clone()])));
    assert_eq!((oracle.steps(), oracle.tokens_per_step()), (8, 8.0));
    let adversary = stats(Box::new(AdversarialDrafter::new(vec![whole], VOCAB)));
    assert_eq!((adversary.accepted, adversary.drafted), (0, 7 * 64));
}

#[test]
fn drafters_that_learn_are_accepted_on_predictable_text() {
    let matrix = AdjacencyMatrix::new(64, 8).unwrap();
    let mut decoder =
        Decoder::new(NaiveVerifier::new(64, 3), TokenRecycling::new(matrix, TreeTemplate::paper_80()));
    let mut generation = decoder.generate(&[1], Request::greedy(400)).unwrap();
    assert!(generation.by_ref().all(|token| token.is_ok()));
    assert!(generation.stats().tokens_per_step() > 1.5, "{:?}", generation.stats().tokens_per_step());
}
