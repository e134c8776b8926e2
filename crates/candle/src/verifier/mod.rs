//! The [`Verifier`]: sequences, passes, commits.

mod cache;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use tracing::debug_span;
use upcycle_core::{
    Commit, Limits, NodeId, Row, SeqId, Support, TopK, TreeInput, Verifier, VerifyError, check_commits,
    tree_masks,
};

use crate::activations::NotFinite;
use crate::forward::{self, Batch};
use crate::model::Body;
use crate::{Model, device, own};

use cache::Cache;

/// Rows of one pass: a chunk of prefill, or trees.
///
/// Memory of a pass grows with them; past some hundreds a pass gains nothing.
const MAX_ROWS: usize = 1024;
/// Sequences open at once. Each takes only what its tokens take; the limit keeps passes at a sensible size.
const MAX_SEQS: usize = 64;

/// Verifies draft trees with a [`Model`].
///
/// With the loops of the CPU, our kernels' and candle's, each row of a pass is computed as if it stood alone, whatever stands
/// beside it: the logits of a tree's node equal, to the last bit, those of the same tokens decoded one by one, on the same
/// machine. Over candle's tensors, as on a GPU, they move by rounding, at most by
/// [`row_tolerance`](Verifier::row_tolerance).
///
/// Memory: keys and values in `f32`, in pages of 128 tokens (5.9 MB a page for a model of 30 layers with 3 KV heads
/// of 64), kept until their sequence closes; and the logits of the rows that the last forward was asked for.
pub struct CandleVerifier {
    model: Arc<Model>,
    limits: Limits,
    sequences: Vec<Sequence>,
    next: u64,
    batch: Batch,
    scratch: forward::Scratch,
    own_scratch: own::Scratch,
    positions: Vec<u32>,
    /// The slots that a commit keeps.
    kept: Vec<usize>,
    /// The rows that the last forward was asked for, rising, and their logits, `[rows, vocab]` and perhaps more.
    scored: Vec<Row>,
    logits: Vec<f32>,
}

/// An open sequence.
#[derive(Debug)]
struct Sequence {
    id: SeqId,
    /// Committed tokens, in slots `0..committed` of the cache.
    committed: usize,
    cache: Cache,
    pending: Option<Pending>,
}

fn failed(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> VerifyError {
    VerifyError::backend(NAME, doing, source)
}

/// Scored rows that wait for a commit.
#[derive(Debug)]
struct Pending {
    /// The slot of the tree's root; node `i` lies in slot `first + i`. Never below `committed`.
    first: usize,
    parents: Vec<u32>,
}

impl Sequence {
    /// Where the rows of a new tree may go: past what is committed, and clear of what waits for a commit, which must
    /// survive a failed pass.
    fn free_slot(&self, rows: usize) -> usize {
        match &self.pending {
            Some(pending) if self.committed + rows > pending.first => pending.first + pending.parents.len(),
            _ => self.committed,
        }
    }

    /// Writes the slots of a path of the rows that wait to `slots`; none where no rows wait.
    fn kept(&self, path: &[NodeId], slots: &mut Vec<usize>) {
        slots.clear();
        let first = self.pending.iter().map(|pending| pending.first);
        slots.extend(first.flat_map(|first| path.iter().map(move |node| first + node.index())));
    }
}

impl fmt::Debug for CandleVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CandleVerifier")
            .field("limits", &self.limits)
            .field("sequences", &self.sequences.len())
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
        Self {
            model,
            limits,
            sequences: Vec::new(),
            next: 0,
            batch: Batch::default(),
            scratch: forward::Scratch::default(),
            own_scratch: own::Scratch::default(),
            positions: Vec::new(),
            kept: Vec::new(),
            scored: Vec::new(),
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
        Some(self.sequences[self.index(seq).ok()?].committed)
    }

    fn index(&self, seq: SeqId) -> Result<usize, VerifyError> {
        let index = self.sequences.iter().position(|sequence| sequence.id == seq);
        index.ok_or(VerifyError::UnknownSequence { seq })
    }

    /// Lays out the rows of `steps`, and makes room in the caches.
    fn lay_out(&mut self, steps: &[TreeInput<'_>], top: &TopK) -> Result<(), VerifyError> {
        self.batch.clear();
        for (number, step) in steps.iter().enumerate() {
            let index = self.index(step.seq)?;
            let sequence = &mut self.sequences[index];
            let first = sequence.free_slot(step.tree.len());
            sequence.cache.reserve(first + step.tree.len())?;
            let first_row = self.batch.tokens.len();
            self.batch.tokens.extend_from_slice(step.tree.tokens());
            tree_masks::positions(step.tree, sequence.committed, &mut self.positions);
            self.batch.positions.extend_from_slice(&self.positions);
            self.batch.slots.extend((first..first + step.tree.len()).map(|slot| (index, slot)));
            let parents = step.tree.parents();
            match self.model.body {
                Body::Own(_) => self.batch.push_sights(parents, sequence.committed, first),
                Body::Candle(_) | Body::Device(_) => {
                    self.batch.visible.push_tree(parents, sequence.committed, first);
                }
            }
            for node in top.nodes(number) {
                self.scored.push(Row { input: number, node });
                self.batch.wanted.push(first_row + node);
            }
        }
        Ok(())
    }

    /// Runs the pass that is laid out and ranks its rows.
    fn run(&mut self, steps: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let Self { model, sequences, batch, logits, .. } = self;
        let (dimensions, caches) =
            (&model.dimensions, sequences.iter_mut().map(|sequence| &mut sequence.cache));
        // Every cache of a verifier is of its model's kind, so the indices of sequences and caches agree.
        let outcome = match &model.body {
            Body::Own(packed) => {
                let mut caches: Vec<_> = caches.filter_map(Cache::own).collect();
                own::forward(packed, dimensions, batch, &mut caches, &mut self.own_scratch, logits)
            }
            Body::Candle(blocks) => {
                let mut caches: Vec<_> = caches.filter_map(Cache::candle).collect();
                let scratch = &mut self.scratch;
                let run = || forward::forward(blocks, dimensions, batch, &mut caches, scratch, logits);
                blocks.threads.install(run)
            }
            Body::Device(resident) => {
                let mut caches: Vec<_> = caches.filter_map(Cache::device).collect();
                match device::forward(resident, dimensions, batch, &mut caches, logits) {
                    Ok(()) => Ok(()),
                    Err(device::Failure::NotFinite { row }) => Err(NotFinite { row }),
                    Err(device::Failure::Device(source)) => return Err(failed("run a pass", source)),
                }
            }
        };
        if let Err(NotFinite { row }) = outcome {
            return Err(VerifyError::NotFinite { row: place(steps, row) });
        }
        for (&row, logits) in self.scored.iter().zip(self.logits.chunks_exact(self.limits.vocab)) {
            top.rank(row, logits)?;
        }
        Ok(())
    }
}

/// The name that errors carry.
const NAME: &str = "candle";

/// The step and node of row `row` of a pass.
fn place(steps: &[TreeInput<'_>], mut row: usize) -> Row {
    for (step, TreeInput { tree, .. }) in steps.iter().enumerate() {
        if row < tree.len() {
            return Row { input: step, node: row };
        }
        row -= tree.len();
    }
    Row { input: steps.len(), node: row }
}

impl Verifier for CandleVerifier {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn row_tolerance(&self) -> f32 {
        match &self.model.body {
            Body::Own(_) | Body::Candle(_) => 0.0,
            Body::Device(resident) => resident.tolerance,
        }
    }

    fn engine(&self) -> String {
        match &self.model.body {
            Body::Own(packed) => format!("own kernels, {}", packed.kernels.path().isa().name()),
            Body::Candle(_) => "candle's dot products".to_owned(),
            Body::Device(resident) => format!("candle's tensors on {}", resident.place()),
        }
    }

    fn threads(&self) -> Option<usize> {
        self.model.threads()
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        if self.sequences.len() >= self.limits.max_seqs {
            return Err(VerifyError::TooManySequences { max: self.limits.max_seqs });
        }
        let id = SeqId::new(self.next);
        self.next += 1;
        let cache = Cache::new(&self.model);
        self.sequences.push(Sequence { id, committed: 0, cache, pending: None });
        Ok(id)
    }

    fn close(&mut self, seq: SeqId) {
        self.sequences.retain(|sequence| sequence.id != seq);
    }

    fn forward(&mut self, steps: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let rows = steps.iter().map(|step| step.tree.len()).sum::<usize>();
        let _span = debug_span!("forward", sequences = steps.len(), rows).entered();
        self.scored.clear();
        self.limits.check_inputs(steps, |seq| self.committed(seq))?;
        top.restart(steps, self.limits.vocab);
        if steps.is_empty() {
            return Ok(());
        }
        let outcome = self.lay_out(steps, top).and_then(|()| self.run(steps, top));
        if outcome.is_err() {
            self.scored.clear();
            return outcome;
        }
        for step in steps {
            let index = self.index(step.seq)?;
            let sequence = &mut self.sequences[index];
            let first = sequence.free_slot(step.tree.len());
            let mut parents = sequence.pending.take().map_or_else(Vec::new, |pending| pending.parents);
            parents.clear();
            parents.extend_from_slice(step.tree.parents());
            sequence.pending = Some(Pending { first, parents });
        }
        Ok(())
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        let index = self.scored.binary_search(&row).map_err(|_| VerifyError::NoSuchRow { row })?;
        Ok(&self.logits[index * self.limits.vocab..][..self.limits.vocab])
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        check_commits(commits, |seq| {
            let pending = self.sequences[self.index(seq)?].pending.as_ref();
            Ok(&pending.ok_or(VerifyError::NothingToCommit { seq })?.parents)
        })?;
        // For all sequences before any is changed, so that an error changes none.
        for commit in commits {
            let index = self.index(commit.seq)?;
            let sequence = &mut self.sequences[index];
            sequence.kept(commit.path, &mut self.kept);
            sequence.cache.prepare(&self.kept, sequence.committed)?;
        }
        for commit in commits {
            let index = self.index(commit.seq)?;
            let sequence = &mut self.sequences[index];
            // A node lies no deeper than its index, so no row is overwritten before it has moved.
            sequence.kept(commit.path, &mut self.kept);
            sequence.cache.gather(&self.kept, sequence.committed)?;
            sequence.committed += self.kept.len();
            sequence.pending = None;
        }
        Ok(())
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        let index = self.index(seq)?;
        let sequence = &mut self.sequences[index];
        let committed = sequence.committed;
        if len > committed {
            return Err(VerifyError::TruncateBeyond { seq, committed, len });
        }
        sequence.committed = len;
        sequence.pending = None;
        Ok(())
    }
}
