//! What a backend can take, and the check of a pass against it.

use super::error::VerifyError;
use crate::input::TreeInput;
use crate::token::SeqId;
use crate::tree_limits::{Shape, TreeLimits};

/// Which trees a backend can verify, and why not more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// Any tree.
    Tree,
    /// One path at a time.
    Chain {
        /// Why it cannot verify trees.
        reason: String,
    },
    /// Only the root, and chains that are committed whole (prefill), because nothing can be rolled back in part.
    Plain {
        /// Why it cannot verify drafts.
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

    /// Why no richer shape is supported.
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
    /// Committed tokens and rows of the pass together, for one sequence.
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
    /// What may be drafted for a sequence with `committed` tokens when `sequences` sequences share the pass. The pass stays
    /// within the limits even if each of them drafts all that it may.
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

    /// Checks the inputs of a pass. Every backend does this first (by [`SequenceTable::begin`](crate::SequenceTable::begin)),
    /// so that all of them refuse the same inputs with the same errors, before anything changes. `committed` returns the
    /// committed tokens of an open sequence.
    ///
    /// Chains pass whatever the [`Support`], because a prefill chunk is one.
    ///
    /// # Errors
    /// [`VerifyError`] for the first input that is refused.
    pub fn check_inputs(
        &self,
        inputs: &[TreeInput<'_>],
        committed: impl Fn(SeqId) -> Option<usize>,
    ) -> Result<(), VerifyError> {
        let (mut rows, mut leaves) = (0, 0);
        for (index, input) in inputs.iter().enumerate() {
            let committed = committed(input.seq).ok_or(VerifyError::UnknownSequence { seq: input.seq })?;
            if inputs[..index].iter().any(|other| other.seq == input.seq) {
                return Err(VerifyError::TwiceInOnePass { seq: input.seq });
            }
            rows += input.tree.len();
            if rows > self.max_rows {
                return Err(VerifyError::TooManyRows { found: rows, max: self.max_rows });
            }
            leaves += input.tree.leaves();
            if leaves > self.max_leaves {
                return Err(VerifyError::TooManyLeaves { found: leaves, max: self.max_leaves });
            }
            if committed + input.tree.len() > self.max_context {
                return Err(VerifyError::ContextFull {
                    committed,
                    rows: input.tree.len(),
                    max: self.max_context,
                });
            }
            if input.tree.shape() == Shape::Tree && self.support.shape() != Shape::Tree {
                return Err(VerifyError::UnsupportedTree {
                    reason: self.support.reason().unwrap_or_default().to_owned(),
                });
            }
            if let Some(&token) = input.tree.tokens().iter().find(|&&token| token as usize >= self.vocab) {
                return Err(VerifyError::TokenOutOfRange { token, vocab: self.vocab });
            }
        }
        Ok(())
    }
}
