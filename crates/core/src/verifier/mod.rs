//! The contract of a backend: score trees, keep paths.

mod error;
mod limits;
mod paths;

pub use error::VerifyError;
pub use limits::{Limits, Support};
pub use paths::{check_commits, check_path};

use crate::{DraftTree, NodeId, Row, RowSelection, SeqId, TopK};

/// One sequence's part of a forward pass: a tree that grows from the end of what is committed.
///
/// A prefill chunk is a chain ([`DraftTree::chain`]).
#[derive(Clone, Copy, Debug)]
pub struct TreeInput<'a> {
    /// The sequence; it stands at most once in a pass.
    pub seq: SeqId,
    /// The tree; node `i` stands at position `committed + depth(i)` and attends to everything committed, its
    /// ancestors and itself.
    pub tree: &'a DraftTree,
    /// The rows that get candidates.
    pub rows: RowSelection,
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
    /// Whatever [`Limits::check_inputs`] refuses; [`VerifyError::NotFinite`] for a row with a NaN or an infinity;
    /// [`VerifyError::Backend`] for a failure of the engine. After an error every sequence is as it was, and
    /// `top` holds nothing of use.
    fn forward(&mut self, steps: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError>;

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
            fn forward(&mut self, steps: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
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
