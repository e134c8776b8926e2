//! A session that a step did not advance is as it was, and stepping again gives the text that would have come.

use proptest::prelude::*;
use upcycle_core::{
    AdjacencyMatrix, Commit, DecodeError, Decoder, Drafter, Limits, NullDrafter, PromptLookup, Request, Row,
    Sampling, SamplingConfig, SeqId, Session, StepFailure, TokenId, TokenRecycling, TopK, TreeInput,
    TreeTemplate, Verifier, VerifyError,
};
use upcycle_testkit::{Failure, ManualClock, NaiveVerifier, RandomDrafter};

const VOCAB: usize = 32;

fn request(greedy: bool, max_tokens: usize) -> Request {
    let config = SamplingConfig { temperature: 0.9, seed: 4, ..SamplingConfig::default() };
    let sampling = if greedy { Sampling::greedy() } else { Sampling::new(config).unwrap() };
    Request { sampling, ..Request::greedy(max_tokens) }
}

fn prompts() -> [Vec<TokenId>; 3] {
    [vec![1, 2, 3], (0..20).collect(), vec![7]]
}

/// All that can be seen of a session, but what its last step emitted.
fn seen(session: &Session) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        session.tokens().to_vec(),
        (session.prefilled(), session.prompt_len(), session.finish_reason(), session.id()),
        session.stats().clone(),
    )
}

/// Decodes three prompts at once and counts the steps that failed.
fn run<D: Drafter>(model: NaiveVerifier, drafter: D, greedy: bool) -> (Vec<Vec<TokenId>>, usize) {
    // The clock does not move, so that statistics can be compared.
    let mut decoder =
        Decoder::new(model, drafter).with_clock(ManualClock::default()).with_budget(12).with_prefill_chunk(8);
    let mut sessions: Vec<Session> =
        prompts().iter().map(|prompt| decoder.open(prompt, request(greedy, 40)).unwrap()).collect();
    let mut failed = 0;
    while sessions.iter().any(|session| session.finish_reason().is_none()) {
        let committed = |decoder: &Decoder<NaiveVerifier, D>, session: &Session| {
            decoder.verifier().committed(session.id()).unwrap().to_vec()
        };
        let before: Vec<_> =
            sessions.iter().map(|session| (seen(session), committed(&decoder, session))).collect();
        let active: Vec<bool> = sessions.iter().map(|session| session.finish_reason().is_none()).collect();
        let Err(error) = decoder.step(&mut sessions) else { continue };
        for failure in error.failures() {
            assert!(
                matches!(failure.error, VerifyError::Backend { .. } | VerifyError::NotFinite { .. }),
                "{error:?}"
            );
            assert!(failure.sessions.is_sorted() && failure.sessions.iter().all(|&index| active[index]));
        }
        for (index, (session, before)) in sessions.iter().zip(before).enumerate() {
            let after = (seen(session), committed(&decoder, session));
            // The others of the pass advanced.
            assert_eq!(after == before, !active[index] || error.session_error(index).is_some(), "{error}");
            assert!(after != before || session.new_tokens().is_empty());
        }
        failed += 1;
        assert!(failed < 10);
    }
    (sessions.iter().map(|session| session.output().to_vec()).collect(), failed)
}

fn a_failure() -> impl Strategy<Value = (Failure, usize)> {
    let failure =
        prop::sample::select(vec![Failure::Forward, Failure::Commit, Failure::Logits, Failure::NotFinite]);
    (failure, 0_usize..14)
}

proptest! {
    #[test]
    fn a_failed_step_changes_nothing_and_the_text_continues(
        failures in prop::collection::vec(a_failure(), 1..5),
        which in 0_u8..3,
        greedy: bool,
        seed: u64,
    ) {
        let drafter = || -> Box<dyn Drafter> {
            match which {
                0 => Box::new(PromptLookup::default()),
                1 => {
                    let matrix = AdjacencyMatrix::new(VOCAB, 8).unwrap();
                    Box::new(TokenRecycling::new(matrix, TreeTemplate::paper_80()))
                }
                _ => Box::new(RandomDrafter::new((0..VOCAB as TokenId).collect(), seed)),
            }
        };
        let model = NaiveVerifier::new(VOCAB, seed);
        let (expected, none) = run(model.clone(), NullDrafter, greedy);
        prop_assert_eq!(none, 0);
        let failing = failures.iter().fold(model, |model, &(failure, call)| model.failing(failure, call));
        let (found, failed) = run(failing, drafter(), greedy);
        prop_assert_eq!(found, expected);
        // Greedy decoding reads no full rows, so only some failures are certain to occur.
        let certain = failures.iter().any(|(failure, call)| *failure == Failure::Forward && *call < 2);
        prop_assert!(failed > 0 || !certain);
    }
}

#[test]
fn each_kind_of_failure_occurs() {
    for failure in [Failure::Forward, Failure::Commit, Failure::Logits, Failure::NotFinite] {
        let (_, failed) = run(NaiveVerifier::new(VOCAB, 1).failing(failure, 5), NullDrafter, false);
        assert_eq!(failed, 1, "{failure:?}");
    }
}

/// A model whose rows are not finite for one of its sequences.
struct NotFiniteFor {
    inner: NaiveVerifier,
    seq: SeqId,
}

impl Verifier for NotFiniteFor {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }
    fn open(&mut self) -> Result<SeqId, VerifyError> {
        self.inner.open()
    }
    fn close(&mut self, seq: SeqId) {
        self.inner.close(seq);
    }
    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        match inputs.iter().position(|input| input.seq == self.seq) {
            Some(input) => Err(VerifyError::NotFinite { row: Row { input, node: 0 } }),
            None => self.inner.forward(inputs, top),
        }
    }
    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        self.inner.logits(row)
    }
    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        self.inner.commit(commits)
    }
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        self.inner.truncate(seq, len)
    }
}

#[test]
fn a_session_whose_rows_are_never_finite_disturbs_no_other() {
    let (expected, _) = run(NaiveVerifier::new(VOCAB, 1), NullDrafter, false);
    for bad in 0..prompts().len() {
        let model = NotFiniteFor { inner: NaiveVerifier::new(VOCAB, 1), seq: SeqId::new(bad as u64) };
        let mut decoder = Decoder::new(model, PromptLookup::default());
        let mut sessions: Vec<Session> =
            prompts().iter().map(|prompt| decoder.open(prompt, request(false, 40)).unwrap()).collect();
        for _ in 0..50 {
            let error = decoder.step(&mut sessions).unwrap_err();
            let [StepFailure { sessions, error: VerifyError::NotFinite { .. } }] = error.failures() else {
                panic!("{error:?}")
            };
            assert_eq!(sessions, &[bad], "the error names the caller's index");
        }
        for (index, session) in sessions.iter().enumerate() {
            let text = if index == bad { &[][..] } else { &expected[index] };
            assert_eq!(session.output(), text);
        }
    }
}

#[test]
fn an_iterator_continues_after_an_error() {
    let plain: Vec<TokenId> = Decoder::new(NaiveVerifier::new(VOCAB, 1), NullDrafter)
        .generate(&[1, 2], Request::greedy(20))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let model = NaiveVerifier::new(VOCAB, 1).failing(Failure::Forward, 6).failing(Failure::Commit, 9);
    let mut decoder = Decoder::new(model, NullDrafter);
    let mut generation = decoder.generate(&[1, 2], Request::greedy(20)).unwrap();
    let mut found = Vec::new();
    for errors in [1, 1, 0] {
        let part: Vec<_> = generation.by_ref().collect();
        assert_eq!(part.iter().filter(|token| token.is_err()).count(), errors);
        found.extend(part.into_iter().flatten());
    }
    assert_eq!(found, plain);
}

/// Found by fuzzing: a model of weights that overflow.
#[test]
fn an_iterator_over_a_model_that_always_fails_ends() {
    let mut decoder = Decoder::new(NaiveVerifier::new(VOCAB, 1).failing(Failure::Forward, 0), NullDrafter);
    for call in 1..100 {
        let model = decoder.verifier().clone();
        *decoder.verifier_mut() = model.failing(Failure::Forward, call);
    }
    let mut generation = decoder.generate(&[1, 2], Request::greedy(20)).unwrap();
    for _ in 0..3 {
        assert_eq!(generation.by_ref().take(50).count(), 1);
    }
}

#[test]
fn a_prompt_that_is_refused_leaves_no_sequence_open() {
    let model = NaiveVerifier::new(VOCAB, 1).with_max_context(16).with_max_seqs(1);
    let mut decoder = Decoder::new(model, NullDrafter);
    let mut open = |prompt: &[TokenId]| {
        let result = decoder.open(prompt, Request::greedy(1));
        result.map(|session| decoder.close(session)).map(drop)
    };
    assert!(matches!(open(&[]), Err(DecodeError::EmptyPrompt)));
    assert!(matches!(open(&[1; 17]), Err(DecodeError::PromptTooLong { len: 17, max: 16 })));
    assert!(matches!(open(&[1, 32]), Err(DecodeError::TokenOutOfRange { token: 32, vocab: VOCAB })));
    open(&[1; 16]).unwrap();
    let one = decoder.open(&[1], Request::greedy(1)).unwrap();
    let two = decoder.open(&[1], Request::greedy(1));
    assert!(matches!(two, Err(DecodeError::Verify(VerifyError::TooManySequences { max: 1 }))));
    decoder.close(one);
    // Dropping an iterator closes its sequence.
    assert!(decoder.generate(&[1], Request::greedy(9)).unwrap().next().is_some());
    assert!(decoder.generate(&[1], Request::greedy(9)).unwrap().next().is_some());
}
