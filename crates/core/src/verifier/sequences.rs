//! The bookkeeping of open sequences that every backend needs.

use super::commit::{Commit, check_commits};
use super::error::VerifyError;
use super::limits::Limits;
use crate::input::{RowLayout, TreeInput};
use crate::token::{Row, SeqId};
use crate::tree::NodeId;

/// The open sequences of a backend, each with the backend's own state `S` (for example its KV cache).
///
/// The table assigns ids, counts committed tokens and keeps the *pending* trees: those that were scored and not yet
/// committed. It refuses every call that the trait [`Verifier`](crate::Verifier) says is an error. A backend that uses it
/// implements only the arithmetic:
///
/// - `forward` calls [`begin_pass`](Self::begin_pass), computes, and calls [`finish_pass`](Self::finish_pass) once nothing can fail any
///   more. If it returns early, every sequence still has its earlier pending tree.
/// - `logits` finds its row with [`row_index`](Self::row_index).
/// - `commit` and `truncate` pass a closure that changes the state. The table checks the call before the closure, and
///   updates its counts after it. The closure of a commit cannot fail; what can fail goes before it, to
///   [`prepare_commit`](Self::prepare_commit).
///
/// Lookups are linear in the number of open sequences, which is small. Nothing is allocated once the trees of a
/// sequence have reached their largest size.
///
/// ```
/// use upcycle_core::{Commit, DraftTree, Limits, NodeId, RowSelection, SequenceTable, Support, TreeInput};
///
/// let limits = Limits {
///     vocab: 10, max_context: 100, max_rows: 8, max_leaves: 8, max_seqs: 2, support: Support::Tree,
/// };
/// // The state of a sequence: its committed tokens, and those of the pending tree.
/// let mut sequences: SequenceTable<(Vec<u32>, Vec<u32>)> = SequenceTable::new(limits);
/// let seq = sequences.open((Vec::new(), Vec::new()))?;
///
/// let tree = DraftTree::chain(&[7, 8, 9]);
/// let inputs = [TreeInput { seq, tree: &tree, rows: RowSelection::All }];
/// sequences.begin_pass(&inputs)?;
/// sequences.get_mut(seq)?.state.1 = tree.tokens().to_vec(); // here a backend runs its model
/// sequences.finish_pass(&inputs);
///
/// let path = [NodeId::ROOT, NodeId::new(1)];
/// sequences.commit(&[Commit { seq, path: &path }], |(tokens, scored), kept| {
///     tokens.extend(kept.path.iter().map(|node| scored[node.index()]));
/// })?;
/// assert_eq!(sequences.get(seq)?.committed(), 2);
/// assert_eq!(sequences.get(seq)?.state.0, [7, 8]);
/// # Ok::<(), upcycle_core::VerifyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct SequenceTable<S> {
    limits: Limits,
    open: Vec<Sequence<S>>,
    next_id: u64,
    /// The rows of the last pass that was begun; readable once it is finished.
    rows: RowLayout,
    finished: bool,
}

/// An open sequence of a [`SequenceTable`].
#[derive(Clone, Debug)]
pub struct Sequence<S> {
    id: SeqId,
    committed: usize,
    pending: Pending,
    /// What the backend keeps for this sequence.
    pub state: S,
}

/// The pending tree: scored and not yet committed. Its buffer is reused.
#[derive(Clone, Debug, Default)]
struct Pending {
    exists: bool,
    first_slot: usize,
    parents: Vec<u32>,
}

/// The part of a pending tree that a commit keeps.
#[derive(Clone, Copy, Debug)]
pub struct AcceptedRows<'a> {
    /// The sequence.
    pub seq: SeqId,
    /// Tokens committed before.
    pub committed: usize,
    /// The accepted nodes, from the root down; node `i` becomes committed token `committed + i`.
    pub path: &'a [NodeId],
    /// The slot of the tree's root; see [`Sequence::free_slot`].
    pub first_slot: usize,
}

impl AcceptedRows<'_> {
    /// For caches with slots: the moves `(from, to)` of the accepted rows, in ascending order. No row moves to a higher
    /// slot, so rows can be moved one after the other in place.
    pub fn moves(&self) -> impl Iterator<Item = (usize, usize)> {
        let Self { committed, first_slot, .. } = *self;
        self.path.iter().enumerate().map(move |(depth, node)| (first_slot + node.index(), committed + depth))
    }
}

impl<S> Sequence<S> {
    /// The sequence's id.
    #[must_use]
    pub fn id(&self) -> SeqId {
        self.id
    }

    /// The committed tokens.
    #[must_use]
    pub fn committed(&self) -> usize {
        self.committed
    }

    /// The parents of the pending tree, `[rows]`; `None` if there is no pending tree.
    #[must_use]
    pub fn pending_parents(&self) -> Option<&[u32]> {
        self.pending.exists.then_some(&self.pending.parents[..])
    }

    /// The rows of the pending tree; 0 if there is none.
    #[must_use]
    pub fn pending_rows(&self) -> usize {
        self.pending_parents().map_or(0, <[u32]>::len)
    }

    /// For caches with slots: the slot for the root of a tree of `rows` rows. Committed token `i` is in slot `i`, and node
    /// `i` of the tree goes `i` slots after the root.
    ///
    /// The tree starts right after the committed tokens, unless it would then overwrite the pending tree. The pending tree
    /// has to survive a failed pass.
    #[must_use]
    pub fn free_slot(&self, rows: usize) -> usize {
        let Pending { exists, first_slot, ref parents } = self.pending;
        if exists && self.committed + rows > first_slot { first_slot + parents.len() } else { self.committed }
    }

    /// For caches with slots: one past the last slot that is committed or pending.
    #[must_use]
    pub fn occupied_slots(&self) -> usize {
        let pending_end =
            if self.pending.exists { self.pending.first_slot + self.pending.parents.len() } else { 0 };
        self.committed.max(pending_end)
    }

    /// Drops the pending tree.
    pub fn drop_pending(&mut self) {
        self.pending.exists = false;
    }
}

impl<S> SequenceTable<S> {
    /// A table without sequences.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, open: Vec::new(), next_id: 0, rows: RowLayout::default(), finished: false }
    }

    /// The backend's limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Fails if no further sequence can be opened. [`open`](Self::open) checks this too. Call it first if creating the
    /// state acquires a resource that would have to be released.
    ///
    /// # Errors
    /// [`VerifyError::TooManySequences`].
    pub fn check_open(&self) -> Result<(), VerifyError> {
        let max = self.limits.max_seqs;
        if self.open.len() < max { Ok(()) } else { Err(VerifyError::TooManySequences { max }) }
    }

    /// Opens an empty sequence with an id that was never used before.
    ///
    /// # Errors
    /// [`VerifyError::TooManySequences`].
    pub fn open(&mut self, state: S) -> Result<SeqId, VerifyError> {
        self.check_open()?;
        let id = SeqId::new(self.next_id);
        self.next_id += 1;
        self.open.push(Sequence { id, committed: 0, pending: Pending::default(), state });
        Ok(id)
    }

    /// Opens a sequence with the first `len` committed tokens of `seq`. `copy` makes its state from that of `seq`.
    ///
    /// # Errors
    /// [`VerifyError::TooManySequences`], [`VerifyError::UnknownSequence`], [`VerifyError::TruncateBeyond`]; the error of
    /// `copy`.
    pub fn fork(
        &mut self,
        seq: SeqId,
        len: usize,
        copy: impl FnOnce(&S) -> Result<S, VerifyError>,
    ) -> Result<SeqId, VerifyError> {
        self.check_open()?;
        let Sequence { committed, state, .. } = self.get(seq)?;
        if len > *committed {
            return Err(VerifyError::TruncateBeyond { seq, committed: *committed, len });
        }
        let state = copy(state)?;
        let forked = self.open(state)?;
        self.get_mut(forked)?.committed = len;
        Ok(forked)
    }

    /// Closes a sequence and returns its state; `None` if it is not open.
    pub fn close(&mut self, seq: SeqId) -> Option<S> {
        let index = self.index(seq).ok()?;
        Some(self.open.remove(index).state)
    }

    /// The index of an open sequence among those of [`iter`](Self::iter). Closing another one may change it.
    ///
    /// # Errors
    /// [`VerifyError::UnknownSequence`].
    pub fn index(&self, seq: SeqId) -> Result<usize, VerifyError> {
        let index = self.open.iter().position(|sequence| sequence.id == seq);
        index.ok_or(VerifyError::UnknownSequence { seq })
    }

    /// An open sequence.
    ///
    /// # Errors
    /// [`VerifyError::UnknownSequence`].
    pub fn get(&self, seq: SeqId) -> Result<&Sequence<S>, VerifyError> {
        Ok(&self.open[self.index(seq)?])
    }

    /// An open sequence, to change its state.
    ///
    /// # Errors
    /// [`VerifyError::UnknownSequence`].
    pub fn get_mut(&mut self, seq: SeqId) -> Result<&mut Sequence<S>, VerifyError> {
        let index = self.index(seq)?;
        Ok(&mut self.open[index])
    }

    /// The open sequences, in the order in which they were opened.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Sequence<S>> {
        self.open.iter()
    }

    /// The open sequences, to change their states.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = &mut Sequence<S>> {
        self.open.iter_mut()
    }

    /// Begins a pass: checks its inputs and drops the row layout of the previous pass. Pending trees stay.
    ///
    /// # Errors
    /// What [`Limits::check_inputs`] refuses.
    pub fn begin_pass(&mut self, inputs: &[TreeInput<'_>]) -> Result<(), VerifyError> {
        self.finished = false;
        let committed = |seq| self.get(seq).ok().map(Sequence::committed);
        self.limits.check_inputs(inputs, committed)?;
        self.rows.reset(inputs);
        Ok(())
    }

    /// The requested rows of the last pass that was begun, in the order of its logits.
    #[must_use]
    pub fn rows(&self) -> &RowLayout {
        &self.rows
    }

    /// Finishes the pass that was begun with these `inputs`. Its trees replace the earlier pending trees of their
    /// sequences, and its rows can be read.
    pub fn finish_pass(&mut self, inputs: &[TreeInput<'_>]) {
        for input in inputs {
            let Ok(sequence) = self.get_mut(input.seq) else { continue };
            let first_slot = sequence.free_slot(input.tree.len());
            let pending = &mut sequence.pending;
            pending.parents.clear();
            pending.parents.extend_from_slice(input.tree.parents());
            (pending.exists, pending.first_slot) = (true, first_slot);
        }
        self.finished = true;
    }

    /// The index of `row` in the logits `[rows, vocab]` of the last pass.
    ///
    /// # Errors
    /// [`VerifyError::NoSuchRow`] if it was not requested, or if the pass failed.
    pub fn row_index(&self, row: Row) -> Result<usize, VerifyError> {
        let index = self.rows.index(row).filter(|_| self.finished);
        index.ok_or(VerifyError::NoSuchRow { row })
    }

    /// The part of a commit that can fail: checks all paths, then calls `prepare` for each. Changes no count.
    ///
    /// A backend calls it before [`commit`](Self::commit) for whatever its engine may refuse: memory, copies, a command to a
    /// device. `prepare` must leave the state as useful as it was, because it may fail for a later sequence. If the engine can
    /// fail at the change itself, let `prepare` copy what is accepted, and write it to its place in the next pass.
    ///
    /// # Errors
    /// What [`check_commits`] refuses, before any call of `prepare`; the error of `prepare`.
    pub fn prepare_commit(
        &mut self,
        commits: &[Commit<'_>],
        mut prepare: impl FnMut(&mut S, AcceptedRows<'_>) -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        check_commits(commits, |seq| {
            self.get(seq)?.pending_parents().ok_or(VerifyError::NothingToCommit { seq })
        })?;
        for &Commit { seq, path } in commits {
            let Sequence { committed, pending, state, .. } = self.get_mut(seq)?;
            let rows = AcceptedRows { seq, committed: *committed, path, first_slot: pending.first_slot };
            prepare(state, rows)?;
        }
        Ok(())
    }

    /// Commits paths. Checks all of them, then calls `keep` for each, then updates the counts and drops the pending trees.
    ///
    /// `keep` cannot fail, so that a commit changes all of its sequences or none.
    ///
    /// # Errors
    /// What [`check_commits`] refuses, before any call of `keep`.
    pub fn commit(
        &mut self,
        commits: &[Commit<'_>],
        mut keep: impl FnMut(&mut S, AcceptedRows<'_>),
    ) -> Result<(), VerifyError> {
        self.prepare_commit(commits, |state, rows| {
            keep(state, rows);
            Ok(())
        })?;
        for &Commit { seq, path } in commits {
            let sequence = self.get_mut(seq)?;
            sequence.committed += path.len();
            sequence.drop_pending();
        }
        Ok(())
    }

    /// Rolls a sequence back to its first `len` tokens and drops its pending tree. `roll_back` changes the state first. If it
    /// fails, the counts stay.
    ///
    /// # Errors
    /// [`VerifyError::UnknownSequence`], [`VerifyError::TruncateBeyond`]; the error of `roll_back`.
    pub fn truncate(
        &mut self,
        seq: SeqId,
        len: usize,
        roll_back: impl FnOnce(&mut Sequence<S>) -> Result<(), VerifyError>,
    ) -> Result<(), VerifyError> {
        let sequence = self.get_mut(seq)?;
        let committed = sequence.committed;
        if len > committed {
            return Err(VerifyError::TruncateBeyond { seq, committed, len });
        }
        roll_back(sequence)?;
        sequence.committed = len;
        sequence.drop_pending();
        Ok(())
    }
}
