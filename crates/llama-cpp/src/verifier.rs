//! The [`Verifier`]: sequences, passes, commits.

use std::fmt;
use std::sync::Arc;

use tracing::debug_span;
use upcycle_core::views::{LeafPaths, positions};
use upcycle_core::{Commit, Limits, Row, SeqId, Shape, Step, TopK, Verifier, VerifyError, check_commits};

use crate::branches::Branches;
use crate::context::Context;
use crate::ids::Ids;
use crate::replay::Replay;
use crate::{LoadError, Model, PassError};

/// Sequences open at once where each has a state of its own in memory.
const MAX_STATES: u16 = 8;
/// The name that errors carry.
const NAME: &str = "llama-cpp";

/// Verifies draft trees with a [`Model`] in llama.cpp.
///
/// Memory: the cache of the whole context is taken when the verifier is made; the logits of the widest pass so far stay.
pub struct LlamaVerifier {
    context: Context,
    limits: Limits,
    ids: Ids,
    sequences: Vec<Sequence>,
    next: u64,
    /// The rows that the last forward was asked for, rising, and their places in the batch.
    scored: Vec<(Row, usize)>,
    paths: LeafPaths,
    positions: Vec<u32>,
    of_node: Vec<Vec<i32>>,
}

/// An open sequence.
#[derive(Debug)]
struct Sequence {
    id: SeqId,
    committed: usize,
    /// The parents of the tree that waits for a commit.
    pending: Option<Vec<u32>>,
    memory: Memory,
}

/// What llama.cpp holds of a sequence.
#[derive(Debug)]
enum Memory {
    Branches(Branches),
    Replay(Replay),
}

impl Sequence {
    /// Rows in the cache that wait for a commit.
    fn waiting(&self) -> usize {
        self.pending.as_ref().map_or(0, Vec::len)
    }
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
    /// [`LoadError::ContextMemory`], [`LoadError::Context`], [`LoadError::Lora`].
    pub fn new(model: Arc<Model>) -> Result<Self, LoadError> {
        let support = model.support();
        let tree = support.shape() == Shape::Tree;
        let ids = if tree { model.n_seq_max() } else { MAX_STATES.min(model.n_seq_max()) };
        // Each open sequence holds an id, and leaves take theirs from what is left.
        let max_seqs = if tree { ids / 4 } else { ids };
        let limits = Limits {
            vocab: model.vocab(),
            max_context: model.max_context(),
            max_rows: model.max_rows(),
            // Chains of all sequences at once are as many leaves.
            max_leaves: usize::from(if tree { ids - max_seqs } else { ids }),
            max_seqs: max_seqs.into(),
            support,
        };
        let context = model.context(ids)?;
        Ok(Self {
            context,
            limits,
            ids: Ids::new(ids),
            sequences: Vec::new(),
            next: 0,
            scored: Vec::new(),
            paths: LeafPaths::default(),
            positions: Vec::new(),
            of_node: Vec::new(),
        })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        self.context.model()
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

    /// Makes sure of cells and ids for the steps. What waits for a commit in their sequences goes before the pass only where
    /// there is not enough of either.
    fn make_room(&mut self, steps: &[Step<'_>]) -> Result<(), PassError> {
        let rows: usize = steps.iter().map(|step| step.tree.len()).sum();
        let of_steps = |sequence: &&mut Sequence| steps.iter().any(|step| step.seq == sequence.id);
        let cells = self.context.cells();
        let used: usize = self.sequences.iter().map(|sequence| sequence.committed + sequence.waiting()).sum();
        let droppable: usize =
            self.sequences.iter_mut().filter(of_steps).map(|sequence| sequence.waiting()).sum();
        if used - droppable + rows > cells {
            return Err(PassError::CellsUsedUp { used: used - droppable, rows, cells });
        }
        let leaves: usize = steps.iter().map(|step| step.tree.leaves()).sum();
        let tree = self.limits.support.shape() == Shape::Tree;
        // Counted before anything goes, so that an error changes nothing.
        if tree && self.obtainable_ids(steps) < leaves {
            return Err(PassError::IdsUsedUp { ids: self.ids.all() });
        }
        let tight = tree && !self.collect_ids(steps, leaves)?;
        if used + rows > cells || tight {
            let Self { context, sequences, .. } = self;
            for sequence in sequences.iter_mut().filter(of_steps) {
                sequence.pending = None;
                if let Memory::Branches(branches) = &mut sequence.memory {
                    branches.drop_pending(context, sequence.committed)?;
                }
            }
        }
        if tight && !self.collect_ids(steps, leaves)? {
            return Err(PassError::IdsUsedUp { ids: self.ids.all() });
        }
        Ok(())
    }

    /// Ids that the steps could have: free and spare ones, and those of what waits in their own sequences.
    fn obtainable_ids(&self, steps: &[Step<'_>]) -> usize {
        let of = |sequence: &Sequence| match &sequence.memory {
            Memory::Branches(branches) if steps.iter().any(|step| step.seq == sequence.id) => {
                branches.spare() + branches.waiting()
            }
            Memory::Branches(branches) => branches.spare(),
            Memory::Replay(_) => 0,
        };
        self.ids.free() + self.sequences.iter().map(of).sum::<usize>()
    }

    /// Takes spare ids of sequences that have more than they need, until there are enough for `leaves`; whether there are.
    fn collect_ids(&mut self, steps: &[Step<'_>], leaves: usize) -> Result<bool, PassError> {
        let Self { context, sequences, ids, .. } = self;
        let need = |sequence: &Sequence| {
            let step = steps.iter().find(|step| step.seq == sequence.id);
            step.map_or(0, |step| step.tree.leaves())
        };
        let mut held = 0;
        for sequence in sequences.iter() {
            if let Memory::Branches(branches) = &sequence.memory {
                held += branches.spare().min(need(sequence));
            }
        }
        let missing = leaves - held;
        for sequence in sequences.iter_mut() {
            let need = need(sequence);
            let Memory::Branches(branches) = &mut sequence.memory else { continue };
            while ids.free() < missing && branches.spare() > need && branches.give_up(context, ids)? {}
        }
        Ok(ids.free() >= missing)
    }

    /// Fills the batch with the steps.
    fn lay_out(&mut self, steps: &[Step<'_>], top: &TopK) -> Result<(), PassError> {
        // Filling a cache anew needs the batch, and comes first.
        for step in steps {
            let sequence = self.sequences.iter_mut().find(|sequence| sequence.id == step.seq);
            if let Some(Sequence { memory: Memory::Replay(replay), .. }) = sequence {
                replay.refresh(&mut self.context)?;
            }
        }
        self.context.clear();
        let mut first = 0;
        for (number, step) in steps.iter().enumerate() {
            let Self { context, sequences, ids, .. } = self;
            let Some(sequence) = sequences.iter_mut().find(|sequence| sequence.id == step.seq) else {
                continue;
            };
            // Of a chain, all nodes carry one id.
            let chain = match &mut sequence.memory {
                Memory::Branches(branches) => {
                    self.paths.rebuild(step.tree);
                    let tree = (step.tree, &self.paths);
                    branches.begin(context, ids, tree, sequence.committed, &mut self.of_node)?;
                    None
                }
                Memory::Replay(replay) => {
                    replay.unknown();
                    Some([replay.id()])
                }
            };
            positions(step.tree, sequence.committed, &mut self.positions);
            let mut wanted = top.nodes(number).peekable();
            for (node, (&token, &position)) in step.tree.tokens().iter().zip(&self.positions).enumerate() {
                let asked = wanted.next_if_eq(&node).is_some();
                if asked {
                    self.scored.push((Row { step: number, node }, first + node));
                }
                let ids = match &chain {
                    Some(id) => &id[..],
                    None => &self.of_node[node][..],
                };
                context.push(token, position as usize, ids, asked)?;
            }
            first += step.tree.len();
        }
        Ok(())
    }

    /// Lays the steps out, scores them and ranks the rows that were asked for.
    fn score(&mut self, steps: &[Step<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        self.lay_out(steps, top).map_err(|source| failed("lay out a pass", source))?;
        self.context.decode().map_err(|source| failed("score a pass", source))?;
        for &(row, place) in &self.scored {
            top.rank(row, self.context.logits(place))?;
        }
        Ok(())
    }

    /// Takes back what a failed pass has left in the cache.
    fn abandon(&mut self, steps: &[Step<'_>]) -> Result<(), PassError> {
        let Self { context, sequences, .. } = self;
        for sequence in
            sequences.iter_mut().filter(|sequence| steps.iter().any(|step| step.seq == sequence.id))
        {
            match &mut sequence.memory {
                Memory::Branches(branches) => branches.abandon(context, sequence.committed)?,
                Memory::Replay(replay) => replay.unknown(),
            }
        }
        Ok(())
    }

    /// The pass is over: its rows wait for a commit.
    fn succeed(&mut self, steps: &[Step<'_>]) -> Result<(), PassError> {
        let Self { context, sequences, .. } = self;
        for step in steps {
            let Some(sequence) = sequences.iter_mut().find(|sequence| sequence.id == step.seq) else {
                continue;
            };
            match &mut sequence.memory {
                Memory::Branches(branches) => branches.succeed(context, sequence.committed)?,
                Memory::Replay(replay) => replay.succeed(step.tree.tokens()),
            }
            let parents = sequence.pending.get_or_insert_default();
            parents.clear();
            parents.extend_from_slice(step.tree.parents());
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
        self.model().row_tolerance()
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
        self.sequences.push(Sequence { id, committed: 0, pending: None, memory });
        Ok(id)
    }

    fn close(&mut self, seq: SeqId) {
        let Ok(index) = self.index(seq) else { return };
        let Self { context, ids, .. } = self;
        let closed = match self.sequences.remove(index).memory {
            Memory::Branches(branches) => branches.close(context, ids),
            Memory::Replay(replay) => context.drop_from(replay.id(), 0).map(|()| ids.give_back(replay.id())),
        };
        if let Err(error) = closed {
            tracing::warn!(%error, "the cells of {seq} are not freed");
        }
    }

    fn forward(&mut self, steps: &[Step<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let rows = steps.iter().map(|step| step.tree.len()).sum::<usize>();
        let _span = debug_span!("forward", sequences = steps.len(), rows).entered();
        self.scored.clear();
        self.limits.check_steps(steps, |seq| self.committed(seq))?;
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
            let pending = self.sequences[self.index(seq)?].pending.as_deref();
            pending.ok_or(VerifyError::NothingToCommit { seq })
        })?;
        for commit in commits {
            let index = self.index(commit.seq)?;
            let Self { context, sequences, .. } = self;
            let sequence = &mut sequences[index];
            sequence.pending = None;
            match &mut sequence.memory {
                Memory::Branches(branches) => {
                    let kept = branches.commit(context, commit.path, sequence.committed);
                    kept.map_err(|source| failed("keep a path", source))?;
                }
                Memory::Replay(replay) => replay.commit(commit.path.len()),
            }
            sequence.committed += commit.path.len();
        }
        Ok(())
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        let index = self.index(seq)?;
        let Self { context, sequences, .. } = self;
        let sequence = &mut sequences[index];
        let committed = sequence.committed;
        if len > committed {
            return Err(VerifyError::TruncateBeyond { seq, committed, len });
        }
        match &mut sequence.memory {
            Memory::Branches(branches) => {
                let cut = branches.truncate(context, committed, len);
                cut.map_err(|source| failed("truncate", source))?;
            }
            Memory::Replay(replay) => replay.truncate(len),
        }
        sequence.committed = len;
        sequence.pending = None;
        Ok(())
    }
}
