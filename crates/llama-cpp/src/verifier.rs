//! The [`Verifier`]: sequences, passes, commits.

use std::fmt;
use std::sync::Arc;

use tracing::debug_span;
use upcycle_core::tree_masks::{LeafPaths, positions};
use upcycle_core::{
    Commit, Limits, Row, SeqId, Shape, TopK, TreeInput, Verifier, VerifyError, check_commits,
};

use crate::branches::Branches;
use crate::context::Context;
use crate::ids::Ids;
use crate::order::Order;
use crate::replay::Replay;
use crate::sequence::{Memory, Sequence};
use crate::{LoadError, Model, PassError, exact};

/// Sequences open at once where each has a state of its own in memory.
const MAX_STATES: u16 = 8;
/// The name that errors carry.
const NAME: &str = "llama-cpp";

/// Verifies draft trees with a [`Model`] in llama.cpp.
///
/// Memory: the cache of the whole context is taken when the verifier is made; the logits of the widest pass so far stay.
pub struct LlamaVerifier {
    pub(crate) context: Context,
    pub(crate) limits: Limits,
    pub(crate) ids: Ids,
    pub(crate) sequences: Vec<Sequence>,
    next: u64,
    /// The rows that the last forward was asked for, rising, and their places in the batch.
    scored: Vec<(Row, usize)>,
    paths: LeafPaths,
    positions: Vec<u32>,
    order: Order,
    wanted: Vec<bool>,
    of_node: Vec<Vec<i32>>,
}

impl fmt::Debug for LlamaVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LlamaVerifier")
            .field("model", self.context.model())
            .field("limits", &self.limits)
            .field("sequences", &self.sequences.len())
            .finish_non_exhaustive()
    }
}

impl LlamaVerifier {
    /// A verifier without sequences, in a context of its own.
    ///
    /// # Errors
    /// [`LoadError::ContextMemory`], [`LoadError::Context`], [`LoadError::Lora`], [`LoadError::NotExact`].
    pub fn new(model: Arc<Model>) -> Result<Self, LoadError> {
        let support = model.support();
        let tree = support.shape() == Shape::Tree;
        let ids = if tree { model.n_seq_max() } else { MAX_STATES.min(model.n_seq_max()) };
        let exact = tree && model.exact();
        // Each open sequence holds an id, and leaves take theirs from what is left. Cells of several sequences would not stay in
        // order.
        let max_seqs = match (exact, tree) {
            (true, _) => 1,
            (false, true) => ids / 4,
            (false, false) => ids,
        };
        let mut free = Ids::new(ids);
        let beside = if model.pads() { free.take() } else { None };
        let limits = Limits {
            vocab: model.vocab(),
            max_context: model.max_context(),
            max_rows: model.max_rows(),
            // Chains of all sequences at once are as many leaves.
            max_leaves: if tree { free.free() - usize::from(max_seqs) } else { ids.into() },
            max_seqs: max_seqs.into(),
            support,
        };
        let context = model.context(ids, beside)?;
        let mut verifier = Self {
            context,
            limits,
            ids: free,
            sequences: Vec::new(),
            next: 0,
            scored: Vec::new(),
            paths: LeafPaths::default(),
            positions: Vec::new(),
            order: Order::default(),
            wanted: Vec::new(),
            of_node: Vec::new(),
        };
        if exact {
            exact::check(&mut verifier)?;
        }
        Ok(verifier)
    }

    /// Whether rows have the bits of plain decoding.
    fn exact(&self) -> bool {
        self.limits.support.shape() == Shape::Tree && self.model().exact()
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        self.context.model()
    }

    /// The committed tokens of an open sequence.
    #[must_use]
    pub fn committed(&self, seq: SeqId) -> Option<usize> {
        Some(self.sequences[self.index(seq).ok()?].committed())
    }

    fn index(&self, seq: SeqId) -> Result<usize, VerifyError> {
        let index = self.sequences.iter().position(|sequence| sequence.id == seq);
        index.ok_or(VerifyError::UnknownSequence { seq })
    }

    /// Fills the batch with the steps.
    fn lay_out(&mut self, steps: &[TreeInput<'_>], top: &TopK) -> Result<(), PassError> {
        // Filling a cache anew needs the batch, and comes first.
        for step in steps {
            let sequence = self.sequences.iter_mut().find(|sequence| sequence.id == step.seq);
            if let Some(Sequence { memory: Memory::Replay(replay), .. }) = sequence {
                replay.refresh(&mut self.context)?;
            }
        }
        self.context.clear();
        let exact = self.exact();
        for (number, step) in steps.iter().enumerate() {
            let Self { context, sequences, ids, .. } = self;
            let Some(sequence) = sequences.iter_mut().find(|sequence| sequence.id == step.seq) else {
                continue;
            };
            let (committed, cached) = (sequence.committed(), sequence.cached());
            // Of a chain, all nodes carry one id.
            let chain = match &mut sequence.memory {
                Memory::Branches(branches) => {
                    self.paths.rebuild(step.tree);
                    let tree = (step.tree, &self.paths);
                    branches.begin(context, ids, tree, cached, &mut self.of_node)?;
                    None
                }
                Memory::Replay(replay) => {
                    replay.unknown();
                    Some([replay.id()])
                }
            };
            for (at, &token) in sequence.tail().iter().enumerate() {
                context.make_room(1)?;
                context.push(token, cached + at, &self.of_node[0], false)?;
            }
            if exact {
                context.make_room(step.tree.len())?;
                self.order.depth_first(step.tree);
            } else {
                self.order.as_they_stand(step.tree);
            }
            let first = context.rows();
            positions(step.tree, committed, &mut self.positions);
            self.wanted.clear();
            self.wanted.resize(step.tree.len(), false);
            for node in top.nodes(number) {
                self.wanted[node] = true;
                self.scored.push((Row { input: number, node }, first + self.order.places()[node]));
            }
            for &node in self.order.nodes() {
                let ids = match &chain {
                    Some(id) => &id[..],
                    None => &self.of_node[node][..],
                };
                let (token, position) = (step.tree.tokens()[node], self.positions[node] as usize);
                context.push(token, position, ids, self.wanted[node])?;
            }
        }
        Ok(())
    }

    /// Lays the steps out, scores them and ranks the rows that were asked for.
    fn score(&mut self, steps: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        self.lay_out(steps, top).map_err(|source| failed("lay out a pass", source))?;
        self.context.decode().map_err(|source| failed("score a pass", source))?;
        for &(row, place) in &self.scored {
            top.rank(row, self.context.logits(place))?;
        }
        Ok(())
    }

    /// Takes back what a failed pass has left in the cache.
    fn abandon(&mut self, steps: &[TreeInput<'_>]) -> Result<(), PassError> {
        let Self { context, sequences, .. } = self;
        for sequence in
            sequences.iter_mut().filter(|sequence| steps.iter().any(|step| step.seq == sequence.id))
        {
            sequence.abandon(context)?;
        }
        Ok(())
    }

    /// The pass is over: its rows wait for a commit.
    fn succeed(&mut self, steps: &[TreeInput<'_>]) -> Result<(), PassError> {
        let exact = self.exact();
        let Self { context, sequences, order, .. } = self;
        for step in steps {
            if let Some(sequence) = sequences.iter_mut().find(|sequence| sequence.id == step.seq) {
                sequence.succeed(context, step.tree, exact.then_some(&*order))?;
            }
        }
        Ok(())
    }
}

fn failed(doing: &'static str, source: PassError) -> VerifyError {
    VerifyError::backend(NAME, doing, source)
}

impl Verifier for LlamaVerifier {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn row_tolerance(&self) -> f32 {
        if self.exact() { 0.0 } else { self.model().row_tolerance() }
    }

    fn engine(&self) -> String {
        self.model().engine().to_owned()
    }

    fn threads(&self) -> Option<usize> {
        Some(self.model().threads().1)
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        if self.sequences.len() >= self.limits.max_seqs {
            return Err(VerifyError::TooManySequences { max: self.limits.max_seqs });
        }
        let enough =
            self.ids.free() > 0 || self.collect_ids(&[], 1).map_err(|source| failed("free an id", source))?;
        let taken = self.ids.take().filter(|_| enough);
        let main = taken.ok_or_else(|| failed("open", PassError::IdsUsedUp { ids: self.ids.all() }))?;
        let id = SeqId::new(self.next);
        self.next += 1;
        let memory = match self.limits.support.shape() {
            Shape::Tree => Memory::Branches(Branches::new(main)),
            _ => Memory::Replay(Replay::new(main)),
        };
        self.sequences.push(Sequence::new(id, memory));
        Ok(id)
    }

    fn close(&mut self, seq: SeqId) {
        let Ok(index) = self.index(seq) else { return };
        let Self { context, ids, .. } = self;
        let closed = self.sequences.remove(index).close(context, ids);
        if let Err(error) = closed {
            tracing::warn!(%error, "the cells of {seq} are not freed");
        }
    }

    fn forward(&mut self, steps: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let rows = steps.iter().map(|step| step.tree.len()).sum::<usize>();
        let _span = debug_span!("forward", sequences = steps.len(), rows).entered();
        self.scored.clear();
        self.limits.check_inputs(steps, |seq| self.committed(seq))?;
        top.restart(steps, self.limits.vocab);
        self.make_room(steps).map_err(|source| failed("make room for a pass", source))?;
        if let Err(error) = self.score(steps, top) {
            self.scored.clear();
            self.abandon(steps).map_err(|source| failed("take back a failed pass", source))?;
            return Err(error);
        }
        self.succeed(steps).map_err(|source| failed("take over a pass", source))
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        let index = self.scored.binary_search_by_key(&row, |&(row, _)| row);
        let index = index.map_err(|_| VerifyError::NoSuchRow { row })?;
        Ok(self.context.logits(self.scored[index].1))
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        check_commits(commits, |seq| {
            let pending = self.sequences[self.index(seq)?].parents();
            pending.ok_or(VerifyError::NothingToCommit { seq })
        })?;
        for commit in commits {
            let index = self.index(commit.seq)?;
            let Self { context, sequences, .. } = self;
            let kept = sequences[index].commit(context, commit.path);
            kept.map_err(|source| failed("keep a path", source))?;
        }
        Ok(())
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        let index = self.index(seq)?;
        let Self { context, sequences, .. } = self;
        let sequence = &mut sequences[index];
        let committed = sequence.committed();
        if len > committed {
            return Err(VerifyError::TruncateBeyond { seq, committed, len });
        }
        sequence.truncate(context, len).map_err(|source| failed("truncate", source))
    }
}
