//! The [`Verifier`]: sequences, passes, commits.

use std::fmt;
use std::sync::Arc;

use tracing::debug_span;
use upcycle_core::{
    Commit, Limits, Row, SeqId, SequenceTable, Support, TopK, TreeInput, Verifier, VerifyError, tree_masks,
};
use upcycle_kernels::KvCache;

use crate::batch::Batch;
use crate::forward::{NotFinite, Scratch, forward};
use crate::model::Model;

/// Rows of one pass: a chunk of prefill, or trees. Memory of a pass grows with them, and past some hundreds speed does not.
const MAX_ROWS: usize = 1024;
/// Sequences open at once. Each takes memory for its own tokens only; the limit keeps passes at a sensible size.
const MAX_SEQS: usize = 64;

/// Verifies draft trees with a [`Model`].
///
/// Each row of a pass is computed as if it stood alone. The logits of a tree's node equal those of the same tokens decoded one by
/// one, to the last bit.
///
/// Memory: keys and values in pages of 64 tokens (as `f32`, 2.9 MB a page for a model of 30 layers with 3 KV heads of 64), kept until
/// their sequence closes; and the logits of the rows that were requested from the last pass.
pub struct CpuVerifier {
    model: Arc<Model>,
    sequences: SequenceTable<KvCache>,
    batch: Batch,
    scratch: Scratch,
    positions: Vec<u32>,
    /// The logits of the rows that were requested from the last pass, at least `[rows, vocab]`.
    logits: Vec<f32>,
}

impl fmt::Debug for CpuVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuVerifier")
            .field("limits", self.limits())
            .field("sequences", &self.sequences.iter().len())
            .finish_non_exhaustive()
    }
}

impl CpuVerifier {
    /// A verifier without sequences.
    #[must_use]
    pub fn new(model: Arc<Model>) -> Self {
        let limits = Limits {
            vocab: model.vocab(),
            max_context: model.max_context(),
            max_rows: MAX_ROWS,
            max_leaves: MAX_ROWS,
            max_seqs: MAX_SEQS,
            support: Support::Tree,
        };
        Self {
            model,
            sequences: SequenceTable::new(limits),
            batch: Batch::default(),
            scratch: Scratch::default(),
            positions: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The committed tokens of an open sequence.
    #[must_use]
    pub fn committed(&self, seq: SeqId) -> Option<usize> {
        Some(self.sequences.get(seq).ok()?.committed())
    }

    /// Lays out the rows of `inputs`, and grows the caches for them.
    fn lay_out(&mut self, inputs: &[TreeInput<'_>]) -> Result<(), VerifyError> {
        self.batch.clear();
        for input in inputs {
            let index = self.sequences.index(input.seq)?;
            let sequence = self.sequences.get_mut(input.seq)?;
            let (tree, committed) = (input.tree, sequence.committed());
            let first = sequence.free_slot(tree.len());
            sequence.state.reserve(first + tree.len()).map_err(|source| {
                VerifyError::backend("cpu", "reserve memory for keys and values", source)
            })?;
            let first_row = self.batch.tokens.len();
            self.batch.tokens.extend_from_slice(tree.tokens());
            tree_masks::positions(tree, committed, &mut self.positions);
            self.batch.positions.extend_from_slice(&self.positions);
            self.batch.slots.extend((first..first + tree.len()).map(|slot| (index, slot)));
            self.batch.push_tree(tree.parents(), committed, first);
            self.batch.logits_rows.extend(input.rows.nodes(tree.len()).map(|node| first_row + node));
        }
        Ok(())
    }

    /// Runs the pass that is laid out and ranks its rows.
    fn run(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let mut caches: Vec<_> = self.sequences.iter_mut().map(|sequence| &mut sequence.state).collect();
        forward(&self.model, &self.batch, &mut caches, &mut self.scratch, &mut self.logits)
            .map_err(|NotFinite { row }| VerifyError::not_finite(inputs, row))?;
        let logits = self.logits.chunks_exact(self.model.vocab());
        for (row, logits) in self.sequences.rows().iter().zip(logits) {
            top.set_from_logits(row, logits)?;
        }
        Ok(())
    }
}

impl Verifier for CpuVerifier {
    fn limits(&self) -> &Limits {
        self.sequences.limits()
    }

    fn description(&self) -> String {
        format!("upcycle-kernels, {}", self.model.instruction_set())
    }

    fn threads(&self) -> Option<usize> {
        Some(self.model.threads())
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        self.sequences.open(KvCache::new(self.model.kv_shape(), self.model.kv_type))
    }

    fn close(&mut self, seq: SeqId) {
        self.sequences.close(seq);
    }

    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let rows = inputs.iter().map(|input| input.tree.len()).sum::<usize>();
        let _span = debug_span!("forward", sequences = inputs.len(), rows).entered();
        self.sequences.begin_pass(inputs)?;
        top.reset(inputs, self.model.vocab());
        if !inputs.is_empty() {
            self.lay_out(inputs)?;
            self.run(inputs, top)?;
        }
        self.sequences.finish_pass(inputs);
        Ok(())
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        let (index, vocab) = (self.sequences.row_index(row)?, self.model.vocab());
        Ok(&self.logits[index * vocab..][..vocab])
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        self.sequences.commit(commits, |cache, rows| {
            rows.moves().for_each(|(from, to)| cache.relocate(from, to));
        })
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        self.sequences.truncate(seq, len, |_| Ok(()))
    }

    fn can_fork(&self) -> bool {
        true
    }

    fn fork(&mut self, seq: SeqId, len: usize) -> Result<SeqId, VerifyError> {
        self.sequences.fork(seq, len, |cache| {
            let copied = cache.prefix(len);
            copied.map_err(|source| VerifyError::backend("cpu", "copy keys and values", source))
        })
    }
}
