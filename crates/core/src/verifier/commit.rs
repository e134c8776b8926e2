//! A commit, and the check of its path.

use super::error::VerifyError;
use crate::token::SeqId;
use crate::tree::NodeId;

/// What to keep of a sequence's last forward.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// The sequence; it may occur only once among the commits.
    pub seq: SeqId,
    /// A path from the root (inclusive) down; each node is a child of the one before. An empty path keeps nothing.
    pub path: &'a [NodeId],
}

/// Checks the commits of a call before the first of them is applied. [`SequenceTable`](crate::SequenceTable) calls it. A
/// verifier that wraps another one may also need it.
///
/// `parents` returns the parents of a sequence's pending tree, or an error if there is none
/// ([`VerifyError::UnknownSequence`], [`VerifyError::NothingToCommit`]).
///
/// # Errors
/// The error of `parents`; [`VerifyError::DuplicateSequence`]; [`VerifyError::NotAPath`] for the first node that is not
/// the root, or not a child of the node before.
pub fn check_commits<'a>(
    commits: &[Commit<'_>],
    mut parents: impl FnMut(SeqId) -> Result<&'a [u32], VerifyError>,
) -> Result<(), VerifyError> {
    for (index, &Commit { seq, path }) in commits.iter().enumerate() {
        let parents = parents(seq)?;
        if commits[..index].iter().any(|other| other.seq == seq) {
            return Err(VerifyError::DuplicateSequence { seq });
        }
        let continues = |depth: usize, node: NodeId| match depth {
            0 => node == NodeId::ROOT,
            _ => {
                let parent = parents.get(node.index()).map(|&parent| parent as usize);
                node != NodeId::ROOT && parent == Some(path[depth - 1].index())
            }
        };
        if let Some((depth, &node)) = path.iter().enumerate().find(|&(depth, &node)| !continues(depth, node))
        {
            return Err(VerifyError::NotAPath { seq, depth, node, rows: parents.len() });
        }
    }
    Ok(())
}
