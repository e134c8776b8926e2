//! The engine: answers do not depend on the company, and no request harms another.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use support::{VOCAB, engine_of, engine_with};
use upcycle::{Answer, CacheGroup, DrafterSetup, Engine, NoOptions, Registry, Request, RequestError};
use upcycle_core::{
    DecodeError, DraftContext, DraftTree, Drafter, FinishReason, NodeId, Outcome, SamplingConfig, TokenId,
    TokenLogprobs, VerifyError,
};
use upcycle_testkit::{Failure, NaiveVerifier};
use upcycle_text::ModelSampling;

fn engine(settings: &[(&str, &str)]) -> Engine {
    engine_with(NaiveVerifier::new(VOCAB, 7), &Registry::builtin(), settings)
}

/// What the model says after `prompt` when nobody else is there and nothing is drafted.
fn alone(request: &Request) -> Vec<TokenId> {
    let engine = engine(&[("drafter.name", "none")]);
    tokens(engine.generate(request.clone()).unwrap()).unwrap()
}

fn tokens(mut answer: Answer) -> Result<Vec<TokenId>, RequestError> {
    answer.text()?;
    Ok(answer.tokens().to_vec())
}

/// Waits until nothing runs and nothing waits.
fn settle(engine: &Engine) {
    let start = Instant::now();
    while engine.status().running + engine.status().waiting > 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "requests are left over: {:?}", engine.status());
        thread::sleep(Duration::from_millis(1));
    }
}

fn sampled(prompt: Vec<TokenId>, seed: u64, max_tokens: usize) -> Request {
    let sampling = SamplingConfig { temperature: 0.8, seed, ..SamplingConfig::default() };
    Request::tokens(prompt).max_tokens(max_tokens).sampling(sampling).unwrap()
}

/// A request, when it arrives, and after how many pieces its reader leaves.
#[derive(Clone, Debug)]
struct Arrival {
    request: Request,
    delay: u64,
    leaves_after: Option<usize>,
}

fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    // Few tokens and lengths, so that prompts share prefixes.
    let prompt = prop::collection::vec(0..2_u32, 1..60);
    let group = prop_oneof![
        Just(CacheGroup::Shared),
        Just(CacheGroup::Named("a".to_owned())),
        Just(CacheGroup::Private)
    ];
    let arrival = (prompt, 0..3_u64, 1..40_usize, group, 0..400_u64, prop::option::of(0..20_usize)).prop_map(
        |(prompt, seed, max_tokens, group, delay, leaves_after)| Arrival {
            request: sampled(prompt, seed, max_tokens).cache_group(group),
            delay,
            leaves_after,
        },
    );
    prop::collection::vec(arrival, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Law 12.
    #[test]
    fn an_answer_is_that_of_its_request_alone(arrivals in arrivals(), sequences in 1..6_usize, cached in 0..200_usize) {
        let engine = engine(&[
            ("engine.max_sequences", &sequences.to_string()),
            ("engine.max_cached_tokens", &cached.to_string()),
        ]);
        thread::scope(|scope| {
            let readers: Vec<_> = arrivals.iter().map(|arrival| scope.spawn(|| {
                thread::sleep(Duration::from_micros(arrival.delay));
                let mut answer = engine.generate(arrival.request.clone()).unwrap();
                if let Some(pieces) = arrival.leaves_after {
                    answer.by_ref().take(pieces).for_each(|piece| { piece.unwrap(); });
                    return None;
                }
                Some(tokens(answer).unwrap())
            })).collect();
            for (reader, arrival) in readers.into_iter().zip(&arrivals) {
                if let Some(found) = reader.join().unwrap() {
                    assert_eq!(found, alone(&arrival.request), "{arrival:?}");
                }
            }
        });
        settle(&engine);
        prop_assert!(engine.status().cached_tokens <= cached);
    }
}

#[test]
fn a_full_queue_refuses_at_once() {
    let engine = engine(&[("engine.max_sequences", "1"), ("engine.max_queue", "2")]);
    // Longer than the test takes to fill the queue.
    let long = || Request::tokens([1, 2]).max_tokens(1000);
    let mut answers = Vec::new();
    let refused = loop {
        match engine.generate(long()) {
            Ok(answer) => answers.push(answer),
            Err(error) => break error,
        }
        assert!(answers.len() < 100, "nothing is refused");
    };
    assert!(matches!(refused, RequestError::QueueFull { .. }), "{refused}");
    let expected = alone(&long());
    for answer in answers {
        assert_eq!(tokens(answer).unwrap(), expected);
    }
    engine.generate(long()).unwrap();
}

#[test]
fn a_dropped_answer_frees_its_place() {
    let engine = engine(&[("engine.max_sequences", "1")]);
    let mut answer = engine.generate(Request::tokens([1]).max_tokens(1000)).unwrap();
    answer.next().unwrap().unwrap();
    let waiting = engine.generate(Request::tokens([2]).max_tokens(3)).unwrap();
    drop(answer);
    assert_eq!(tokens(waiting).unwrap().len(), 3);
    settle(&engine);
}

#[test]
fn a_row_that_is_not_finite_ends_its_request_alone() {
    let verifier = NaiveVerifier::new(VOCAB, 7).failing(Failure::NotFinite, 9);
    let engine = engine_with(verifier, &Registry::builtin(), &[]);
    let requests: Vec<_> = (0..4).map(|prompt| sampled(vec![prompt], 1, 60)).collect();
    let answers: Vec<_> = requests.iter().map(|request| engine.generate(request.clone()).unwrap()).collect();
    let mut failed = 0;
    for (answer, request) in answers.into_iter().zip(&requests) {
        match tokens(answer) {
            Ok(found) => assert_eq!(found, alone(request)),
            Err(RequestError::Decode(DecodeError::Verify(VerifyError::NotFinite { .. }))) => failed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(failed, 1);
}

#[test]
fn a_pass_that_fails_is_tried_again_request_by_request() {
    for failure in [Failure::Forward, Failure::Commit] {
        let verifier = NaiveVerifier::new(VOCAB, 7).failing(failure, 9);
        let engine = engine_with(verifier, &Registry::builtin(), &[]);
        let requests: Vec<_> = (0..4).map(|prompt| sampled(vec![prompt], 1, 60)).collect();
        let answers: Vec<_> =
            requests.iter().map(|request| engine.generate(request.clone()).unwrap()).collect();
        let failed = answers
            .into_iter()
            .zip(&requests)
            .map(|(answer, request)| tokens(answer).map(|found| assert_eq!(found, alone(request))).is_err());
        // Only a pass of one request can end that request.
        assert!(failed.filter(|failed| *failed).count() <= 1);
        assert_eq!(tokens(engine.generate(requests[0].clone()).unwrap()).unwrap(), alone(&requests[0]));
    }
}

#[test]
fn a_prompt_that_begins_like_another_reads_only_the_rest() {
    let engine = engine(&[]);
    let prompt: Vec<TokenId> = (0..100).map(|index| index % 7).collect();
    let first = Request::tokens(prompt.clone()).max_tokens(20);
    let mut answer = engine.generate(first.clone()).unwrap();
    answer.text().unwrap();
    assert_eq!(answer.cached_tokens(), 0);

    // The next turn of a conversation: the answer is cached too, all but its last token.
    let mut turn = [&prompt[..], answer.tokens(), &[9, 9]].concat();
    let next = Request::tokens(turn.clone()).max_tokens(5);
    let mut answer = engine.generate(next.clone()).unwrap();
    answer.text().unwrap();
    assert_eq!(answer.cached_tokens(), 119);
    assert_eq!(answer.tokens(), alone(&next));

    // Another conversation with the same beginning, twice, and one of another group.
    turn.truncate(60);
    turn.push(33);
    let other = Request::tokens(turn).max_tokens(5);
    for (group, cached) in [
        (CacheGroup::Shared, 60),
        (CacheGroup::Shared, 60),
        (CacheGroup::Named("b".to_owned()), 0),
        (CacheGroup::Named("b".to_owned()), 60),
        (CacheGroup::Private, 0),
        (CacheGroup::Private, 0),
    ] {
        let mut answer = engine.generate(other.clone().cache_group(group.clone())).unwrap();
        answer.text().unwrap();
        assert_eq!(answer.cached_tokens(), cached, "{group:?}");
        assert_eq!(answer.tokens(), alone(&other));
    }
}

#[test]
fn samples_of_one_prompt_read_it_once() {
    let engine = engine(&[]);
    let prompt: Vec<TokenId> = (0..200).map(|index| index % 11).collect();
    let answers: Vec<_> = (0..4)
        .map(|index| engine.generate(sampled(prompt.clone(), 1, 30).sample_index(index)).unwrap())
        .collect();
    let (mut texts, mut read) = (Vec::new(), 0);
    for mut answer in answers {
        texts.push(answer.text().unwrap());
        read += answer.prompt_tokens() - answer.cached_tokens();
    }
    texts.dedup();
    assert_eq!(texts.len(), 4, "all samples are equal");
    assert!(read < 300, "{read} tokens were read for a prompt of 200");
}

#[test]
fn named_groups_learn_nothing_from_each_other() {
    let request = Request::tokens([5, 6]).max_tokens(300);
    let drafted = |engine: &Engine, group: &str| {
        let mut answer =
            engine.generate(request.clone().cache_group(CacheGroup::Named(group.to_owned()))).unwrap();
        answer.text().unwrap();
        (answer.stats().drafted, answer.stats().accepted, answer.cached_tokens())
    };
    let fresh = drafted(&engine(&[("drafter.name", "recycling")]), "a");
    let engine = engine(&[("drafter.name", "recycling")]);
    assert_eq!(drafted(&engine, "a"), fresh);
    assert_ne!(drafted(&engine, "a"), fresh, "the group's own tables are not used");
    assert_eq!(drafted(&engine, "b"), fresh);
}

/// Drafts nonsense, and panics when it is told to.
struct Panics(Arc<AtomicBool>);

impl Drafter for Panics {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
        let _ = tree.push(NodeId::ROOT, context.tokens[0], None);
        assert!(!self.0.load(Ordering::Relaxed), "told to panic");
    }

    fn observe(&mut self, _: &Outcome<'_>) {}
}

#[test]
fn a_drafter_that_panics_costs_only_drafts() {
    let armed = Arc::new(AtomicBool::new(false));
    let mut registry = Registry::builtin();
    let flag = Arc::clone(&armed);
    registry.register_drafter("panics", "for a test", move |_: &NoOptions, _: &DrafterSetup<'_>| {
        Ok(Box::new(Panics(Arc::clone(&flag))))
    });
    let engine = engine_with(NaiveVerifier::new(VOCAB, 7), &registry, &[("drafter.name", "panics")]);
    let request = Request::tokens([3]).max_tokens(200);
    let mut answer = engine.generate(request.clone()).unwrap();
    let first = answer.next().unwrap().unwrap();
    armed.store(true, Ordering::Relaxed);
    assert!(!answer.text().unwrap().is_empty() && !first.text.is_empty());
    assert_eq!(answer.tokens(), alone(&request));
    armed.store(false, Ordering::Relaxed);
    let mut answer = engine.generate(request).unwrap();
    answer.text().unwrap();
    assert!(answer.stats().drafted > 0, "drafting is on again for the next request");
}

#[test]
fn shutting_down_answers_what_was_accepted() {
    let engine = engine(&[("engine.max_sequences", "2")]);
    let requests: Vec<_> = (0..6).map(|prompt| sampled(vec![prompt], 1, 100)).collect();
    let answers: Vec<_> = requests.iter().map(|request| engine.generate(request.clone()).unwrap()).collect();
    engine.shut_down();
    engine.shut_down();
    for (answer, request) in answers.into_iter().zip(&requests) {
        assert_eq!(tokens(answer).unwrap(), alone(request));
    }
    assert!(matches!(engine.generate(requests[0].clone()), Err(RequestError::ShutDown)));
}

#[test]
fn requests_that_do_not_fit_are_refused_before_they_wait() {
    let engine = engine(&[]);
    let refused = |request: Request| engine.generate(request).unwrap_err();
    assert!(matches!(refused(Request::tokens([])), RequestError::Decode(DecodeError::EmptyPrompt)));
    let long = refused(Request::tokens(vec![1; 1025])).to_string();
    assert!(long.contains("1025") && long.contains("1024"), "{long}");
    let outside = RequestError::Decode(DecodeError::TokenOutOfRange { token: 64, vocab: 64 });
    assert_eq!(refused(Request::tokens([64])).to_string(), outside.to_string());
    assert!(matches!(refused(Request::chat([])), RequestError::Prompt(_)));
    assert!(matches!(refused(Request::tokens([1]).stop([""])), RequestError::Text(_)));
}

#[test]
fn pieces_are_the_text_up_to_its_stop() {
    let engine = engine(&[]);
    let request = Request::tokens([1, 2, 3]).max_tokens(200);
    let whole: String = engine.generate(request.clone()).unwrap().map(|piece| piece.unwrap().text).collect();
    let stop: String = whole.chars().skip(60).take(3).collect();
    let mut answer = engine.generate(request.stop([stop.clone()])).unwrap();
    let text = answer.text().unwrap();
    assert_eq!(text, whole[..whole.find(&stop).unwrap()]);
    assert_eq!((answer.finish_reason(), answer.stopped_by()), (Some(FinishReason::StopString), Some(&*stop)));
    let accepted = answer.stats().accepted;
    assert!(accepted > 0, "nothing was drafted");
}

#[test]
fn suggested_sampling_is_configured_then_of_the_model_then_at_temperature_1() {
    let suggested = |model: ModelSampling, settings: &[(&str, &str)]| {
        let verifier = NaiveVerifier::new(VOCAB, 7);
        engine_of(verifier, model, &Registry::builtin(), settings).suggested_sampling()
    };
    let plain = SamplingConfig { temperature: 1.0, ..SamplingConfig::default() };
    assert_eq!(suggested(ModelSampling::default(), &[]), plain);
    let model = ModelSampling {
        temperature: Some(0.6),
        top_k: Some(20),
        top_p: Some(0.9),
        min_p: Some(0.1),
        repeat_penalty: Some(1.1),
    };
    let of_model = SamplingConfig {
        temperature: 0.6,
        top_k: 20,
        top_p: 0.9,
        min_p: 0.1,
        repeat_penalty: 1.1,
        ..SamplingConfig::default()
    };
    assert_eq!(suggested(model, &[]), of_model);
    let configured = suggested(model, &[("decode.temperature", "0"), ("decode.top_p", "1")]);
    assert_eq!(configured, SamplingConfig { temperature: 0.0, top_p: 1.0, ..of_model });
    // Only what is out of range is ignored.
    let wrong = ModelSampling { temperature: Some(-1.0), top_p: Some(f32::NAN), ..model };
    assert_eq!(suggested(wrong, &[]), SamplingConfig { temperature: 1.0, top_p: 1.0, ..of_model });
}

/// The log probabilities of an answer's pieces.
fn logprobs(answer: Answer) -> Vec<TokenLogprobs> {
    answer.flat_map(|piece| piece.unwrap().logprobs).collect()
}

#[test]
fn log_probabilities_do_not_depend_on_drafts_or_company() {
    let requests: Vec<_> = (0..4).map(|prompt| sampled(vec![prompt], 1, 60).logprobs(5)).collect();
    let plain = engine(&[("drafter.name", "none")]);
    let drafting = engine(&[]);
    let answers: Vec<_> =
        requests.iter().map(|request| drafting.generate(request.clone()).unwrap()).collect();
    for (answer, request) in answers.into_iter().zip(&requests) {
        let expected = logprobs(plain.generate(request.clone()).unwrap());
        let tokens: Vec<_> = expected.iter().map(|logprobs| logprobs.token).collect();
        assert_eq!(tokens, alone(request), "one for each token");
        assert_eq!(logprobs(answer), expected, "bit for bit");
    }
    assert!(logprobs(plain.generate(Request::tokens([1]).max_tokens(5)).unwrap()).is_empty());
}

#[test]
fn log_probabilities_are_of_the_text_that_is_shown() {
    let engine = engine(&[]);
    let request = Request::tokens([1, 2, 3]).max_tokens(200).logprobs(0);
    let whole = engine.generate(request.clone()).unwrap().text().unwrap();
    let stop: String = whole.chars().skip(60).take(3).collect();
    let shown = whole.find(&stop).unwrap();
    // A token is a character.
    assert_eq!(logprobs(engine.generate(request.stop([stop])).unwrap()).len(), shown);
}
