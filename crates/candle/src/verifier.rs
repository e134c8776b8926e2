//! The [`Verifier`]: sequences, passes, commits.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use tracing::debug_span;
use upcycle_core::{
    Commit, Limits, Row, SeqId, SequenceTable, Support, TopK, TreeInput, Verifier, VerifyError,
};

use crate::cache::DeviceKvCache;
use crate::forward::{PassError, PassInput, forward};
use crate::model::Model;

/// Rows of one pass: a chunk of prefill, or trees. Memory of a pass grows with them, and past some hundreds speed does not.
const MAX_ROWS: usize = 1024;
/// Sequences open at once. Each takes memory for its own tokens only; the limit keeps passes at a sensible size.
const MAX_SEQS: usize = 64;

/// Verifies draft trees with a [`Model`].
///
/// The logits of a row change by rounding with the rows beside it, at most by [`row_tolerance`](Verifier::row_tolerance).
///
/// Memory: keys and values in `f32` on the device, for blocks of 128 tokens, kept until their sequence closes; and on the host the
/// logits of the rows that were requested from the last pass.
pub struct CandleVerifier {
    model: Arc<Model>,
    sequences: SequenceTable<DeviceKvCache>,
    /// The logits of the rows that were requested from the last pass, at least `[rows, vocab]`.
    logits: Vec<f32>,
}

impl fmt::Debug for CandleVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CandleVerifier")
            .field("limits", self.limits())
            .field("sequences", &self.sequences.iter().len())
            .finish_non_exhaustive()
    }
}

impl CandleVerifier {
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
        Self { model, sequences: SequenceTable::new(limits), logits: Vec::new() }
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

    /// Grows the caches for `inputs`, runs the pass and ranks its rows.
    fn run(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let mut pass = Vec::with_capacity(inputs.len());
        let mut logits_rows = Vec::new();
        let mut first_row = 0;
        for &TreeInput { seq, tree, rows } in inputs {
            let cache = self.sequences.index(seq)?;
            let sequence = self.sequences.get_mut(seq)?;
            let first = sequence.free_slot(tree.len());
            sequence.state.write_staged().map_err(|source| failed("keep accepted rows", source))?;
            let reserved = sequence.state.reserve(first + tree.len());
            reserved.map_err(|source| failed("reserve memory for keys and values", source))?;
            pass.push(PassInput { tree, cache, committed: sequence.committed(), first });
            logits_rows.extend(rows.nodes(tree.len()).map(|node| first_row + node as u32));
            first_row += tree.len() as u32;
        }
        let caches: Vec<_> = self.sequences.iter().map(|sequence| &sequence.state).collect();
        forward(&self.model, &pass, &caches, &logits_rows, &mut self.logits).map_err(
            |failure| match failure {
                PassError::NotFinite { row } => VerifyError::not_finite(inputs, row),
                PassError::Device(source) => failed("run a pass", source),
            },
        )?;
        let logits = self.logits.chunks_exact(self.model.vocab());
        for (row, logits) in self.sequences.rows().iter().zip(logits) {
            top.set_from_logits(row, logits)?;
        }
        Ok(())
    }
}

fn failed(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> VerifyError {
    VerifyError::backend("candle", doing, source)
}

impl Verifier for CandleVerifier {
    fn limits(&self) -> &Limits {
        self.sequences.limits()
    }

    fn row_tolerance(&self) -> f32 {
        self.model.tolerance
    }

    fn description(&self) -> String {
        format!("candle's tensors on {}", self.model.device_name())
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        self.sequences.open(DeviceKvCache::new(self.model.kv_shape(), &self.model.device))
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
        // What can fail comes first, for all sequences. The next pass moves the rows.
        self.sequences.prepare_commit(commits, |cache, rows| {
            let from: Vec<u32> = rows.moves().map(|(from, _)| from as u32).collect();
            cache.stage_accepted(&from, rows.committed).map_err(|source| failed("keep accepted rows", source))
        })?;
        self.sequences.commit(commits, |cache, _| cache.keep())
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        self.sequences.truncate(seq, len, |_| Ok(()))
    }
}
