//! Whether rows really have the bits of plain decoding: tried at load, since other processors and devices have other kernels.

use upcycle_core::{
    Commit, DraftTree, NodeId, Row, RowSelection, SeqId, TokenId, TopK, TreeInput, TreeLimits, Verifier,
    VerifyError,
};

use crate::{LlamaVerifier, LoadError};

/// Rows that are compared.
const ROWS: usize = 12;

/// Scores a text row by row, and again in a tree with other rows between its own.
///
/// # Errors
/// [`LoadError::NotExact`], [`LoadError::ExactCheck`].
pub(crate) fn check(verifier: &mut LlamaVerifier) -> Result<(), LoadError> {
    let limits = verifier.limits();
    let rows = ROWS.min(limits.max_context).min(limits.max_rows / 2).min(limits.max_leaves);
    let text: Vec<TokenId> = (0..rows).map(|at| (at * 97 % limits.vocab) as TokenId).collect();
    let alone = scored(verifier, &text, one_by_one)?;
    let beside = scored(verifier, &text, in_a_tree)?;
    for (row, (alone, beside)) in alone.iter().zip(&beside).enumerate() {
        let apart = alone.iter().zip(beside).filter(|(a, b)| a.to_bits() != b.to_bits());
        let most = apart.map(|(a, b)| (a - b).abs()).reduce(f32::max);
        if let Some(difference) = most {
            return Err(LoadError::NotExact { row, difference });
        }
    }
    Ok(())
}

type Score = fn(&mut LlamaVerifier, SeqId, &[TokenId]) -> Result<Vec<Vec<f32>>, VerifyError>;

/// The logits of each row in a sequence of its own; none where they are not finite, since such a pass is an error anyway.
fn scored(verifier: &mut LlamaVerifier, text: &[TokenId], score: Score) -> Result<Vec<Vec<f32>>, LoadError> {
    let failed = |source| LoadError::ExactCheck { source: Box::new(source) };
    let seq = verifier.open().map_err(failed)?;
    let logits = score(verifier, seq, text);
    verifier.close(seq);
    match logits {
        Err(VerifyError::NotFinite { .. }) => Ok(Vec::new()),
        other => other.map_err(failed),
    }
}

fn one_by_one(
    verifier: &mut LlamaVerifier,
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
fn in_a_tree(
    verifier: &mut LlamaVerifier,
    seq: SeqId,
    text: &[TokenId],
) -> Result<Vec<Vec<f32>>, VerifyError> {
    let mut tree = DraftTree::new();
    let (Some(&first), rest) = (text.first(), text.get(1..).unwrap_or_default()) else {
        return Ok(Vec::new());
    };
    tree.restart(first, TreeLimits::UNBOUNDED);
    let mut path = vec![NodeId::ROOT];
    for &token in rest {
        let parent = path[path.len() - 1];
        let other = if token == 0 { 1 } else { 0 };
        // There is room for any tree.
        if let (Ok(_), Ok(node)) = (tree.push(parent, other, None), tree.push(parent, token, None)) {
            path.push(node);
        }
    }
    verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut TopK::new(1))?;
    let row = |node: &NodeId| Ok(verifier.logits(Row { input: 0, node: node.index() })?.to_vec());
    path.iter().map(row).collect()
}
