//! The cells of one sequence where trees are scored: an id for what is committed, and one for each leaf of a tree.

use upcycle_core::tree_masks::LeafPaths;
use upcycle_core::{DraftTree, NodeId};

use crate::PassError;
use crate::context::Context;
use crate::ids::Ids;

/// A sequence's ids.
#[derive(Debug)]
pub(crate) struct Branches {
    /// Carries what is committed, and nothing else.
    main: i32,
    /// Carry a part of what is committed, and nothing else.
    spare: Vec<Leaf>,
    /// Carry all that is committed, and a path of the tree that waits for a commit.
    pending: Vec<Leaf>,
    /// The same of a tree that is being scored.
    pass: Vec<Leaf>,
}

/// The id of a leaf.
#[derive(Clone, Debug)]
struct Leaf {
    id: i32,
    /// It carries the committed rows below this position.
    synced: usize,
    /// The path of which it carries the rows; empty for a spare one.
    path: Vec<NodeId>,
}

impl Branches {
    pub(crate) fn new(main: i32) -> Self {
        Self { main, spare: Vec::new(), pending: Vec::new(), pass: Vec::new() }
    }

    /// Ids that could be given to another sequence.
    pub(crate) fn spare(&self) -> usize {
        self.spare.len()
    }

    /// Ids of the tree that waits for a commit.
    pub(crate) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Gives one of them up.
    pub(crate) fn give_up(&mut self, context: &mut Context, ids: &mut Ids) -> Result<bool, PassError> {
        let Some(leaf) = self.spare.pop() else { return Ok(false) };
        context.drop_from(leaf.id, 0)?;
        ids.give_back(leaf.id);
        Ok(true)
    }

    /// Takes an id for each path of a tree behind `committed` rows, and writes the ids of each node to `of_node`. The caller has
    /// seen to it that there are enough.
    pub(crate) fn begin(
        &mut self,
        context: &mut Context,
        ids: &mut Ids,
        (tree, paths): (&DraftTree, &LeafPaths),
        committed: usize,
        of_node: &mut Vec<Vec<i32>>,
    ) -> Result<(), PassError> {
        of_node.resize_with(of_node.len().max(tree.len()), Vec::new);
        of_node[..tree.len()].iter_mut().for_each(Vec::clear);
        // Those that carry the most need the least.
        self.spare.sort_unstable_by_key(|leaf| leaf.synced);
        for path in paths.iter() {
            let mut leaf = match self.spare.pop() {
                Some(leaf) => leaf,
                None => Leaf {
                    id: ids.take().ok_or(PassError::IdsUsedUp { ids: ids.all() })?,
                    synced: 0,
                    path: Vec::new(),
                },
            };
            context.share(self.main, leaf.id, leaf.synced, committed);
            leaf.synced = committed;
            leaf.path.clear();
            leaf.path.extend_from_slice(path);
            for node in path {
                of_node[node.index()].push(leaf.id);
            }
            self.pass.push(leaf);
        }
        Ok(())
    }

    /// The pass failed: its rows go.
    pub(crate) fn abandon(&mut self, context: &mut Context, committed: usize) -> Result<(), PassError> {
        retire(context, &mut self.pass, &mut self.spare, committed, 0)
    }

    /// Of the pass, which succeeded, the first `rows` rows behind `committed` others stand above the tree: they are kept.
    pub(crate) fn keep(&mut self, context: &mut Context, committed: usize, rows: usize) {
        if let Some(leaf) = self.pass.first() {
            context.share(leaf.id, self.main, committed, committed + rows);
        }
        self.pass.iter_mut().for_each(|leaf| leaf.synced = committed + rows);
    }

    /// The pass succeeded: its rows wait for a commit, and those that waited go.
    pub(crate) fn succeed(&mut self, context: &mut Context, committed: usize) -> Result<(), PassError> {
        self.drop_pending(context, committed)?;
        std::mem::swap(&mut self.pending, &mut self.pass);
        Ok(())
    }

    /// The rows that wait for a commit go.
    pub(crate) fn drop_pending(&mut self, context: &mut Context, committed: usize) -> Result<(), PassError> {
        retire(context, &mut self.pending, &mut self.spare, committed, 0)
    }

    /// Keeps the rows of `path`, which has been checked, behind `committed` others.
    pub(crate) fn commit(
        &mut self,
        context: &mut Context,
        path: &[NodeId],
        committed: usize,
    ) -> Result<(), PassError> {
        let whole = self.pending.iter().find(|leaf| shared(&leaf.path, path) == path.len());
        if let Some(leaf) = whole {
            context.share(leaf.id, self.main, committed, committed + path.len());
        }
        // A leaf keeps what it has of the path, so that the next pass need not give it again.
        while let Some(mut leaf) = self.pending.pop() {
            let kept = shared(&leaf.path, path);
            if kept < leaf.path.len() {
                context.drop_from(leaf.id, committed + kept)?;
            }
            leaf.synced = committed + kept;
            leaf.path.clear();
            self.spare.push(leaf);
        }
        Ok(())
    }

    /// Forgets what is committed from `len` on, and what waits.
    pub(crate) fn truncate(
        &mut self,
        context: &mut Context,
        committed: usize,
        len: usize,
    ) -> Result<(), PassError> {
        self.drop_pending(context, committed)?;
        context.drop_from(self.main, len)?;
        for leaf in self.spare.iter_mut().filter(|leaf| leaf.synced > len) {
            context.drop_from(leaf.id, len)?;
            leaf.synced = len;
        }
        Ok(())
    }

    /// Frees all cells and ids.
    pub(crate) fn close(mut self, context: &mut Context, ids: &mut Ids) -> Result<(), PassError> {
        context.drop_from(self.main, 0)?;
        ids.give_back(self.main);
        for leaf in self.spare.drain(..).chain(self.pending.drain(..)).chain(self.pass.drain(..)) {
            context.drop_from(leaf.id, 0)?;
            ids.give_back(leaf.id);
        }
        Ok(())
    }
}

/// Takes the rows from `committed + kept` on from `leaves`, which become spare.
fn retire(
    context: &mut Context,
    leaves: &mut Vec<Leaf>,
    spare: &mut Vec<Leaf>,
    committed: usize,
    kept: usize,
) -> Result<(), PassError> {
    while let Some(mut leaf) = leaves.pop() {
        context.drop_from(leaf.id, committed + kept)?;
        leaf.synced = committed + kept;
        leaf.path.clear();
        spare.push(leaf);
    }
    Ok(())
}

/// Nodes that two paths from the root share.
fn shared(a: &[NodeId], b: &[NodeId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
