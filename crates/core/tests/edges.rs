//! Where texts end in the middle of something, and where there is less than a drafter wants: each beside plain decoding.
//! (`text.rs` says the same of everything at random; these are the places by name.)

use upcycle_core::{
    AdjacencyMatrix, DecodeError, Decoder, Drafter, Finish, NullDrafter, Request, TokenId, TokenRecycling,
    TreeTemplate, Verifier,
};
use upcycle_testkit::{NaiveVerifier, OracleDrafter};

const VOCAB: usize = 50;
const PROMPT: [TokenId; 3] = [1, 2, 3];

/// What is decoded and why it ends.
fn decode(
    model: &NaiveVerifier,
    drafter: impl Drafter,
    budget: usize,
    request: Request,
) -> (Vec<TokenId>, Finish) {
    let mut decoder = Decoder::new(model.clone(), drafter).with_budget(budget);
    let mut generation = decoder.generate(&PROMPT, request).unwrap();
    let text = generation.by_ref().map(Result::unwrap).collect();
    (text, generation.finish().unwrap())
}

/// The text of plain decoding, prompt included.
fn text(model: &NaiveVerifier, len: usize) -> Vec<TokenId> {
    [&PROMPT[..], &decode(model, NullDrafter, 0, Request::greedy(len)).0].concat()
}

/// With drafts of seven tokens that are all accepted, the end falls at every place of a draft in turn.
fn ends_as_plain_does(
    model: &NaiveVerifier,
    finish: Finish,
    request: impl Fn(usize) -> Request,
    model_of: impl Fn(usize) -> NaiveVerifier,
) {
    let whole = text(model, 40);
    for len in 1..24 {
        let model = model_of(len);
        let plain = decode(&model, NullDrafter, 0, request(len));
        assert_eq!(plain.1, finish, "at {len}");
        let oracle = OracleDrafter::new(vec![whole.clone()]);
        assert_eq!(decode(&model, oracle, 7, request(len)), plain, "at {len}");
    }
}

#[test]
fn most_tokens_inside_a_path() {
    let model = NaiveVerifier::new(VOCAB, 5);
    ends_as_plain_does(&model, Finish::MaxTokens, Request::greedy, |_| model.clone());
}

#[test]
fn the_context_full_in_the_middle_of_a_tree() {
    let model = NaiveVerifier::new(VOCAB, 5);
    let shorter = |len: usize| model.clone().with_max_context(PROMPT.len() + len - 1);
    ends_as_plain_does(&model, Finish::ContextFull, |_| Request::greedy(1000), shorter);
}

#[test]
fn a_stop_string_inside_an_accepted_path() {
    let model = NaiveVerifier::new(VOCAB, 5);
    // Ends after so many tokens, as a stop rule that sees the output alone may.
    let request = |len: usize| Request {
        stop: Some(Box::new(move |output: &[TokenId]| output.len() >= len)),
        ..Request::greedy(1000)
    };
    ends_as_plain_does(&model, Finish::StopString, request, |_| model.clone());
}

#[test]
fn the_end_of_the_sequence_as_a_draft_node() {
    let model = NaiveVerifier::new(VOCAB, 5);
    let whole = text(&model, 40);
    let request = |len: usize| Request {
        end_of_sequence: vec![whole[PROMPT.len() + len - 1]],
        ..Request::greedy(1000)
    };
    ends_as_plain_does(&model, Finish::EndOfSequence, request, |_| model.clone());
}

#[test]
fn an_empty_prompt_is_refused_and_one_of_the_whole_context_gives_a_token() {
    let model = NaiveVerifier::new(VOCAB, 5).with_max_context(12);
    let whole = text(&NaiveVerifier::new(VOCAB, 5), 20);
    let mut decoder = Decoder::new(model, OracleDrafter::new(vec![whole.clone()])).with_budget(7);
    assert!(matches!(decoder.generate(&[], Request::greedy(5)), Err(DecodeError::EmptyPrompt)));
    let long = decoder.generate(&whole[..13], Request::greedy(5)).err();
    assert!(matches!(long, Some(DecodeError::PromptTooLong { len: 13, max: 12 })));
    let mut generation = decoder.generate(&whole[..12], Request::greedy(5)).unwrap();
    let found: Vec<TokenId> = generation.by_ref().map(Result::unwrap).collect();
    assert_eq!((found, generation.finish()), (vec![whole[12]], Some(Finish::ContextFull)));
}

/// The paper's tree asks for ranks that a matrix of few candidates, or of few tokens, does not have.
#[test]
fn more_candidates_wanted_than_there_are() {
    for vocab in [1, 2, 3, 5, 7, 50] {
        let model = NaiveVerifier::new(vocab, 3);
        for k in 1..=vocab.min(8) {
            let request = || Request::greedy(60);
            let prompt: [TokenId; 1] = [0];
            let run = |drafter: Box<dyn Drafter>| -> Vec<TokenId> {
                let mut decoder = Decoder::new(model.clone(), drafter);
                decoder.generate(&prompt, request()).unwrap().map(Result::unwrap).collect()
            };
            let matrix = AdjacencyMatrix::new(vocab, k).unwrap();
            let drafter = TokenRecycling::new(matrix, TreeTemplate::paper_80());
            assert_eq!(run(Box::new(drafter)), run(Box::new(NullDrafter)), "{vocab} tokens, k {k}");
        }
    }
}

#[test]
fn a_vocabulary_smaller_than_k() {
    let model = NaiveVerifier::new(3, 3);
    let plain = Decoder::new(model.clone(), NullDrafter)
        .generate(&[0], Request::greedy(60))
        .unwrap()
        .map(Result::unwrap)
        .collect::<Vec<_>>();
    // Either there is no such matrix, or it serves.
    match AdjacencyMatrix::new(3, 8) {
        Err(error) => assert!(error.to_string().contains('3'), "{error}"),
        Ok(matrix) => {
            let mut decoder = Decoder::new(model, TokenRecycling::new(matrix, TreeTemplate::paper_80()));
            let found: Vec<TokenId> =
                decoder.generate(&[0], Request::greedy(60)).unwrap().map(Result::unwrap).collect();
            assert_eq!(found, plain);
        }
    }
}

#[test]
fn a_template_deeper_than_the_context_left() {
    for room in 1..8 {
        let model = NaiveVerifier::new(VOCAB, 5).with_max_context(PROMPT.len() + 20 + room);
        let plain = decode(&model, NullDrafter, 0, Request::greedy(1000));
        let matrix = AdjacencyMatrix::new(VOCAB, 8).unwrap();
        let drafter = TokenRecycling::new(matrix, TreeTemplate::paper_80());
        assert_eq!(decode(&model, drafter, 80, Request::greedy(1000)), plain);
        assert_eq!(plain.1, Finish::ContextFull);
        assert_eq!(plain.0.len() + PROMPT.len(), model.limits().max_context + 1);
    }
}
