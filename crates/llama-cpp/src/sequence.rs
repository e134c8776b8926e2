//! An open sequence: what is committed to it, what waits for a commit, and what llama.cpp holds of both.

use upcycle_core::{DraftTree, NodeId, SeqId, TokenId};

use crate::PassError;
use crate::branches::Branches;
use crate::context::Context;
use crate::ids::Ids;
use crate::order::Order;
use crate::replay::Replay;

/// An open sequence.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) id: SeqId,
    /// Committed tokens that llama.cpp has rows of.
    cached: usize,
    /// The committed tokens behind those: their rows lay in cells out of order, and the next pass scores them again.
    tail: Vec<TokenId>,
    /// The tree that waits for a commit.
    pending: Option<Waiting>,
    pub(crate) memory: Memory,
}

/// What llama.cpp holds of a sequence.
#[derive(Debug)]
pub(crate) enum Memory {
    Branches(Branches),
    Replay(Replay),
}

/// A tree that waits for a commit.
#[derive(Debug, Default)]
struct Waiting {
    parents: Vec<u32>,
    tokens: Vec<TokenId>,
    /// The place of each row behind the committed ones, where rows are kept in order.
    places: Option<Vec<usize>>,
}

impl Sequence {
    pub(crate) fn new(id: SeqId, memory: Memory) -> Self {
        Self { id, cached: 0, tail: Vec::new(), pending: None, memory }
    }

    /// Committed tokens.
    pub(crate) fn committed(&self) -> usize {
        self.cached + self.tail.len()
    }

    /// Committed tokens that have rows in the cache.
    pub(crate) fn cached(&self) -> usize {
        self.cached
    }

    /// The committed tokens that have none.
    pub(crate) fn tail(&self) -> &[TokenId] {
        &self.tail
    }

    /// Rows in the cache that wait for a commit.
    pub(crate) fn waiting(&self) -> usize {
        self.pending.as_ref().map_or(0, |waiting| waiting.parents.len())
    }

    /// The parents of the tree that waits for a commit.
    pub(crate) fn parents(&self) -> Option<&[u32]> {
        Some(&self.pending.as_ref()?.parents)
    }

    /// What waits for a commit goes.
    pub(crate) fn drop_pending(&mut self, context: &mut Context) -> Result<(), PassError> {
        self.pending = None;
        match &mut self.memory {
            Memory::Branches(branches) => branches.drop_pending(context, self.cached),
            Memory::Replay(_) => Ok(()),
        }
    }

    /// Takes back what a failed pass has left in the cache.
    pub(crate) fn abandon(&mut self, context: &mut Context) -> Result<(), PassError> {
        match &mut self.memory {
            Memory::Branches(branches) => branches.abandon(context, self.cached),
            Memory::Replay(replay) => {
                replay.unknown();
                Ok(())
            }
        }
    }

    /// The pass over `tree` is over: its rows wait for a commit. Rows are kept in order if `order` is that of the pass.
    pub(crate) fn succeed(
        &mut self,
        context: &mut Context,
        tree: &DraftTree,
        order: Option<&Order>,
    ) -> Result<(), PassError> {
        let mut places = order.map(|order| order.places().to_vec());
        match &mut self.memory {
            Memory::Branches(branches) => {
                if self.pending.is_none() {
                    branches.keep(context, self.cached, self.tail.len());
                    self.cached += self.tail.len();
                    self.tail.clear();
                } else if let Some(places) = &mut places {
                    // Those that waited lie below, and leave a hole.
                    places.iter_mut().for_each(|place| *place = usize::MAX);
                }
                branches.succeed(context, self.cached)?;
            }
            Memory::Replay(replay) => replay.succeed(tree.tokens()),
        }
        let waiting = self.pending.get_or_insert_default();
        waiting.parents.clear();
        waiting.parents.extend_from_slice(tree.parents());
        waiting.tokens.clear();
        waiting.tokens.extend_from_slice(tree.tokens());
        waiting.places = places;
        Ok(())
    }

    /// Keeps the rows of `path`, which has been checked.
    pub(crate) fn commit(&mut self, context: &mut Context, path: &[NodeId]) -> Result<(), PassError> {
        let Some(waiting) = self.pending.take() else { return Ok(()) };
        let kept = match &waiting.places {
            Some(places) => {
                let in_order = |(place, node): &(usize, &NodeId)| places[node.index()] == *place;
                path.iter().enumerate().take_while(in_order).count()
            }
            None => path.len(),
        };
        match &mut self.memory {
            Memory::Branches(branches) => branches.commit(context, &path[..kept], self.cached)?,
            Memory::Replay(replay) => replay.commit(path.len()),
        }
        self.cached += kept;
        self.tail.extend(path[kept..].iter().map(|node| waiting.tokens[node.index()]));
        Ok(())
    }

    /// Forgets what waits, and what is committed from `len` on.
    pub(crate) fn truncate(&mut self, context: &mut Context, len: usize) -> Result<(), PassError> {
        let cached = self.cached.min(len);
        match &mut self.memory {
            Memory::Branches(branches) => branches.truncate(context, self.cached, cached)?,
            Memory::Replay(replay) => replay.truncate(len),
        }
        self.tail.truncate(len - cached);
        self.cached = cached;
        self.pending = None;
        Ok(())
    }

    /// Frees all cells and ids.
    pub(crate) fn close(self, context: &mut Context, ids: &mut Ids) -> Result<(), PassError> {
        match self.memory {
            Memory::Branches(branches) => branches.close(context, ids),
            Memory::Replay(replay) => context.drop_from(replay.id(), 0).map(|()| ids.give_back(replay.id())),
        }
    }
}
