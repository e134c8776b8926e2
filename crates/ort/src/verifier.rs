//! The [`Verifier`]: sequences, passes, commits.

use std::fmt;
use std::sync::Arc;

use tracing::debug_span;
use upcycle_core::{Commit, Limits, Row, SeqId, SequenceTable, TopK, TreeInput, Verifier, VerifyError};

use crate::error::LoadError;
use crate::memory::{DeviceMemory, HostMemory, KvStore, PassInputs};
use crate::model::Model;
use crate::options::Memory;

/// Rows of one pass. The attention scores of all heads are held for them.
const MAX_ROWS: usize = 512;
/// Sequences open at once.
const MAX_SEQS: usize = 64;

/// Verifies draft trees with a [`Model`] in ONNX Runtime.
///
/// Memory: keys and values in `f32` for at most twice the committed rows, until their sequence closes. Keys, values and
/// logits of the last pass, until the next. They are in the host's memory or in the provider's: see [`Memory`].
pub struct OrtVerifier {
    /// First, so that it frees its allocations before the model goes.
    store: Box<dyn KvStore>,
    model: Arc<Model>,
    sequences: SequenceTable<()>,
    inputs: PassInputs,
}

impl fmt::Debug for OrtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrtVerifier")
            .field("model", &self.model)
            .field("memory", &self.memory())
            .field("limits", self.limits())
            .field("sequences", &self.sequences.iter().len())
            .finish_non_exhaustive()
    }
}

impl OrtVerifier {
    /// A verifier without sequences. Its memory is the provider's on CUDA, else the host's.
    #[must_use]
    pub fn new(model: Arc<Model>) -> Self {
        let memory = model.memory();
        Self::over(model, memory)
    }

    /// A verifier without sequences, in the given memory.
    ///
    /// # Errors
    /// [`LoadError::Device`] if the provider's memory cannot be used.
    pub fn with_memory(model: Arc<Model>, memory: Memory) -> Result<Self, LoadError> {
        if memory == Memory::Device {
            model.device()?;
        }
        Ok(Self::over(model, memory))
    }

    fn over(model: Arc<Model>, memory: Memory) -> Self {
        let limits = Limits {
            vocab: model.vocab(),
            max_context: model.max_context(),
            max_rows: MAX_ROWS,
            max_leaves: MAX_ROWS,
            max_seqs: MAX_SEQS,
            support: model.graph.support.clone(),
        };
        let store: Box<dyn KvStore> = match memory {
            Memory::Host => Box::new(HostMemory::new(Arc::clone(&model))),
            Memory::Device => Box::new(DeviceMemory::new(Arc::clone(&model))),
        };
        Self { store, model, sequences: SequenceTable::new(limits), inputs: PassInputs::default() }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Where keys, values and logits are.
    #[must_use]
    pub fn memory(&self) -> Memory {
        self.store.memory()
    }

    /// The committed tokens of an open sequence.
    #[must_use]
    pub fn committed(&self, seq: SeqId) -> Option<usize> {
        Some(self.sequences.get(seq).ok()?.committed())
    }

    /// Bytes that passes have written and commits have moved since this verifier was made. A tree of `n` rows with `m` rows
    /// requested takes `16 n + 8 m + 4 n²`, and each accepted row `8 layers · kv_heads · head_dim`.
    ///
    /// In [`Memory::Device`] a commit moves only the accepted rows that are not in place (none of a chain). Each takes
    /// `32 layers` bytes of indices besides, and each requested row returns `12 (k + 1) + 4`. Not counted in either memory:
    /// growing a buffer, which moves each row once on average, and reading a whole row of logits.
    #[must_use]
    pub fn copied_bytes(&self) -> u64 {
        self.store.copied_bytes()
    }
}

impl Verifier for OrtVerifier {
    fn limits(&self) -> &Limits {
        self.sequences.limits()
    }

    fn row_tolerance(&self) -> f32 {
        self.model.row_tolerance()
    }

    fn description(&self) -> String {
        self.model.engine()
    }

    fn threads(&self) -> Option<usize> {
        Some(self.model.threads())
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        let seq = self.sequences.open(())?;
        self.store.open(seq);
        Ok(seq)
    }

    fn close(&mut self, seq: SeqId) {
        self.sequences.close(seq);
        self.store.close(seq);
    }

    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let rows = inputs.iter().map(|input| input.tree.len()).sum::<usize>();
        let _span = debug_span!("forward", sequences = inputs.len(), rows).entered();
        self.sequences.begin_pass(inputs)?;
        top.reset(inputs, self.limits().vocab);
        self.store.begin(top.rows())?;
        for (index, input) in inputs.iter().enumerate() {
            let sequence = self.sequences.get(input.seq)?;
            self.inputs.lay_out(input.tree, sequence.committed(), top.nodes(index));
            self.store.pass(sequence, &self.inputs)?;
        }
        self.store.rank(self.sequences.rows(), top)?;
        // Nothing can fail from here on.
        inputs.iter().for_each(|input| self.store.finish(input.seq));
        self.sequences.finish_pass(inputs);
        Ok(())
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        self.store.logits(self.sequences.row_index(row)?)
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        let Self { sequences, store, .. } = self;
        sequences.prepare_commit(commits, |(), rows| store.prepare(rows))?;
        sequences.commit(commits, |(), rows| store.keep(rows))
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        let Self { sequences, store, .. } = self;
        sequences.truncate(seq, len, |_| {
            store.truncate(seq, len);
            Ok(())
        })
    }

    fn can_fork(&self) -> bool {
        self.store.can_fork()
    }

    fn fork(&mut self, seq: SeqId, len: usize) -> Result<SeqId, VerifyError> {
        if !self.can_fork() {
            return Err(VerifyError::CannotFork);
        }
        let forked = self.sequences.fork(seq, len, |()| Ok(()))?;
        match self.store.fork(seq, forked, len) {
            Ok(()) => Ok(forked),
            Err(error) => {
                self.sequences.close(forked);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use upcycle_core::{AcceptedRows, RowLayout, Sequence, VerifyError};
    use upcycle_onnx::export::ExportOptions;
    use upcycle_testkit::tiny::{Tiny, write};
    use upcycle_testkit::{Law, Subject, Tolerance, laws};

    use super::*;
    use crate::options::Options;

    /// A store whose preparation of a commit fails once, at the second sequence of the first commit of two.
    #[derive(Debug)]
    struct FailsOnce {
        inner: Box<dyn KvStore>,
        prepared: Vec<SeqId>,
        failed: bool,
    }

    impl KvStore for FailsOnce {
        fn memory(&self) -> Memory {
            self.inner.memory()
        }
        fn open(&mut self, seq: SeqId) {
            self.inner.open(seq);
        }
        fn close(&mut self, seq: SeqId) {
            self.inner.close(seq);
        }
        fn begin(&mut self, rows: usize) -> Result<(), VerifyError> {
            self.inner.begin(rows)
        }
        fn pass(&mut self, sequence: &Sequence<()>, inputs: &PassInputs) -> Result<(), VerifyError> {
            self.inner.pass(sequence, inputs)
        }
        fn rank(&mut self, rows: &RowLayout, top: &mut TopK) -> Result<(), VerifyError> {
            self.inner.rank(rows, top)
        }
        fn finish(&mut self, seq: SeqId) {
            self.inner.finish(seq);
        }
        fn logits(&mut self, index: usize) -> Result<&[f32], VerifyError> {
            self.inner.logits(index)
        }
        fn prepare(&mut self, rows: AcceptedRows<'_>) -> Result<(), VerifyError> {
            self.prepared.push(rows.seq);
            if self.prepared.len() == 2 && !self.failed {
                self.failed = true;
                return Err(VerifyError::backend("ort", "copy accepted rows", "it was told to fail here"));
            }
            self.inner.prepare(rows)
        }
        fn keep(&mut self, rows: AcceptedRows<'_>) {
            self.prepared.clear();
            self.inner.keep(rows);
        }
        fn truncate(&mut self, seq: SeqId, len: usize) {
            self.inner.truncate(seq, len);
        }
        fn copied_bytes(&self) -> u64 {
            self.inner.copied_bytes()
        }
    }

    #[test]
    fn a_failed_commit_changes_nothing_in_either_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("exported");
        let gguf = write(&Tiny::default().writer(None));
        upcycle_onnx::export::export(gguf.path(), &path, ExportOptions::default(), &mut |_, _| ()).unwrap();
        let model = Model::load(&path, &Options::default()).unwrap();
        for memory in [Memory::Host, Memory::Device] {
            let [whole, failing] = [Arc::clone(&model), Arc::clone(&model)];
            let verifier = move |model| OrtVerifier::with_memory(model, memory).unwrap();
            let subject = Subject::new(move || verifier(Arc::clone(&whole)))
                .failing_commit(move || {
                    let verifier = verifier(Arc::clone(&failing));
                    let store = FailsOnce { inner: verifier.store, prepared: Vec::new(), failed: false };
                    OrtVerifier { store: Box::new(store), ..verifier }
                })
                .tolerance(Tolerance::Within(1e-3));
            laws::check(&subject, Law::FailedCommitChangesNothing)
                .unwrap_or_else(|broken| panic!("{memory:?}: {broken}"));
        }
    }
}
