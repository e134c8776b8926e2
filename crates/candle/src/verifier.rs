//! The [`Verifier`]: sequences, passes, commits.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use tracing::debug_span;
use upcycle_core::{
    Commit, Limits, Row, SeqId, Support, TopK, TreeInput, Verifier, VerifyError, check_commits,
};

use crate::cache::Cache;
use crate::forward::{Failure, PassInput, forward};
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
/// logits of the rows that the last pass was asked for.
pub struct CandleVerifier {
    model: Arc<Model>,
    limits: Limits,
    sequences: Vec<Sequence>,
    next: u64,
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
    cache: Cache,
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
        Self { model, limits, sequences: Vec::new(), next: 0, scored: Vec::new(), logits: Vec::new() }
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

    /// Grows the caches for `inputs`, runs the pass and ranks its rows.
    fn run(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let mut pass = Vec::with_capacity(inputs.len());
        let mut wanted = Vec::new();
        let mut first_row = 0;
        for (number, &TreeInput { seq, tree, .. }) in inputs.iter().enumerate() {
            let index = self.index(seq)?;
            let sequence = &mut self.sequences[index];
            let first = sequence.free_slot(tree.len());
            let reserved = sequence.cache.reserve(first + tree.len());
            reserved.map_err(|source| failed("reserve memory for keys and values", source))?;
            pass.push(PassInput { tree, cache: index, committed: sequence.committed, first });
            for node in top.nodes(number) {
                self.scored.push(Row { input: number, node });
                wanted.push(first_row + node as u32);
            }
            first_row += tree.len() as u32;
        }
        let caches: Vec<_> = self.sequences.iter().map(|sequence| &sequence.cache).collect();
        forward(&self.model, &pass, &caches, &wanted, &mut self.logits).map_err(|failure| match failure {
            Failure::NotFinite { row } => VerifyError::NotFinite { row: place(inputs, row) },
            Failure::Device(source) => failed("run a pass", source),
        })?;
        for (&row, logits) in self.scored.iter().zip(self.logits.chunks_exact(self.limits.vocab)) {
            top.rank(row, logits)?;
        }
        Ok(())
    }
}

fn failed(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> VerifyError {
    VerifyError::backend("candle", doing, source)
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

impl Verifier for CandleVerifier {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn row_tolerance(&self) -> f32 {
        self.model.tolerance
    }

    fn engine(&self) -> String {
        format!("candle's tensors on {}", self.model.device_name())
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        if self.sequences.len() >= self.limits.max_seqs {
            return Err(VerifyError::TooManySequences { max: self.limits.max_seqs });
        }
        let id = SeqId::new(self.next);
        self.next += 1;
        let cache = Cache::new(self.model.kv_shape(), &self.model.device);
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
        let outcome = self.run(inputs, top);
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
        // Everything that may fail for want of memory comes first, so that an error changes no sequence.
        for commit in commits {
            let index = self.index(commit.seq)?;
            let Sequence { cache, pending, committed, .. } = &mut self.sequences[index];
            let first = pending.as_ref().map_or(*committed, |pending| pending.first);
            let from: Vec<u32> = commit.path.iter().map(|node| (first + node.index()) as u32).collect();
            cache.copy(&from, *committed).map_err(|source| failed("keep accepted rows", source))?;
        }
        for commit in commits {
            let index = self.index(commit.seq)?;
            let Sequence { cache, pending, committed, .. } = &mut self.sequences[index];
            cache.place(*committed).map_err(|source| failed("keep accepted rows", source))?;
            *committed += commit.path.len();
            *pending = None;
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
