//! Where keys, values and logits are between passes: what a verifier leaves to the memory that it works with.

mod device;
mod host;
mod inputs;

use std::fmt;

use upcycle_core::{NodeId, Row, SeqId, TopK, VerifyError};

pub(crate) use device::DeviceMemory;
pub(crate) use host::HostMemory;
pub(crate) use inputs::Inputs;

/// The name that errors carry.
pub(crate) const NAME: &str = "ort";

/// Where a verifier keeps keys, values and logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// In the memory of the host. They travel with each pass where the provider has memory of its own.
    Host,
    /// In the memory of the provider: rows are moved there, and logits are ranked there. Where that is the host's memory, it
    /// works all the same, and costs more than [`Host`](Self::Host).
    Device,
}

/// The caches of open sequences, and the logits of the last forward.
///
/// A forward is [`begin`](Self::begin), one [`pass`](Self::pass) for each step, [`rank`](Self::rank), and, if nothing failed,
/// one [`settle`](Self::settle) for each step.
pub(crate) trait Keep: fmt::Debug + Send {
    /// Where it is.
    fn memory(&self) -> Memory;

    /// Makes a cache for a sequence.
    fn open(&mut self, seq: SeqId);

    /// Frees the cache of a sequence.
    fn close(&mut self, seq: SeqId);

    /// Forgets the logits of the last forward, and makes room for `rows` rows.
    fn begin(&mut self, rows: usize) -> Result<(), VerifyError>;

    /// Runs the graph behind `committed` rows of a sequence. Logits go behind those of this forward's earlier passes; new keys
    /// and values are set aside. Rows that wait for a commit stay.
    fn pass(&mut self, seq: SeqId, committed: usize, inputs: &Inputs) -> Result<(), VerifyError>;

    /// Ranks the rows of this forward, which are `scored`.
    fn rank(&mut self, scored: &[Row], top: &mut TopK) -> Result<(), VerifyError>;

    /// Has the rows that were set aside wait for a commit, in place of those that did.
    fn settle(&mut self, seq: SeqId);

    /// The logits of row `index` of the last forward, `[vocab]`.
    fn logits(&mut self, index: usize) -> Result<&[f32], VerifyError>;

    /// Puts the waiting rows of a path behind `committed` rows, and drops the others. After an error no row waits.
    fn keep(&mut self, seq: SeqId, committed: usize, path: &[NodeId]) -> Result<(), VerifyError>;

    /// Forgets the rows from `rows` on, and those that wait.
    fn truncate(&mut self, seq: SeqId, rows: usize);

    /// Bytes written for passes and moved by commits.
    fn copied(&self) -> u64;
}

fn failed(doing: &'static str) -> impl FnOnce(ort::Error) -> VerifyError {
    move |source| VerifyError::backend(NAME, doing, source)
}
