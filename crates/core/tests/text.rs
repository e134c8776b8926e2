//! The text is that of plain decoding, for any drafter, seed, tree and budget, and whoever shares the passes: sessions that wait
//! for their turn, that fail, are closed or are dropped. A loop without a decoder defines plain decoding.

mod plain;

use plain::Case;
use proptest::prelude::*;
use upcycle_core::{
    AdjacencyMatrix, AutoBudget, Decoder, Drafter, Limits, NullDrafter, PromptLookup, Request,
    SamplingConfig, Session, Support, TokenId, TokenLogprobs, TokenRecycling, TreeTemplate, Verifier,
};
use upcycle_testkit::{AdversarialDrafter, Failure, NaiveVerifier, OracleDrafter, RandomDrafter};

const VOCAB: usize = 24;

fn a_sampling() -> impl Strategy<Value = SamplingConfig> {
    let penalty = prop_oneof![Just(1.0_f32), 0.7_f32..1.8];
    let sampled =
        (0.2_f32..2.0, 0_usize..30, 0.3_f32..=1.0, 0.0_f32..0.3, penalty.clone(), any::<(u64, u32)>());
    let sampled =
        sampled.prop_map(|(temperature, top_k, top_p, min_p, repeat_penalty, (seed, sample_index))| {
            SamplingConfig { temperature, top_k, top_p, min_p, repeat_penalty, seed, sample_index }
        });
    let greedy =
        penalty.prop_map(|repeat_penalty| SamplingConfig { repeat_penalty, ..SamplingConfig::default() });
    prop_oneof![greedy, sampled]
}

fn a_case() -> impl Strategy<Value = Case> {
    let token = 0..VOCAB as TokenId;
    (
        prop::collection::vec(token.clone(), 1..20),
        a_sampling(),
        0_usize..50,
        prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec(token, 1..3)],
        prop::option::weighted(0.3, 4_u32..40),
        prop_oneof![2 => Just(vec![]), 1 => prop::collection::vec((0..VOCAB as TokenId, -100.0_f32..=100.0), 1..6)],
        prop::option::weighted(0.5, 0_usize..30),
    )
        .prop_map(|(prompt, sampling, max_tokens, end_of_sequence, stop_sum, bias, logprobs)| Case {
            prompt,
            sampling,
            max_tokens,
            end_of_sequence,
            stop_sum,
            bias,
            logprobs,
        })
}

fn a_model() -> impl Strategy<Value = NaiveVerifier> {
    let support = prop_oneof![
        5 => Just(Support::Tree),
        1 => Just(Support::Chain { reason: "a test".into() }),
        1 => Just(Support::Plain { reason: "a test".into() }),
    ];
    // Often fewer rows than sequences, so that they take turns.
    let rows = prop_oneof![1 => 1_usize..6, 2 => 1_usize..70];
    (any::<u64>(), 0.0_f32..1.0, 20_usize..80, rows, 1_usize..40, 1_usize..8, support).prop_map(
        |(seed, share, max_context, max_rows, max_leaves, max_seqs, support)| {
            let limits = Limits { vocab: VOCAB, max_context, max_rows, max_leaves, max_seqs, support };
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
    /// Closes the session at this position, finished or not.
    Close(prop::sample::Index),
    /// Drops the session at this position without telling the decoder.
    Drop(prop::sample::Index),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => Just(Op::Open),
        12 => Just(Op::Step),
        1 => any::<prop::sample::Index>().prop_map(Op::Close),
        1 => any::<prop::sample::Index>().prop_map(Op::Drop),
    ];
    prop::collection::vec(op, 0..80)
}

/// Calls of the model that fail.
fn failures() -> impl Strategy<Value = Vec<(Failure, usize)>> {
    let failure =
        prop::sample::select(vec![Failure::Forward, Failure::Commit, Failure::Logits, Failure::NotFinite]);
    prop::collection::vec((failure, 0_usize..60), 0..8)
}

/// An open session, the case that it decodes, and for how many steps it has waited for its turn.
struct Running {
    session: Session,
    case: usize,
    waited: usize,
}

/// From the definition: a softmax, and a sort.
fn logprobs(logits: &[f32], token: TokenId, count: usize) -> TokenLogprobs {
    let log_sum = upcycle_core::top::log_sum_exp(logits);
    let mut all: Vec<_> = (0..).zip(logits.iter().map(|logit| logit - log_sum)).collect();
    let logprob = all[token as usize].1;
    all.sort_by(|a, b| logits[b.0 as usize].total_cmp(&logits[a.0 as usize]).then(a.0.cmp(&b.0)));
    all.truncate(count);
    TokenLogprobs { token, logprob, top: all }
}

/// The log probabilities of each token of the plain `text`, if they are asked for.
fn plain_logprobs(case: &Case, model: &NaiveVerifier, text: &[TokenId]) -> Vec<TokenLogprobs> {
    let Some(count) = case.logprobs else { return Vec::new() };
    let after = |at: usize| model.logits_after(&[&case.prompt[..], &text[..at]].concat());
    (0..).zip(text).map(|(at, &token)| logprobs(&after(at), token, count)).collect()
}

/// Runs `ops` and then everything to its end. After each step every text is a head of the plain one.
fn run<D: Drafter>(decoder: &mut Decoder<NaiveVerifier, D>, cases: &[Case], ops: &[Op]) {
    let model = decoder.verifier().clone();
    let limits = model.limits();
    let longest_wait = limits.max_seqs.div_ceil(limits.max_rows.min(limits.max_leaves));
    let plain: Vec<_> = cases.iter().map(|case| case.plain(&model)).collect();
    let logprobs: Vec<_> =
        cases.iter().zip(&plain).map(|(case, (text, _))| plain_logprobs(case, &model, text)).collect();
    let mut waiting: Vec<usize> = (0..cases.len()).rev().collect();
    let mut running: Vec<Running> = Vec::new();
    // In the end each is opened, and there are steps enough for the longest text and prompt, one row at a time.
    let end = std::iter::repeat_n([Op::Open, Op::Step], 2000).flatten();
    for op in ops.iter().copied().chain(end) {
        match op {
            Op::Open => {
                if let Some(case) = waiting.pop_if(|_| running.len() < limits.max_seqs) {
                    let session = decoder.open(&cases[case].prompt, cases[case].request()).unwrap();
                    running.push(Running { session, case, waited: 0 });
                }
            }
            Op::Close(at) if !running.is_empty() => {
                decoder.close(running.remove(at.index(running.len())).session);
            }
            Op::Drop(at) if !running.is_empty() => drop(running.remove(at.index(running.len()))),
            Op::Close(_) | Op::Drop(_) => {}
            Op::Step => {
                let progress = |session: &Session| (session.prefilled(), session.output().len());
                let before: Vec<_> = running.iter().map(|running| progress(&running.session)).collect();
                let stepped = decoder.step(running.iter_mut().map(|running| &mut running.session));
                for (index, Running { session, case, waited }) in running.iter_mut().enumerate() {
                    let failed =
                        stepped.as_ref().err().is_some_and(|error| error.session_error(index).is_some());
                    let advanced = progress(session) != before[index];
                    assert!(!(failed && advanced), "a session that failed is as it was");
                    *waited = if failed || advanced { 0 } else { *waited + 1 };
                    assert!(*waited <= longest_wait, "sessions take turns");

                    let emitted = before[index].1..session.output().len();
                    let expected = logprobs[*case].get(emitted).unwrap_or(&[]);
                    assert_eq!(session.new_logprobs(), expected, "bit for bit");
                    let (text, finish) = &plain[*case];
                    let (output, case) = (session.output(), &cases[*case]);
                    assert_eq!(output, &text[..output.len().min(text.len())], "{case:?}");
                    assert_eq!(session.finish_reason().is_some(), output.len() == text.len(), "{case:?}");
                    assert!(session.finish_reason().is_none_or(|found| found == *finish), "{case:?}");
                    assert_eq!(session.new_tokens(), &output[before[index].1..]);
                    let committed = decoder.verifier().committed(session.id()).unwrap();
                    assert!(session.tokens().starts_with(committed), "only what was emitted is committed");
                }
                let done = |running: &Running| running.session.finish_reason().is_some();
                while let Some(at) = running.iter().position(done) {
                    let stats = decoder.close(running.remove(at).session);
                    let emitted: u32 = stats.emitted_per_step.iter().sum();
                    assert!(stats.accepted <= stats.drafted && stats.accepted <= emitted as usize);
                }
            }
        }
    }
    assert!(running.is_empty() && waiting.is_empty(), "every text ends");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_text_is_that_of_plain_decoding(
        model in a_model(),
        failures in failures(),
        cases in prop::collection::vec(a_case(), 1..9),
        (which, seed) in (0_u8..7, any::<u64>()),
        (nodes, chunk) in (0_usize..100, 1_usize..30),
        auto: bool,
        ops in ops(),
    ) {
        let texts = cases.iter().map(|case| [&case.prompt[..], &case.plain(&model).0].concat()).collect();
        let model = failures.iter().fold(model, |model, &(failure, call)| model.failing(failure, call));
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
                decoder.step_one(&mut session[0]).unwrap();
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
