//! What a verifier needs from a memory.

use std::fmt;

use upcycle_core::{AcceptedRows, RowLayout, SeqId, Sequence, TopK, VerifyError};

use super::inputs::PassInputs;
use crate::options::Memory;

/// The KV caches of open sequences, and the logits of the last forward.
///
/// A forward is [`begin`](Self::begin), one [`pass`](Self::pass) for each input, [`rank`](Self::rank), and, if nothing
/// failed, one [`finish`](Self::finish) for each input.
pub(crate) trait KvStore: fmt::Debug + Send {
    /// Which memory it is.
    fn memory(&self) -> Memory;

    /// Makes a cache for a sequence.
    fn open(&mut self, seq: SeqId);

    /// Whether [`fork`](Self::fork) copies caches.
    fn can_fork(&self) -> bool {
        false
    }

    /// Makes a cache for the sequence `to` with the first `len` committed rows of `from`. Makes none after an error.
    fn fork(&mut self, from: SeqId, to: SeqId, len: usize) -> Result<(), VerifyError> {
        let _ = (from, to, len);
        Err(VerifyError::CannotFork)
    }

    /// Frees the cache of a sequence.
    fn close(&mut self, seq: SeqId);

    /// Drops the logits of the last forward, and reserves memory for `rows` rows.
    fn begin(&mut self, rows: usize) -> Result<(), VerifyError>;

    /// Runs the graph over the tree in `inputs`. Its logits follow those of this forward's earlier passes; its keys and
    /// values stay apart from the committed and the pending rows.
    fn pass(&mut self, sequence: &Sequence<()>, inputs: &PassInputs) -> Result<(), VerifyError>;

    /// Ranks the rows of this forward.
    fn rank(&mut self, rows: &RowLayout, top: &mut TopK) -> Result<(), VerifyError>;

    /// Makes the rows of the last pass the pending ones.
    fn finish(&mut self, seq: SeqId);

    /// The logits of row `index` of the last forward, `[vocab]`.
    fn logits(&mut self, index: usize) -> Result<&[f32], VerifyError>;

    /// Makes sure that [`keep`](Self::keep) of the same rows cannot fail. Changes no row.
    fn prepare(&mut self, rows: AcceptedRows<'_>) -> Result<(), VerifyError>;

    /// Appends the prepared rows to the committed ones, and drops the other pending ones.
    fn keep(&mut self, rows: AcceptedRows<'_>);

    /// Drops the committed rows from `len` on, and the pending ones.
    fn truncate(&mut self, seq: SeqId, len: usize);

    /// Bytes written for passes and moved by commits.
    fn copied_bytes(&self) -> u64;
}

/// Turns an error of the runtime into one of the verifier.
pub(super) fn failed(doing: &'static str) -> impl FnOnce(ort::Error) -> VerifyError {
    move |source| VerifyError::backend("ort", doing, source)
}
