//! The contract of a backend: score trees, keep paths.

use std::borrow::Cow;
use std::error::Error;

use crate::{DraftTree, NodeId, Room, Row, Rows, SeqId, Shape, TokenId, TopK};

/// One sequence's part of a forward pass: a tree that grows from the end of what is committed.
///
/// A prefill chunk is a chain ([`DraftTree::chain`]).
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The sequence; it stands at most once in a pass.
    pub seq: SeqId,
    /// The tree; node `i` stands at position `committed + depth(i)` and attends to everything committed, its
    /// ancestors and itself.
    pub tree: &'a DraftTree,
    /// The rows that get candidates.
    pub rows: Rows,
}

/// What to keep of a sequence's last forward.
#[derive(Clone, Copy, Debug)]
pub struct Commit<'a> {
    /// The sequence; it stands at most once among the commits.
    pub seq: SeqId,
    /// A path from the root (inclusive) downwards; each node is a child of the one before it. An empty path keeps
    /// nothing.
    pub path: &'a [NodeId],
}

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
    /// The room for the draft of one of `sequences` sequences that share a pass, `committed` tokens of it committed.
    ///
    /// Every sequence of a pass may fill its room and the pass is still within these limits.
    #[must_use]
    pub fn room(&self, committed: usize, sequences: usize) -> Room {
        let sequences = sequences.max(1);
        let left = self.max_context.saturating_sub(committed + 1);
        let nodes = (self.max_rows / sequences).saturating_sub(1).min(left);
        let leaves = (self.max_leaves / sequences).max(1);
        match self.support {
            Support::Tree => Room { nodes, leaves, depth: left },
            Support::Chain { .. } => Room { nodes, leaves: 1, depth: left },
            Support::Plain { .. } => Room::NONE,
        }
    }

    /// Checks the steps of a pass: what every backend does first, so that all refuse the same things in the same
    /// words and change nothing. `committed` gives an open sequence's committed tokens.
    ///
    /// A backend that supports less than trees still takes chains: a prefill chunk is one.
    ///
    /// # Errors
    /// The first [`VerifyError`] in order of the steps.
    pub fn check_steps(
        &self,
        steps: &[Step<'_>],
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

/// A backend: it runs a model over trees and keeps the KV of accepted paths. It never samples.
///
/// Object-safe. The laws that every verifier keeps are functions of the crate `upcycle-testkit`; its `conformance!`
/// macro runs them all.
///
/// Rows of a forward that are not committed are dropped by the next `forward`, `truncate` or `close` of their
/// sequence.
pub trait Verifier: Send {
    /// What it can take. Does not change while the verifier lives.
    fn limits(&self) -> &Limits;

    /// The most that a logit may change when its row is scored beside other rows than in plain decoding: 0 where the
    /// arithmetic of a row does not depend on its neighbours. Texts are held to it ([`crate::margin`]), so a backend whose
    /// passes round differently by their size has to say so here.
    fn row_tolerance(&self) -> f32 {
        0.0
    }

    /// What computes, in a few words for reports: kernels, instruction set, version. Empty where there is nothing to
    /// tell.
    fn engine(&self) -> String {
        String::new()
    }

    /// Threads of a pass, where the backend knows.
    fn threads(&self) -> Option<usize> {
        None
    }

    /// Opens an empty sequence, under an id that was never given before.
    ///
    /// # Errors
    /// [`VerifyError::TooManySequences`] at the limit; [`VerifyError::Backend`] if memory cannot be had.
    fn open(&mut self) -> Result<SeqId, VerifyError>;

    /// Closes a sequence and frees what it held; its id is dead. An unknown id is ignored.
    fn close(&mut self, seq: SeqId);

    /// One device pass over the trees of all `steps`. Fills `top` with the k best candidates of the rows asked for.
    /// No steps is a pass that does nothing.
    ///
    /// # Errors
    /// Whatever [`Limits::check_steps`] refuses; [`VerifyError::NotFinite`] for a row with a NaN or an infinity;
    /// [`VerifyError::Backend`] for a failure of the engine. After an error every sequence is as it was, and
    /// `top` holds nothing of use.
    fn forward(&mut self, steps: &[Step<'_>], top: &mut TopK) -> Result<(), VerifyError>;

    /// The full logits, `[vocab]`, of a row that the last forward was asked for. Asked for only when sampling
    /// needs it; valid until the next `forward`.
    ///
    /// # Errors
    /// [`VerifyError::NoSuchRow`] for a row that was not asked for; [`VerifyError::Backend`].
    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError>;

    /// Keeps the KV of each path and drops the rest of that sequence's rows.
    ///
    /// # Errors
    /// [`VerifyError::UnknownSequence`], [`VerifyError::TwiceInOnePass`], [`VerifyError::NotAPath`],
    /// [`VerifyError::NothingToCommit`] if the sequence had no forward since its last commit or truncation;
    /// [`VerifyError::Backend`]. After an error no sequence has changed.
    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError>;

    /// Rolls a sequence back to its first `len` committed tokens; 0 empties it.
    ///
    /// # Errors
    /// [`VerifyError::UnknownSequence`]; [`VerifyError::TruncateBeyond`] if fewer than `len` tokens are committed.
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError>;
}

/// A verifier behind a pointer is one too: owned, or lent.
macro_rules! forward {
    ($($pointer:ty),+) => {$(
        impl<V: Verifier + ?Sized> Verifier for $pointer {
            fn limits(&self) -> &Limits {
                (**self).limits()
            }
            fn row_tolerance(&self) -> f32 {
                (**self).row_tolerance()
            }
            fn engine(&self) -> String {
                (**self).engine()
            }
            fn threads(&self) -> Option<usize> {
                (**self).threads()
            }
            fn open(&mut self) -> Result<SeqId, VerifyError> {
                (**self).open()
            }
            fn close(&mut self, seq: SeqId) {
                (**self).close(seq);
            }
            fn forward(&mut self, steps: &[Step<'_>], top: &mut TopK) -> Result<(), VerifyError> {
                (**self).forward(steps, top)
            }
            fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
                (**self).logits(row)
            }
            fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
                (**self).commit(commits)
            }
            fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
                (**self).truncate(seq, len)
            }
        }
    )+};
}

forward!(Box<V>, &mut V);

/// Why a verifier refused or failed. Every sequence is as it was before the call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The id is closed or was never given.
    #[error("{seq} is not open; open one and use the id that it returns")]
    UnknownSequence {
        /// The id that was used.
        seq: SeqId,
    },
    /// No more sequences can be open at once.
    #[error("{max} sequences are open, and no more fit; close one first")]
    TooManySequences {
        /// The limit.
        max: usize,
    },
    /// The same sequence stands twice in one call.
    #[error("{seq} stands twice in one call; give each sequence one tree (or path) a call")]
    TwiceInOnePass {
        /// The sequence.
        seq: SeqId,
    },
    /// The pass has too many rows.
    #[error("{found} rows in one pass, but at most {max} fit; draft smaller trees or shorter prefill chunks")]
    TooManyRows {
        /// The rows up to the step at which the limit was passed.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The pass has too many leaves.
    #[error("{found} leaves in one pass, but at most {max} fit; draft narrower trees")]
    TooManyLeaves {
        /// The leaves up to the step at which the limit was passed.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// The sequence would outgrow the context.
    #[error("{rows} rows after {committed} committed tokens do not fit a context of {max}")]
    ContextFull {
        /// Tokens already committed.
        committed: usize,
        /// Rows of the step.
        rows: usize,
        /// The limit.
        max: usize,
    },
    /// The backend cannot verify a tree with two leaves.
    #[error("this backend verifies chains only ({reason}); draft without branches")]
    UnsupportedTree {
        /// What stands in the way.
        reason: String,
    },
    /// A token that the vocabulary lacks.
    #[error("token {token} is outside the vocabulary of {vocab}")]
    TokenOutOfRange {
        /// The token.
        token: TokenId,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// The path to commit is not a path of the tree that was scored.
    #[error(
        "{node} at depth {depth} of the path of {seq} does not continue it (the tree has {rows} nodes); \
         give the root, then a child of each node before it"
    )]
    NotAPath {
        /// The sequence.
        seq: SeqId,
        /// The index of the node in the path.
        depth: usize,
        /// The node.
        node: NodeId,
        /// The nodes of the tree that was scored.
        rows: usize,
    },
    /// No forward is open for commitment.
    #[error("{seq} has no scored rows to commit; run a forward first")]
    NothingToCommit {
        /// The sequence.
        seq: SeqId,
    },
    /// A truncation to more tokens than there are.
    #[error("{seq} holds {committed} tokens and cannot be truncated to {len}")]
    TruncateBeyond {
        /// The sequence.
        seq: SeqId,
        /// The tokens committed.
        committed: usize,
        /// The length asked for.
        len: usize,
    },
    /// The model's output is NaN or infinite.
    #[error(
        "the logits of {row} are not finite: the model file is damaged, or its type overflows on this device"
    )]
    NotFinite {
        /// The row.
        row: Row,
    },
    /// The row was not asked for in the last forward.
    #[error("{row} was not asked for in the last forward")]
    NoSuchRow {
        /// The row.
        row: Row,
    },
    /// A row of logits of another width than the vocabulary.
    #[error("a row of {found} logits where the vocabulary has {expected}")]
    WrongVocab {
        /// The size of the vocabulary.
        expected: usize,
        /// The width of the row.
        found: usize,
    },
    /// The engine below failed.
    #[error("{backend} failed to {doing}")]
    Backend {
        /// The backend's name.
        backend: Cow<'static, str>,
        /// What it was doing.
        doing: &'static str,
        /// What the engine said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl VerifyError {
    /// Wraps an engine's own error.
    pub fn backend(
        backend: impl Into<Cow<'static, str>>,
        doing: &'static str,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Backend { backend: backend.into(), doing, source: source.into() }
    }
}
