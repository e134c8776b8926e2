//! The [`Verifier`]: sequences, passes, commits.

use std::fmt;
use std::sync::Arc;

use tracing::debug_span;
use upcycle_core::{
    Commit, Limits, Row, SeqId, Support, TopK, TreeInput, Verifier, VerifyError, check_commits, tree_masks,
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
/// Memory: keys and values in `f32`, in pages of 64 tokens (2.9 MB a page for a model of 30 layers with 3 KV heads of 64), kept
/// until their sequence closes; and the logits of the rows that the last pass was asked for.
pub struct CpuVerifier {
    model: Arc<Model>,
    limits: Limits,
    sequences: Vec<Sequence>,
    next: u64,
    batch: Batch,
    scratch: Scratch,
    positions: Vec<u32>,
    /// The rows that the last pass was asked for, rising, and their logits, at least `[rows, vocab]`.
    scored: Vec<Row>,
    logits: Vec<f32>,
}

/// An open sequence.
#[derive(Debug)]
struct Sequence {
    id: SeqId,
    /// Committed tokens, in slots `0..committed` of the cache.
    committed: usize,
    cache: KvCache<f32>,
    pending: Option<Pending>,
}

/// Scored rows that wait for a commit.
#[derive(Debug)]
struct Pending {
    /// The slot of the tree's root; node `i` lies in slot `first + i`. Never below `committed`.
    first: usize,
    parents: Vec<u32>,
}

impl Sequence {
    /// Where the rows of a new tree go: behind the committed slots, and clear of pending rows, which must survive a failed pass.
    fn free_slot(&self, rows: usize) -> usize {
        match &self.pending {
            Some(pending) if self.committed + rows > pending.first => pending.first + pending.parents.len(),
            _ => self.committed,
        }
    }
}

impl fmt::Debug for CpuVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuVerifier")
            .field("limits", &self.limits)
            .field("sequences", &self.sequences.len())
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
            limits,
            sequences: Vec::new(),
            next: 0,
            batch: Batch::default(),
            scratch: Scratch::default(),
            positions: Vec::new(),
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

    /// Lays out the rows of `inputs`, and grows the caches for them.
    fn lay_out(&mut self, inputs: &[TreeInput<'_>], top: &TopK) -> Result<(), VerifyError> {
        self.batch.clear();
        for (number, input) in inputs.iter().enumerate() {
            let index = self.index(input.seq)?;
            let sequence = &mut self.sequences[index];
            let (tree, committed) = (input.tree, sequence.committed);
            let first = sequence.free_slot(tree.len());
            sequence.cache.reserve(first + tree.len()).map_err(|source| {
                VerifyError::backend("cpu", "reserve memory for keys and values", source)
            })?;
            let first_row = self.batch.tokens.len();
            self.batch.tokens.extend_from_slice(tree.tokens());
            tree_masks::positions(tree, committed, &mut self.positions);
            self.batch.positions.extend_from_slice(&self.positions);
            self.batch.slots.extend((first..first + tree.len()).map(|slot| (index, slot)));
            self.batch.push_visible(tree.parents(), committed, first);
            for node in top.nodes(number) {
                self.scored.push(Row { input: number, node });
                self.batch.wanted.push(first_row + node);
            }
        }
        Ok(())
    }

    /// Runs the pass that is laid out and ranks its rows.
    fn run(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let mut caches: Vec<_> = self.sequences.iter_mut().map(|sequence| &mut sequence.cache).collect();
        forward(&self.model, &self.batch, &mut caches, &mut self.scratch, &mut self.logits)
            .map_err(|NotFinite { row }| VerifyError::NotFinite { row: place(inputs, row) })?;
        for (&row, logits) in self.scored.iter().zip(self.logits.chunks_exact(self.limits.vocab)) {
            top.rank(row, logits)?;
        }
        Ok(())
    }
}

/// The input and node of row `row` of a pass.
fn place(inputs: &[TreeInput<'_>], row: usize) -> Row {
    let mut node = row;
    for (input, TreeInput { tree, .. }) in inputs.iter().enumerate() {
        if node < tree.len() {
            return Row { input, node };
        }
        node -= tree.len();
    }
    Row { input: inputs.len(), node }
}

impl Verifier for CpuVerifier {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn engine(&self) -> String {
        format!("own kernels, {}", self.model.instruction_set())
    }

    fn threads(&self) -> Option<usize> {
        Some(self.model.threads())
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        if self.sequences.len() >= self.limits.max_seqs {
            return Err(VerifyError::TooManySequences { max: self.limits.max_seqs });
        }
        let id = SeqId::new(self.next);
        self.next += 1;
        let cache = KvCache::new(self.model.kv_shape());
        self.sequences.push(Sequence { id, committed: 0, cache, pending: None });
        Ok(id)
    }

    fn close(&mut self, seq: SeqId) {
        self.sequences.retain(|sequence| sequence.id != seq);
    }

    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let rows = inputs.iter().map(|input| input.tree.len()).sum::<usize>();
        let _span = debug_span!("forward", sequences = inputs.len(), rows).entered();
        self.scored.clear();
        self.limits.check_inputs(inputs, |seq| self.committed(seq))?;
        top.restart(inputs, self.limits.vocab);
        if inputs.is_empty() {
            return Ok(());
        }
        let outcome = self.lay_out(inputs, top).and_then(|()| self.run(inputs, top));
        if outcome.is_err() {
            self.scored.clear();
            return outcome;
        }
        for input in inputs {
            let index = self.index(input.seq)?;
            let sequence = &mut self.sequences[index];
            let first = sequence.free_slot(input.tree.len());
            let mut parents = sequence.pending.take().map_or_else(Vec::new, |pending| pending.parents);
            parents.clear();
            parents.extend_from_slice(input.tree.parents());
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
        for commit in commits {
            let index = self.index(commit.seq)?;
            let sequence = &mut self.sequences[index];
            let Some(Pending { first, .. }) = sequence.pending.take() else { continue };
            // A node's depth is at most its index, so no row is overwritten before it has moved.
            for node in commit.path {
                sequence.cache.relocate(first + node.index(), sequence.committed);
                sequence.committed += 1;
            }
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
