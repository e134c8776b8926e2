//! The limits of a backend, and the check of a pass against them.

use super::error::VerifyError;
use crate::input::TreeInput;
use crate::token::SeqId;
use crate::tree_limits::{TreeKind, TreeLimits};

/// Which trees a backend can verify, and why no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// Any tree.
    Tree,
    /// One path at a time.
    Chain {
        /// Why it cannot verify trees.
        reason: String,
    },
    /// Only the root, and chains of which all rows are committed (prefill), because part of a pass cannot be rolled back.
    Plain {
        /// Why it cannot verify drafts.
        reason: String,
    },
}

impl Support {
    /// The most general kind of tree that may be drafted.
    #[must_use]
    pub fn kind(&self) -> TreeKind {
        match self {
            Support::Tree => TreeKind::Tree,
            Support::Chain { .. } => TreeKind::Chain,
            Support::Plain { .. } => TreeKind::Plain,
        }
    }

    /// Why no more general kind is supported.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Support::Tree => None,
            Support::Chain { reason } | Support::Plain { reason } => Some(reason),
        }
    }
}

/// The limits of a backend with a loaded model.
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
    /// The limits of a draft for a sequence with `committed` tokens when `sequences` sequences share the pass. The pass stays
    /// within the backend's limits even if each sequence uses all of its share.
    #[must_use]
    pub fn tree_limits(&self, committed: usize, sequences: usize) -> TreeLimits {
        let sequences = sequences.max(1);
        let remaining = self.max_context.saturating_sub(committed + 1);
        let nodes = (self.max_rows / sequences).saturating_sub(1).min(remaining);
        let leaves = (self.max_leaves / sequences).max(1);
        match self.support {
            Support::Tree => TreeLimits { nodes, leaves, depth: remaining },
            Support::Chain { .. } => TreeLimits { nodes, leaves: 1, depth: remaining },
            Support::Plain { .. } => TreeLimits::ROOT_ONLY,
        }
    }

    /// Checks the inputs of a pass. Every backend does this first (by [`SequenceTable::begin_pass`](crate::SequenceTable::begin_pass)).
    /// So all backends refuse the same inputs with the same errors, before anything changes. `committed` returns the
    /// committed tokens of an open sequence.
    ///
    /// A chain is accepted with any [`Support`], because a prefill chunk is a chain.
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
                return Err(VerifyError::DuplicateSequence { seq: input.seq });
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
            if input.tree.kind() == TreeKind::Tree && self.support.kind() != TreeKind::Tree {
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
