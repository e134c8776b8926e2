//! The [`Verifier`]: sequences, passes, commits.

use std::fmt;
use std::sync::Arc;

use tracing::debug_span;
use upcycle_core::tree_masks::{LeafPaths, positions};
use upcycle_core::{
    Commit, Limits, Row, SeqId, SequenceTable, TopK, TreeInput, TreeKind, Verifier, VerifyError,
};

use crate::batch_order::BatchOrder;
use crate::branches::Branches;
use crate::cells::{self, Cells, Memory};
use crate::context::Context;
use crate::error::{LoadError, PassError};
use crate::model::Model;
use crate::replay::Replay;
use crate::reserve;
use crate::row_invariance;
use crate::seq_ids::SeqIds;

/// Sequences open at once if each has its own state in memory.
const MAX_STATES: u16 = 8;

/// Verifies draft trees with a [`Model`] in llama.cpp.
///
/// Memory: the cache of the whole context, from the start; and the logits of the widest pass so far.
pub struct LlamaVerifier {
    model: Arc<Model>,
    context: Context,
    ids: SeqIds,
    sequences: SequenceTable<Cells>,
    /// The row in the batch of each row that was requested from the last forward.
    batch_rows: Vec<usize>,
    paths: LeafPaths,
    positions: Vec<u32>,
    order: BatchOrder,
    wants_logits: Vec<bool>,
    ids_of_node: Vec<Vec<i32>>,
}

impl fmt::Debug for LlamaVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LlamaVerifier")
            .field("model", &self.model)
            .field("limits", self.limits())
            .field("sequences", &self.sequences.iter().len())
            .finish_non_exhaustive()
    }
}

impl LlamaVerifier {
    /// A verifier without sequences, in a context of its own.
    ///
    /// # Errors
    /// [`LoadError::ContextMemory`], [`LoadError::Context`], [`LoadError::Lora`], [`LoadError::NotRowInvariant`].
    pub fn new(model: Arc<Model>) -> Result<Self, LoadError> {
        let support = model.support();
        let tree = support.kind() == TreeKind::Tree;
        let id_count = if tree { model.n_seq_max() } else { MAX_STATES.min(model.n_seq_max()) };
        let row_invariant = tree && model.row_invariant();
        // Each open sequence holds an id, and the leaves share the others. Cells of several sequences would not stay in order.
        let max_seqs = match (row_invariant, tree) {
            (true, _) => 1,
            (false, true) => id_count / 4,
            (false, false) => id_count,
        };
        let mut ids = SeqIds::new(id_count);
        let padding_id = if model.pads_single_rows() { ids.take().ok() } else { None };
        let limits = Limits {
            vocab: model.vocab(),
            max_context: model.max_context(),
            max_rows: model.max_rows(),
            // A pass with a chain of every sequence has as many leaves.
            max_leaves: if tree { ids.free() - usize::from(max_seqs) } else { id_count.into() },
            max_seqs: max_seqs.into(),
            support,
        };
        let mut verifier = Self {
            context: model.context(id_count, padding_id)?,
            model,
            ids,
            sequences: SequenceTable::new(limits),
            batch_rows: Vec::new(),
            paths: LeafPaths::default(),
            positions: Vec::new(),
            order: BatchOrder::default(),
            wants_logits: Vec::new(),
            ids_of_node: Vec::new(),
        };
        if row_invariant {
            row_invariance::check(&mut verifier)?;
        }
        Ok(verifier)
    }

    /// Whether rows are bit for bit those of plain decoding.
    fn row_invariant(&self) -> bool {
        self.limits().support.kind() == TreeKind::Tree && self.model.row_invariant()
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

    /// Fills the batch with the inputs.
    fn lay_out(&mut self, inputs: &[TreeInput<'_>]) -> Result<(), PassError> {
        // First, because filling a cache again needs the batch.
        for input in inputs {
            if let Ok(sequence) = self.sequences.get_mut(input.seq)
                && let Memory::Replay(replay) = &mut sequence.state.memory
            {
                replay.refresh(&mut self.context)?;
            }
        }
        self.context.clear();
        self.batch_rows.clear();
        let row_invariant = self.row_invariant();
        for input in inputs {
            let Self { context, sequences, ids, .. } = self;
            let Ok(sequence) = sequences.get_mut(input.seq) else { continue };
            let committed = sequence.committed();
            let cached = sequence.state.cached(committed);
            // All nodes of a chain carry one id.
            let chain_id = match &mut sequence.state.memory {
                Memory::Branches(branches) => {
                    self.paths.rebuild(input.tree);
                    let tree = (input.tree, &self.paths);
                    branches.begin_pass(context, ids, tree, cached, &mut self.ids_of_node)?;
                    None
                }
                Memory::Replay(replay) => {
                    replay.invalidate();
                    Some([replay.id()])
                }
            };
            for (at, &token) in sequence.state.uncached().iter().enumerate() {
                context.flush_unless_fits(1)?;
                context.push(token, cached + at, &self.ids_of_node[0], false)?;
            }
            if row_invariant {
                context.flush_unless_fits(input.tree.len())?;
                self.order.depth_first(input.tree);
            } else {
                self.order.by_node(input.tree);
            }
            let first = context.rows();
            positions(input.tree, committed, &mut self.positions);
            self.wants_logits.clear();
            self.wants_logits.resize(input.tree.len(), false);
            for node in input.rows.nodes(input.tree.len()) {
                self.wants_logits[node] = true;
                self.batch_rows.push(first + self.order.indices()[node]);
            }
            for &node in self.order.nodes() {
                let ids = match &chain_id {
                    Some(id) => &id[..],
                    None => &self.ids_of_node[node][..],
                };
                let (token, position) = (input.tree.tokens()[node], self.positions[node] as usize);
                context.push(token, position, ids, self.wants_logits[node])?;
            }
        }
        Ok(())
    }

    /// Scores the inputs and ranks the requested rows.
    fn score(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        self.lay_out(inputs).map_err(failed("lay out a pass"))?;
        self.context.decode().map_err(failed("score a pass"))?;
        for (row, &batch_row) in self.sequences.rows().iter().zip(&self.batch_rows) {
            top.set_from_logits(row, self.context.logits(batch_row))?;
        }
        Ok(())
    }

    /// Frees the cells that a failed pass has left.
    fn discard_pass(&mut self, inputs: &[TreeInput<'_>]) -> Result<(), VerifyError> {
        for input in inputs {
            let sequence = self.sequences.get_mut(input.seq)?;
            let committed = sequence.committed();
            sequence.state.discard_pass(&mut self.context, committed);
        }
        Ok(())
    }
}

/// Turns an error of llama.cpp into one of the verifier.
fn failed(doing: &'static str) -> impl FnOnce(PassError) -> VerifyError {
    move |source| VerifyError::backend("llama-cpp", doing, source)
}

impl Verifier for LlamaVerifier {
    fn limits(&self) -> &Limits {
        self.sequences.limits()
    }

    fn row_tolerance(&self) -> f32 {
        if self.row_invariant() { 0.0 } else { self.model.row_tolerance() }
    }

    fn description(&self) -> String {
        self.model.engine().to_owned()
    }

    fn threads(&self) -> Option<usize> {
        Some(self.model.threads().1)
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        self.sequences.check_open()?;
        let id = reserve::take_id(&mut self.context, &mut self.sequences, &mut self.ids);
        let id = id.map_err(failed("open a sequence"))?;
        let memory = match self.limits().support.kind() {
            TreeKind::Tree => Memory::Branches(Branches::new(id)),
            _ => Memory::Replay(Replay::new(id)),
        };
        self.sequences.open(Cells::new(memory))
    }

    fn close(&mut self, seq: SeqId) {
        let Some(cells) = self.sequences.close(seq) else { return };
        if let Err(error) = cells.close(&mut self.context, &mut self.ids) {
            tracing::warn!(%error, "the cells of {seq} are not freed");
        }
    }

    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let rows = inputs.iter().map(|input| input.tree.len()).sum::<usize>();
        let _span = debug_span!("forward", sequences = inputs.len(), rows).entered();
        self.sequences.begin_pass(inputs)?;
        top.reset(inputs, self.limits().vocab);
        let reserved = reserve::reserve(&mut self.context, &mut self.sequences, &mut self.ids, inputs);
        reserved.map_err(failed("reserve cells for a pass"))?;
        if let Err(error) = self.score(inputs, top) {
            self.discard_pass(inputs)?;
            return Err(error);
        }
        let order = self.row_invariant().then_some(&self.order);
        for input in inputs {
            let sequence = self.sequences.get_mut(input.seq)?;
            cells::finish_pass(sequence, &mut self.context, input.tree, order);
        }
        self.sequences.finish_pass(inputs);
        Ok(())
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        Ok(self.context.logits(self.batch_rows[self.sequences.row_index(row)?]))
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        let Self { context, sequences, .. } = self;
        sequences.commit(commits, |cells, rows| cells.commit(context, rows))
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        let Self { context, sequences, .. } = self;
        sequences.truncate(seq, len, |sequence| {
            cells::truncate(sequence, context, len).map_err(failed("truncate a sequence"))
        })
    }
}
