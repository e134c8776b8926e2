//! What llama.cpp holds of an open sequence.

use upcycle_core::{AcceptedRows, DraftTree, Sequence, TokenId};

use crate::batch_order::BatchOrder;
use crate::branches::Branches;
use crate::context::Context;
use crate::error::PassError;
use crate::replay::Replay;
use crate::seq_ids::SeqIds;

/// The cells of an open sequence.
#[derive(Debug)]
pub(crate) struct Cells {
    /// The last committed tokens, if their rows were dropped because they lay out of order. The next pass scores them again.
    uncached: Vec<TokenId>,
    /// The pending tree: scored and not yet committed.
    pending: PendingTree,
    pub(crate) memory: Memory,
}

/// How a sequence uses its cells.
#[derive(Debug)]
pub(crate) enum Memory {
    /// Trees are scored, with an id for each leaf.
    Branches(Branches),
    /// Nothing can be rolled back in part.
    Replay(Replay),
}

#[derive(Debug, Default)]
struct PendingTree {
    tokens: Vec<TokenId>,
    /// If cells are kept in order: how many cells after the committed ones each row lies.
    offsets: Option<Vec<usize>>,
}

impl Cells {
    pub(crate) fn new(memory: Memory) -> Self {
        Self { uncached: Vec::new(), pending: PendingTree::default(), memory }
    }

    /// The last committed tokens, which have no rows in the cache.
    pub(crate) fn uncached(&self) -> &[TokenId] {
        &self.uncached
    }

    /// Of `committed` tokens those that have rows in the cache.
    pub(crate) fn cached(&self, committed: usize) -> usize {
        committed - self.uncached.len()
    }

    /// Frees the cells of the pending tree.
    pub(crate) fn drop_pending(&mut self, context: &mut Context, committed: usize) {
        let cached = self.cached(committed);
        if let Memory::Branches(branches) = &mut self.memory {
            branches.drop_pending(context, cached);
        }
    }

    /// Frees the cells that a failed pass has left.
    pub(crate) fn discard_pass(&mut self, context: &mut Context, committed: usize) {
        let cached = self.cached(committed);
        match &mut self.memory {
            Memory::Branches(branches) => branches.discard_pass(context, cached),
            Memory::Replay(replay) => replay.invalidate(),
        }
    }

    /// Appends what `rows` accepts to the committed tokens.
    pub(crate) fn commit(&mut self, context: &mut Context, rows: AcceptedRows<'_>) {
        let AcceptedRows { path, committed, .. } = rows;
        let in_order = match &self.pending.offsets {
            Some(offsets) => {
                let aligned =
                    |&(depth, node): &(usize, &upcycle_core::NodeId)| offsets[node.index()] == depth;
                path.iter().enumerate().take_while(aligned).count()
            }
            None => path.len(),
        };
        let cached = self.cached(committed);
        match &mut self.memory {
            Memory::Branches(branches) => branches.commit(context, &path[..in_order], cached),
            Memory::Replay(replay) => replay.commit(path.len()),
        }
        self.uncached.extend(path[in_order..].iter().map(|node| self.pending.tokens[node.index()]));
    }

    /// Frees all cells and ids.
    pub(crate) fn close(self, context: &mut Context, ids: &mut SeqIds) -> Result<(), PassError> {
        match self.memory {
            Memory::Branches(branches) => branches.close(context, ids),
            Memory::Replay(replay) => context.drop_from(replay.id(), 0).map(|()| ids.release(replay.id())),
        }
    }
}

/// Makes the rows of a successful pass over `tree` pending. `order` is the order of its rows if cells are kept in order.
pub(crate) fn finish_pass(
    sequence: &mut Sequence<Cells>,
    context: &mut Context,
    tree: &DraftTree,
    order: Option<&BatchOrder>,
) {
    let (committed, replaces_pending) = (sequence.committed(), sequence.pending_parents().is_some());
    let Cells { uncached, pending, memory } = &mut sequence.state;
    let mut offsets = order.map(|order| order.indices().to_vec());
    match memory {
        Memory::Branches(branches) => {
            let mut cached = committed - uncached.len();
            if !replaces_pending {
                branches.commit_prefix(context, cached, uncached.len());
                cached = committed;
                uncached.clear();
            } else if let Some(offsets) = &mut offsets {
                // The earlier pending rows lie below, and will leave a gap.
                offsets.fill(usize::MAX);
            }
            branches.finish_pass(context, cached);
        }
        Memory::Replay(replay) => replay.finish_pass(tree.tokens()),
    }
    pending.tokens.clear();
    pending.tokens.extend_from_slice(tree.tokens());
    pending.offsets = offsets;
}

/// Forgets the committed tokens from `len` on, and the pending tree.
pub(crate) fn truncate(
    sequence: &mut Sequence<Cells>,
    context: &mut Context,
    len: usize,
) -> Result<(), PassError> {
    let committed = sequence.committed();
    let cells = &mut sequence.state;
    let cached = cells.cached(committed);
    let kept = cached.min(len);
    match &mut cells.memory {
        Memory::Branches(branches) => branches.truncate(context, cached, kept)?,
        Memory::Replay(replay) => replay.truncate(len),
    }
    cells.uncached.truncate(len - kept);
    Ok(())
}
