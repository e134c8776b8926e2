//! The cells of a sequence whose trees are scored: one id carries the committed rows, and each leaf of a tree has an id.

use upcycle_core::tree_masks::LeafPaths;
use upcycle_core::{DraftTree, NodeId};

use crate::context::Context;
use crate::error::PassError;
use crate::seq_ids::SeqIds;

/// The ids of a sequence.
#[derive(Debug)]
pub(crate) struct Branches {
    /// Carries the committed rows and nothing else.
    main: i32,
    /// Carry some of the committed rows and nothing else.
    spare: Vec<Leaf>,
    /// Carry the committed rows, and a path of the pending tree.
    pending: Vec<Leaf>,
    /// Carry the committed rows, and a path of the tree that is being scored.
    pass: Vec<Leaf>,
}

/// The id of a leaf.
#[derive(Clone, Debug)]
struct Leaf {
    id: i32,
    /// It carries the committed rows before this position.
    synced: usize,
    /// It carries the rows of this path; empty for a spare id.
    path: Vec<NodeId>,
}

impl Branches {
    pub(crate) fn new(main: i32) -> Self {
        Self { main, spare: Vec::new(), pending: Vec::new(), pass: Vec::new() }
    }

    /// The number of ids that another sequence could have.
    pub(crate) fn spare_ids(&self) -> usize {
        self.spare.len()
    }

    /// The number of ids of the pending tree.
    pub(crate) fn pending_ids(&self) -> usize {
        self.pending.len()
    }

    /// Releases a spare id. False if there is none.
    pub(crate) fn release_spare(
        &mut self,
        context: &mut Context,
        ids: &mut SeqIds,
    ) -> Result<bool, PassError> {
        let Some(leaf) = self.spare.pop() else { return Ok(false) };
        context.drop_from(leaf.id, 0)?;
        ids.release(leaf.id);
        Ok(true)
    }

    /// Takes an id for each path of a tree after `committed` rows, and writes the ids of each node to `ids_of_node`. There must
    /// be enough ids.
    pub(crate) fn begin_pass(
        &mut self,
        context: &mut Context,
        ids: &mut SeqIds,
        (tree, paths): (&DraftTree, &LeafPaths),
        committed: usize,
        ids_of_node: &mut Vec<Vec<i32>>,
    ) -> Result<(), PassError> {
        ids_of_node.resize_with(ids_of_node.len().max(tree.len()), Vec::new);
        ids_of_node[..tree.len()].iter_mut().for_each(Vec::clear);
        // The ids that carry most rows come last, and are taken first.
        self.spare.sort_unstable_by_key(|leaf| leaf.synced);
        for path in paths.iter() {
            let mut leaf = match self.spare.pop() {
                Some(leaf) => leaf,
                None => Leaf { id: ids.take()?, synced: 0, path: Vec::new() },
            };
            context.share(self.main, leaf.id, leaf.synced, committed);
            leaf.synced = committed;
            leaf.path.clear();
            leaf.path.extend_from_slice(path);
            for node in path {
                ids_of_node[node.index()].push(leaf.id);
            }
            self.pass.push(leaf);
        }
        Ok(())
    }

    /// Frees the rows of a pass that failed.
    pub(crate) fn discard_pass(&mut self, context: &mut Context, committed: usize) {
        drop_rows(context, &mut self.pass, &mut self.spare, committed);
    }

    /// Commits the first `rows` rows of a pass that succeeded. They precede the tree and follow `committed` rows.
    pub(crate) fn commit_prefix(&mut self, context: &mut Context, committed: usize, rows: usize) {
        if let Some(leaf) = self.pass.first() {
            context.share(leaf.id, self.main, committed, committed + rows);
        }
        self.pass.iter_mut().for_each(|leaf| leaf.synced = committed + rows);
    }

    /// Makes the rows of a pass that succeeded the pending ones, and frees those that were pending.
    pub(crate) fn finish_pass(&mut self, context: &mut Context, committed: usize) {
        self.drop_pending(context, committed);
        std::mem::swap(&mut self.pending, &mut self.pass);
    }

    /// Frees the pending rows.
    pub(crate) fn drop_pending(&mut self, context: &mut Context, committed: usize) {
        drop_rows(context, &mut self.pending, &mut self.spare, committed);
    }

    /// Appends the pending rows of `path` to `committed` rows.
    pub(crate) fn commit(&mut self, context: &mut Context, path: &[NodeId], committed: usize) {
        let whole = self.pending.iter().find(|leaf| common_prefix(&leaf.path, path) == path.len());
        if let Some(leaf) = whole {
            context.share(leaf.id, self.main, committed, committed + path.len());
        }
        // A leaf keeps its rows of the path, so that the next pass need not share them again.
        while let Some(mut leaf) = self.pending.pop() {
            let kept = common_prefix(&leaf.path, path);
            leaf.synced = committed + kept;
            if kept < leaf.path.len() {
                leaf.synced = context.shorten(leaf.id, leaf.synced);
            }
            leaf.path.clear();
            self.spare.push(leaf);
        }
    }

    /// Frees the committed rows from `len` on, and the pending rows.
    pub(crate) fn truncate(
        &mut self,
        context: &mut Context,
        committed: usize,
        len: usize,
    ) -> Result<(), PassError> {
        // First, because nothing after it can fail.
        context.drop_from(self.main, len)?;
        self.drop_pending(context, committed);
        for leaf in self.spare.iter_mut().filter(|leaf| leaf.synced > len) {
            leaf.synced = context.shorten(leaf.id, len);
        }
        Ok(())
    }

    /// Frees all cells and ids.
    pub(crate) fn close(mut self, context: &mut Context, ids: &mut SeqIds) -> Result<(), PassError> {
        context.drop_from(self.main, 0)?;
        ids.release(self.main);
        for leaf in self.spare.drain(..).chain(self.pending.drain(..)).chain(self.pass.drain(..)) {
            context.drop_from(leaf.id, 0)?;
            ids.release(leaf.id);
        }
        Ok(())
    }
}

/// Takes all rows after `committed` ones from `leaves`, which become spare.
fn drop_rows(context: &mut Context, leaves: &mut Vec<Leaf>, spare: &mut Vec<Leaf>, committed: usize) {
    while let Some(mut leaf) = leaves.pop() {
        leaf.synced = context.shorten(leaf.id, committed);
        leaf.path.clear();
        spare.push(leaf);
    }
}

/// The number of nodes that two paths from the root share.
fn common_prefix(a: &[NodeId], b: &[NodeId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
