//! What a backend can take, and the check of what it is given.

use super::{TreeInput, VerifyError};
use crate::{SeqId, Shape, TreeLimits};

/// Which trees a backend can verify, and why not more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// Any tree.
    Tree,
    /// One path at a time.
    Chain {
        /// What stands in the way of trees.
        reason: String,
    },
    /// The root alone, and chains that are committed whole (prefill); a partial rollback is impossible.
    Plain {
        /// What stands in the way of drafts.
        reason: String,
    },
}

impl Support {
    /// The shape of the richest tree that may be drafted.
    #[must_use]
    pub fn shape(&self) -> Shape {
        match self {
            Support::Tree => Shape::Tree,
            Support::Chain { .. } => Shape::Chain,
            Support::Plain { .. } => Shape::Plain,
        }
    }

    /// Why nothing richer is supported.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Support::Tree => None,
            Support::Chain { reason } | Support::Plain { reason } => Some(reason),
        }
    }
}

/// What a backend with a loaded model can take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Tokens in the vocabulary: the width of a row of logits.
    pub vocab: usize,
    /// Committed tokens and rows of the pass together, of one sequence.
    pub max_context: usize,
    /// Rows of one pass, over all its sequences.
    pub max_rows: usize,
    /// Leaves of one pass, over all its sequences.
    pub max_leaves: usize,
    /// Sequences open at once.
    pub max_seqs: usize,
    /// The trees it can verify.
    pub support: Support,
}

impl Limits {
    /// What may be drafted for of one of `sequences` sequences that share a pass, `committed` tokens of it committed.
    ///
    /// Every sequence of a pass may fill its limits and the pass is still within these limits.
    #[must_use]
    pub fn tree_limits(&self, committed: usize, sequences: usize) -> TreeLimits {
        let sequences = sequences.max(1);
        let left = self.max_context.saturating_sub(committed + 1);
        let nodes = (self.max_rows / sequences).saturating_sub(1).min(left);
        let leaves = (self.max_leaves / sequences).max(1);
        match self.support {
            Support::Tree => TreeLimits { nodes, leaves, depth: left },
            Support::Chain { .. } => TreeLimits { nodes, leaves: 1, depth: left },
            Support::Plain { .. } => TreeLimits::NONE,
        }
    }

    /// Checks the steps of a pass: what every backend does first, so that all refuse the same things in the same
    /// words and change nothing. `committed` gives an open sequence's committed tokens.
    ///
    /// A backend that supports less than trees still takes chains: a prefill chunk is one.
    ///
    /// # Errors
    /// The first [`VerifyError`] in order of the steps.
    pub fn check_inputs(
        &self,
        steps: &[TreeInput<'_>],
        committed: impl Fn(SeqId) -> Option<usize>,
    ) -> Result<(), VerifyError> {
        let (mut rows, mut leaves) = (0, 0);
        for (index, step) in steps.iter().enumerate() {
            let committed = committed(step.seq).ok_or(VerifyError::UnknownSequence { seq: step.seq })?;
            if steps[..index].iter().any(|other| other.seq == step.seq) {
                return Err(VerifyError::TwiceInOnePass { seq: step.seq });
            }
            rows += step.tree.len();
            if rows > self.max_rows {
                return Err(VerifyError::TooManyRows { found: rows, max: self.max_rows });
            }
            leaves += step.tree.leaves();
            if leaves > self.max_leaves {
                return Err(VerifyError::TooManyLeaves { found: leaves, max: self.max_leaves });
            }
            if committed + step.tree.len() > self.max_context {
                return Err(VerifyError::ContextFull {
                    committed,
                    rows: step.tree.len(),
                    max: self.max_context,
                });
            }
            if step.tree.shape() == Shape::Tree && self.support.shape() != Shape::Tree {
                return Err(VerifyError::UnsupportedTree {
                    reason: self.support.reason().unwrap_or_default().to_owned(),
                });
            }
            if let Some(&token) = step.tree.tokens().iter().find(|&&token| token as usize >= self.vocab) {
                return Err(VerifyError::TokenOutOfRange { token, vocab: self.vocab });
            }
        }
        Ok(())
    }
}
