//! Rows filled before decoding equal those of plain scoring, for any limits of the verifier.

use std::ops::ControlFlow;

use proptest::prelude::*;
use upcycle_core::{AdjacencyMatrix, Support, TokenId, VerifyError, warm_up};
use upcycle_testkit::{Failure, NaiveVerifier};

const VOCAB: usize = 40;
const K: usize = 3;

/// The k highest tokens after `text`, equal ones by rising id.
fn ranked(model: &NaiveVerifier, text: &[TokenId]) -> Vec<TokenId> {
    let logits = model.logits_after(text);
    let mut tokens: Vec<TokenId> = (0..VOCAB as TokenId).collect();
    tokens.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
    tokens.truncate(K);
    tokens
}

fn support() -> impl Strategy<Value = Support> {
    let reason = || "as the test has it".to_owned();
    prop_oneof![
        Just(Support::Tree),
        Just(Support::Chain { reason: reason() }),
        Just(Support::Plain { reason: reason() }),
    ]
}

proptest! {
    #[test]
    fn each_empty_row_is_what_the_model_ranks_behind_the_context_and_its_token(
        seed in 0_u64..100,
        context in prop::collection::vec(0..VOCAB as TokenId, 0..12),
        known in prop::collection::vec(0..VOCAB as TokenId, 0..10),
        support in support(),
        max_rows in 1_usize..60,
        bounds in (0_usize..50, 1_usize..60),
    ) {
        let (more, max_leaves) = bounds;
        let mut model = NaiveVerifier::new(VOCAB, seed).with_support(support).with_max_rows(max_rows);
        let mut limits = upcycle_core::Verifier::limits(&model).clone();
        // At least the context and one token fit.
        limits.max_context = context.len() + 1 + more;
        limits.max_leaves = max_leaves;
        model = model.with_limits(limits);
        let mut matrix = AdjacencyMatrix::new(VOCAB, K).unwrap();
        for &token in &known {
            matrix.update(token, &[7]);
        }
        let (mut told, empty) = (0, VOCAB - matrix.filled_rows());
        warm_up::fill_empty_rows(&mut matrix, &mut model, &context, |done, of| {
            assert!(of == empty && told < done && done <= of);
            told = done;
            ControlFlow::Continue(())
        }).unwrap();
        prop_assert_eq!(told, empty);
        for token in 0..VOCAB as TokenId {
            let expected = if known.contains(&token) {
                vec![7]
            } else {
                ranked(&model, &[&context[..], &[token]].concat())
            };
            prop_assert_eq!(matrix.candidates(token).collect::<Vec<_>>(), expected, "{}", token);
        }
    }
}

#[test]
fn branches_of_one_tree_take_few_passes() {
    let mut model = NaiveVerifier::new(VOCAB, 1).with_max_rows(21);
    let mut matrix = AdjacencyMatrix::new(VOCAB, K).unwrap();
    warm_up::fill_empty_rows(&mut matrix, &mut model, &[1, 2, 3], |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(model.forwards(), 1 + 2, "the context, and twenty tokens twice");
}

#[test]
fn it_ends_when_it_is_told_to_and_keeps_what_it_has() {
    let mut model = NaiveVerifier::new(VOCAB, 1).with_max_rows(11);
    let mut matrix = AdjacencyMatrix::new(VOCAB, K).unwrap();
    let stop_after = |passes| {
        let mut left = passes;
        move |_, _| {
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    };
    warm_up::fill_empty_rows(&mut matrix, &mut model, &[5], stop_after(2)).unwrap();
    assert_eq!(matrix.tokens().collect::<Vec<_>>(), (0..20).collect::<Vec<_>>(), "by rising id");
    // A second call continues there.
    warm_up::fill_empty_rows(&mut matrix, &mut model, &[5], stop_after(9)).unwrap();
    assert_eq!(matrix.filled_rows(), VOCAB);
    assert_eq!(model.forwards(), 4);
}

#[test]
fn after_an_error_rows_stay_and_the_sequence_is_closed() {
    // One sequence at a time: a second call could not begin if the first had left its own open.
    let mut model =
        NaiveVerifier::new(VOCAB, 1).with_max_rows(11).with_max_seqs(1).failing(Failure::Forward, 2);
    let mut matrix = AdjacencyMatrix::new(VOCAB, K).unwrap();
    let mut fill = |matrix: &mut AdjacencyMatrix| {
        warm_up::fill_empty_rows(matrix, &mut model, &[4, 5], |_, _| ControlFlow::Continue(()))
    };
    assert!(matches!(fill(&mut matrix), Err(VerifyError::Backend { .. })));
    assert_eq!(matrix.filled_rows(), 10);
    fill(&mut matrix).unwrap();
    assert_eq!(matrix.filled_rows(), VOCAB);
}
