//! The trait of a backend: it scores trees and keeps the KV of accepted paths.

mod commit;
pub(crate) mod error;
mod limits;
mod sequences;

pub use commit::{Commit, check_commits};
pub use error::VerifyError;
pub use limits::{Limits, Support};
pub use sequences::{AcceptedRows, Sequence, SequenceTable};

use crate::input::{RowSelection, TreeInput};
use crate::token::{Row, SeqId, TokenId};
use crate::top::TopK;
use crate::tree::{DraftTree, NodeId};

/// A backend: it runs a model over trees and keeps the KV of accepted paths. It never samples.
///
/// Scored rows that were not committed (the *pending tree*) are dropped by the next successful `forward` or `truncate` of their
/// sequence, or by its `close`. After a `forward` that fails they can still be committed.
///
/// The trait is object-safe. [`SequenceTable`] does the bookkeeping that every backend needs. The laws
/// that every verifier obeys are functions in the crate `upcycle-testkit`, and its macro `conformance!` turns them into
/// tests.
///
/// # Design
///
/// `forward` and `commit` are separate calls, because the decoder chooses the accepted path between them. Both take all
/// sequences of a pass. So one pass of the engine serves all of them, and a commit succeeds for all or for none.
///
/// A backend returns the k best candidates of a row and gives a full row only on request. With a vocabulary of 152k, the
/// logits of 81 rows take 49 MB and their eight best candidates 5 KB. A backend that ranks on its device never copies the
/// rest.
///
/// Sampling is not part of the trait. The decoder samples, with noise that depends only on seed, sample index, position and token.
/// So every backend with a [`row_tolerance`](Self::row_tolerance) of 0 gives the text of its own plain decoding.
///
/// # Example
///
/// What a decoder does in one step:
///
/// ```
/// use upcycle_core::{Commit, DraftTree, NodeId, Row, RowSelection, TopK, TreeInput, TreeLimits, Verifier};
/// use upcycle_testkit::NaiveVerifier;
///
/// let mut model = NaiveVerifier::new(64, 1);
/// let seq = model.open()?;
///
/// // A draft: token 1 is followed by 2 and then 3, or by 5.
/// let mut tree = DraftTree::new();
/// tree.reset(1, TreeLimits::UNBOUNDED);
/// let two = tree.push(NodeId::ROOT, 2, None)?;
/// tree.push(two, 3, None)?;
/// tree.push(NodeId::ROOT, 5, None)?;
///
/// let mut top = TopK::new(8);
/// model.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut top)?;
/// let after_two = top.get(Row { input: 0, node: two.index() }).expect("all rows were requested");
/// assert_eq!(after_two.ids.len(), 8);
///
/// // Keep the KV of 1 and 2 and drop the rest.
/// model.commit(&[Commit { seq, path: &[NodeId::ROOT, two] }])?;
/// assert_eq!(model.committed(seq), Some(&[1, 2][..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Verifier: Send {
    /// The limits of this backend with this model. They never change.
    fn limits(&self) -> &Limits;

    /// The most that a logit may differ from plain decoding because of the other rows in its pass. It is 0 if the
    /// arithmetic of a row does not depend on the other rows. A backend that rounds differently in passes of different
    /// sizes must state it here: the margin rule compares texts within this tolerance ([`crate::margin`]).
    fn row_tolerance(&self) -> f32 {
        0.0
    }

    /// What computes the passes, in a few words, for reports: kernels, instruction set, version. May be empty.
    fn description(&self) -> String {
        String::new()
    }

    /// The threads of a pass, if the backend knows.
    fn threads(&self) -> Option<usize> {
        None
    }

    /// Opens an empty sequence with an id that was never used before.
    ///
    /// # Errors
    /// [`VerifyError::TooManySequences`] at the limit; [`VerifyError::Backend`] if there is no memory for it.
    fn open(&mut self) -> Result<SeqId, VerifyError>;

    /// Closes a sequence and frees its memory. Its id stays invalid. An unknown id is ignored.
    fn close(&mut self, seq: SeqId);

    /// Scores the trees of all `inputs` in one pass, and fills `top` with the k best candidates of the requested rows.
    /// A pass without inputs does nothing.
    ///
    /// # Errors
    /// Whatever [`Limits::check_inputs`] refuses; [`VerifyError::NotFinite`] for a row with a NaN or an infinity;
    /// [`VerifyError::Backend`] if the engine fails. After an error every sequence is unchanged, and the contents of
    /// `top` are meaningless.
    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError>;

    /// The full logits, `[vocab]`, of a row that was requested from the last forward, until the next `forward`. The decoder
    /// reads them only if sampling or log probabilities need them.
    ///
    /// # Errors
    /// [`VerifyError::NoSuchRow`] for a row that was not requested; [`VerifyError::Backend`].
    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError>;

    /// Keeps the KV of each path and drops the other rows of its sequence.
    ///
    /// # Errors
    /// [`VerifyError::UnknownSequence`], [`VerifyError::DuplicateSequence`], [`VerifyError::NotAPath`],
    /// [`VerifyError::NothingToCommit`] if the sequence had no forward since its last commit or truncation;
    /// [`VerifyError::Backend`]. After an error no sequence has changed.
    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError>;

    /// Rolls a sequence back to its first `len` committed tokens; 0 empties it.
    ///
    /// # Errors
    /// [`VerifyError::UnknownSequence`]; [`VerifyError::TruncateBeyond`] if fewer than `len` tokens are committed.
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError>;

    /// Whether [`fork`](Self::fork) copies sequences. Return true if a copy is faster than
    /// a prefill of the same tokens.
    fn can_fork(&self) -> bool {
        false
    }

    /// Opens a sequence that holds the first `len` committed tokens of `seq`, which is unchanged. The new sequence gives the
    /// same logits as one that has read these tokens.
    ///
    /// # Errors
    /// [`VerifyError::CannotFork`] unless [`can_fork`](Self::can_fork); otherwise as [`open`](Self::open) and
    /// [`truncate`](Self::truncate).
    fn fork(&mut self, seq: SeqId, len: usize) -> Result<SeqId, VerifyError> {
        let _ = (seq, len);
        Err(VerifyError::CannotFork)
    }
}

/// Boxes and mutable references of verifiers are verifiers.
macro_rules! delegate {
    ($($pointer:ty),+) => {$(
        impl<V: Verifier + ?Sized> Verifier for $pointer {
            fn limits(&self) -> &Limits {
                (**self).limits()
            }
            fn row_tolerance(&self) -> f32 {
                (**self).row_tolerance()
            }
            fn description(&self) -> String {
                (**self).description()
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
            fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
                (**self).forward(inputs, top)
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
            fn can_fork(&self) -> bool {
                (**self).can_fork()
            }
            fn fork(&mut self, seq: SeqId, len: usize) -> Result<SeqId, VerifyError> {
                (**self).fork(seq, len)
            }
        }
    )+};
}

delegate!(Box<V>, &mut V);

/// The most rows of a prefill chunk. The backend may allow fewer.
pub(crate) const PREFILL_CHUNK: usize = 512;

/// Opens a sequence for `run` and closes it, also after an error.
pub(crate) fn with_sequence<V: Verifier + ?Sized, T>(
    verifier: &mut V,
    run: impl FnOnce(&mut V, SeqId) -> Result<T, VerifyError>,
) -> Result<T, VerifyError> {
    let seq = verifier.open()?;
    let result = run(verifier, seq);
    verifier.close(seq);
    result
}

/// Commits `tokens` in chunks, and ranks the last row of each.
pub(crate) fn prefill<V: Verifier + ?Sized>(
    verifier: &mut V,
    seq: SeqId,
    tokens: &[TokenId],
    top: &mut TopK,
) -> Result<(), VerifyError> {
    for chunk in tokens.chunks(verifier.limits().max_rows.clamp(1, PREFILL_CHUNK)) {
        let tree = DraftTree::chain(chunk);
        verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::Last }], top)?;
        let path: Vec<NodeId> = tree.nodes().collect();
        verifier.commit(&[Commit { seq, path: &path }])?;
    }
    Ok(())
}
