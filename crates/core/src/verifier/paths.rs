//! The check of what is to be kept.

use super::{Commit, VerifyError};
use crate::{NodeId, SeqId};

/// Checks the path of a commit against the parents of the tree that the sequence's last forward scored.
///
/// # Errors
/// [`VerifyError::NotAPath`] naming the first node that is not the root, or not a child of the one before it.
pub fn check_path(seq: SeqId, path: &[NodeId], parents: &[u32]) -> Result<(), VerifyError> {
    for (depth, node) in path.iter().enumerate() {
        let linked = match depth {
            0 => *node == NodeId::ROOT,
            _ => {
                *node != NodeId::ROOT
                    && parents
                        .get(node.index())
                        .is_some_and(|&parent| parent as usize == path[depth - 1].index())
            }
        };
        if !linked || node.index() >= parents.len() {
            return Err(VerifyError::NotAPath { seq, depth, node: *node, rows: parents.len() });
        }
    }
    Ok(())
}

/// Checks all commits of a pass, before the first of them is kept. `parents` gives the parents of the tree that a
/// sequence's last forward scored, or says why there is none ([`VerifyError::UnknownSequence`],
/// [`VerifyError::NothingToCommit`]).
///
/// # Errors
/// What `parents` says; [`VerifyError::TwiceInOnePass`]; [`VerifyError::NotAPath`].
pub fn check_commits<'a>(
    commits: &[Commit<'_>],
    mut parents: impl FnMut(SeqId) -> Result<&'a [u32], VerifyError>,
) -> Result<(), VerifyError> {
    for (index, &Commit { seq, path }) in commits.iter().enumerate() {
        let parents = parents(seq)?;
        if commits[..index].iter().any(|other| other.seq == seq) {
            return Err(VerifyError::TwiceInOnePass { seq });
        }
        check_path(seq, path, parents)?;
    }
    Ok(())
}
