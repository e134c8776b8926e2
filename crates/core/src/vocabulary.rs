//! A matrix for texts that nobody has seen yet: what the model says after each token of its vocabulary alone.
//!
//! A vacant row drafts nothing, and most rows of a first answer are vacant. What the model itself ranks behind a token that
//! stands alone is a poorer guess than what it ranked in a text, and a better one than none (measured in docs/drafting.md).

use std::ops::ControlFlow;

use crate::{
    AdjacencyMatrix, Commit, DraftTree, NodeId, Row, RowSelection, SeqId, TokenId, TopK, TreeInput,
    TreeLimits, Verifier, VerifyError,
};

/// The most tokens of a pass: enough for any engine to be at its best, and logits of 25 MB in a vocabulary of 49k.
const TOGETHER: usize = 128;

/// Fills every vacant row of `matrix` with what the model ranks highest behind `context` and the row's token; rows that hold
/// something stay as they are. `context` is where a text begins, such as the chat template around an empty message; it may
/// be empty.
///
/// Tokens are asked for by rising id, many in a pass: behind the last token of the context each is a branch of one tree. A
/// verifier without trees, or an empty context, takes a pass for each. After a pass `on_pass` is told how many tokens are done, and
/// of how many; [`ControlFlow::Break`] ends it there. In all, one row is scored for each vacant one.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use upcycle_core::{AdjacencyMatrix, vocabulary};
/// use upcycle_testkit::NaiveVerifier;
///
/// let mut model = NaiveVerifier::new(64, 1);
/// let mut matrix = AdjacencyMatrix::new(64, 8)?;
/// vocabulary::fill_vacant_rows(&mut matrix, &mut model, &[1, 2], |_, _| ControlFlow::Continue(()))?;
/// assert_eq!(matrix.rows(), 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Whatever [`open`](Verifier::open), [`forward`](Verifier::forward) and [`commit`](Verifier::commit) of the verifier refuse.
/// Its sequence is closed then too, and rows that were filled before stay.
pub fn fill_vacant_rows(
    matrix: &mut AdjacencyMatrix,
    verifier: &mut (impl Verifier + ?Sized),
    context: &[TokenId],
    on_pass: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<(), VerifyError> {
    let seq = verifier.open()?;
    let filled = fill(matrix, verifier, seq, context, on_pass);
    verifier.close(seq);
    filled
}

fn fill(
    matrix: &mut AdjacencyMatrix,
    verifier: &mut (impl Verifier + ?Sized),
    seq: SeqId,
    context: &[TokenId],
    mut on_pass: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<(), VerifyError> {
    let limits = verifier.limits();
    let (max_rows, known) = (limits.max_rows.max(1), limits.vocab.min(matrix.vocab()));
    let tree_limits = limits.tree_limits(context.len().saturating_sub(1), 1);
    let together = tree_limits.nodes.min(tree_limits.leaves).min(TOGETHER);
    // With less, a token is cheaper as a root of its own.
    let (root, behind) = match context.split_last() {
        Some((&root, behind)) if together > 1 => (Some(root), behind),
        _ => (None, context),
    };
    let mut top = TopK::new(matrix.k());
    for chunk in behind.chunks(max_rows) {
        let tree = DraftTree::chain(chunk);
        verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::Last }], &mut top)?;
        let path: Vec<NodeId> = tree.nodes().collect();
        verifier.commit(&[Commit { seq, path: &path }])?;
    }

    let vacant: Vec<TokenId> =
        (0..known as TokenId).filter(|&token| matrix.candidate(token, 0).is_none()).collect();
    let mut tree = DraftTree::new();
    let mut done = 0;
    for tokens in vacant.chunks(if root.is_some() { together } else { 1 }) {
        tree.restart(root.unwrap_or(tokens[0]), TreeLimits::UNBOUNDED);
        if root.is_some() {
            for &token in tokens {
                // A tree without bounds refuses nothing.
                let _ = tree.push(NodeId::ROOT, token, None);
            }
        }
        // Never committed, so that each pass begins where the context ends.
        verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut top)?;
        let first = usize::from(root.is_some());
        for (node, &token) in tree.tokens().iter().enumerate().skip(first) {
            if let Some(candidates) = top.get(Row { input: 0, node }) {
                matrix.update_scored(token, &candidates);
            }
        }
        done += tokens.len();
        if on_pass(done, vacant.len()).is_break() {
            break;
        }
    }
    Ok(())
}
