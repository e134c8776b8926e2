//! Fills a matrix before any text was decoded, by scoring each token of the vocabulary on its own.
//!
//! An empty row drafts nothing, and most rows are empty during a first answer. The model's ranking after a single token is a
//! worse guess than a ranking within a text, but better than none (measured in docs/drafting.md).

use std::ops::ControlFlow;

use crate::input::{RowSelection, TreeInput};
use crate::matrix::AdjacencyMatrix;
use crate::token::{Row, SeqId, TokenId};
use crate::top::TopK;
use crate::tree::{DraftTree, NodeId};
use crate::tree_limits::TreeLimits;
use crate::verifier::{Verifier, VerifyError, prefill, with_sequence};

/// Tokens per pass at most. The logits of a pass then take 25 MB with a vocabulary
/// of 49k.
const MAX_TOKENS: usize = 128;

/// Fills every empty row of `matrix` with the tokens that the model ranks highest after `context` and the token of the row.
/// Other rows do not change. `context` is the beginning of a text, such as the chat template around an empty message. It may
/// be empty.
///
/// Each pass scores many tokens, in ascending order of id, as children of the last token of the context. With an empty
/// context, or a verifier that does not support trees, each pass scores a single token. After each pass `on_pass` gets the
/// number of tokens done and the number of all tokens. [`ControlFlow::Break`] stops there.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use upcycle_core::{AdjacencyMatrix, warm_up};
/// use upcycle_testkit::NaiveVerifier;
///
/// let mut model = NaiveVerifier::new(64, 1);
/// let mut matrix = AdjacencyMatrix::new(64, 8)?;
/// warm_up::fill_empty_rows(&mut matrix, &mut model, &[1, 2], |_, _| ControlFlow::Continue(()))?;
/// assert_eq!(matrix.filled_rows(), 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Those of [`open`](Verifier::open), [`forward`](Verifier::forward) and [`commit`](Verifier::commit) of the verifier. The
/// sequence is closed in any case, and rows that were filled before stay filled.
pub fn fill_empty_rows(
    matrix: &mut AdjacencyMatrix,
    verifier: &mut (impl Verifier + ?Sized),
    context: &[TokenId],
    on_pass: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<(), VerifyError> {
    with_sequence(verifier, |verifier, seq| fill(matrix, verifier, seq, context, on_pass))
}

fn fill(
    matrix: &mut AdjacencyMatrix,
    verifier: &mut (impl Verifier + ?Sized),
    seq: SeqId,
    context: &[TokenId],
    mut on_pass: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<(), VerifyError> {
    let limits = verifier.limits();
    let known = limits.vocab.min(matrix.vocab());
    let tree_limits = limits.tree_limits(context.len().saturating_sub(1), 1);
    let per_pass = tree_limits.nodes.min(tree_limits.leaves).min(MAX_TOKENS);
    // With a single token per pass, the token is the root: one row instead of two.
    let (root, prefix) = match context.split_last() {
        Some((&root, prefix)) if per_pass > 1 => (Some(root), prefix),
        _ => (None, context),
    };
    let mut top = TopK::new(matrix.k());
    prefill(verifier, seq, prefix, &mut top)?;

    let empty: Vec<TokenId> =
        (0..known as TokenId).filter(|&token| matrix.candidate(token, 0).is_none()).collect();
    let mut tree = DraftTree::new();
    let mut done = 0;
    for tokens in empty.chunks(if root.is_some() { per_pass } else { 1 }) {
        tree.reset(root.unwrap_or(tokens[0]), TreeLimits::UNBOUNDED);
        if root.is_some() {
            for &token in tokens {
                // A tree without limits refuses nothing.
                let _ = tree.push(NodeId::ROOT, token, None);
            }
        }
        // Nothing is committed, so each pass starts at the end of the context.
        verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut top)?;
        let first = usize::from(root.is_some());
        for (node, &token) in tree.tokens().iter().enumerate().skip(first) {
            if let Some(candidates) = top.get(Row { input: 0, node }) {
                matrix.update_with_probabilities(token, &candidates);
            }
        }
        done += tokens.len();
        if on_pass(done, empty.len()).is_break() {
            break;
        }
    }
    Ok(())
}
