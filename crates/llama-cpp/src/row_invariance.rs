//! A check at load that rows really are bit for bit those of plain decoding. Other processors and devices have other kernels.

use upcycle_core::{
    Commit, DraftTree, NodeId, Row, RowSelection, SeqId, TokenId, TopK, TreeInput, TreeLimits, Verifier,
    VerifyError,
};

use crate::error::LoadError;

/// Rows that are compared.
const ROWS: usize = 12;

/// Scores a text row by row, and again as a path of a tree that branches at each node.
///
/// # Errors
/// [`LoadError::NotRowInvariant`], [`LoadError::RowInvarianceCheck`].
pub(crate) fn check<V: Verifier>(verifier: &mut V) -> Result<(), LoadError> {
    let limits = verifier.limits();
    let rows = ROWS.min(limits.max_context).min(limits.max_rows / 2).min(limits.max_leaves);
    let text: Vec<TokenId> = (0..rows).map(|at| (at * 97 % limits.vocab) as TokenId).collect();
    let plain = logits_in(verifier, &text, one_by_one)?;
    let tree = logits_in(verifier, &text, in_a_tree)?;
    for (row, (plain, tree)) in plain.iter().zip(&tree).enumerate() {
        let different = plain.iter().zip(tree).filter(|(a, b)| a.to_bits() != b.to_bits());
        if let Some(difference) = different.map(|(a, b)| (a - b).abs()).reduce(f32::max) {
            return Err(LoadError::NotRowInvariant { row, difference });
        }
    }
    Ok(())
}

type Score<V> = fn(&mut V, SeqId, &[TokenId]) -> Result<Vec<Vec<f32>>, VerifyError>;

/// The logits of each row, `[rows][vocab]`, in a new sequence. Empty if they are not finite: every pass reports that anyway.
fn logits_in<V: Verifier>(
    verifier: &mut V,
    text: &[TokenId],
    score: Score<V>,
) -> Result<Vec<Vec<f32>>, LoadError> {
    let failed = |source| LoadError::RowInvarianceCheck { source: Box::new(source) };
    let seq = verifier.open().map_err(failed)?;
    let logits = score(verifier, seq, text);
    verifier.close(seq);
    match logits {
        Err(VerifyError::NotFinite { .. }) => Ok(Vec::new()),
        other => other.map_err(failed),
    }
}

fn one_by_one<V: Verifier>(
    verifier: &mut V,
    seq: SeqId,
    text: &[TokenId],
) -> Result<Vec<Vec<f32>>, VerifyError> {
    let mut logits = Vec::new();
    for &token in text {
        let tree = DraftTree::chain(&[token]);
        verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut TopK::new(1))?;
        logits.push(verifier.logits(Row { input: 0, node: 0 })?.to_vec());
        verifier.commit(&[Commit { seq, path: &[NodeId::ROOT] }])?;
    }
    Ok(logits)
}

/// The text as the last child of each node.
fn in_a_tree<V: Verifier>(
    verifier: &mut V,
    seq: SeqId,
    text: &[TokenId],
) -> Result<Vec<Vec<f32>>, VerifyError> {
    let Some((&first, rest)) = text.split_first() else { return Ok(Vec::new()) };
    let mut tree = DraftTree::new();
    tree.reset(first, TreeLimits::UNBOUNDED);
    let mut path = vec![NodeId::ROOT];
    for &token in rest {
        let parent = path[path.len() - 1];
        let other = if token == 0 { 1 } else { 0 };
        // Pushes never fail without limits.
        if let (Ok(_), Ok(node)) = (tree.push(parent, other, None), tree.push(parent, token, None)) {
            path.push(node);
        }
    }
    verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut TopK::new(1))?;
    let row = |node: &NodeId| Ok(verifier.logits(Row { input: 0, node: node.index() })?.to_vec());
    path.iter().map(row).collect()
}
