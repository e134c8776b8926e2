//! Masks and positions broken on purpose, for [`NaiveVerifier::with_attention`](crate::NaiveVerifier::with_attention):
//! the very faults that [`Faulty`](crate::Faulty) can only imitate from outside. A suite that passes one of these is
//! worth nothing.

use upcycle_core::{DraftTree, NodeId};

use crate::attention::{Seen, ancestors};

fn at(tree: &DraftTree, node: NodeId, prefix_len: usize) -> Seen {
    let depth = u64::from(tree.depths()[node.index()]);
    Seen { position: prefix_len as u64 + depth, token: tree.tokens()[node.index()] }
}

/// The mask ignored: a node sees every node up to itself, as a plain causal mask would have it.
pub fn mask_ignored(tree: &DraftTree, node: NodeId, prefix_len: usize, seen: &mut Vec<Seen>) {
    seen.extend(tree.nodes().take(node.index() + 1).map(|node| at(tree, node, prefix_len)));
}

/// One bit of the mask set that should not be: the last node that has an elder sibling sees it.
pub fn one_bit_set(tree: &DraftTree, node: NodeId, prefix_len: usize, seen: &mut Vec<Seen>) {
    let elder = |node: NodeId| tree.children(tree.parent(node)?).next().filter(|&first| first != node);
    if tree.nodes().filter(|&node| elder(node).is_some()).last() == Some(node) {
        seen.extend(elder(node).map(|elder| at(tree, elder, prefix_len)));
    }
    ancestors(tree, node, prefix_len, seen);
}

/// One bit of the mask cleared that should be set: the last node of a tree that branches does not see its parent.
pub fn one_bit_cleared(tree: &DraftTree, node: NodeId, prefix_len: usize, seen: &mut Vec<Seen>) {
    ancestors(tree, node, prefix_len, seen);
    let hit = tree.leaves() > 1 && node.index() + 1 == tree.len();
    if let (true, Some(parent)) = (hit, seen.len().checked_sub(2)) {
        seen.remove(parent);
    }
}

/// Positions off by one wherever something is committed already.
pub fn position_off_by_one(tree: &DraftTree, node: NodeId, prefix_len: usize, seen: &mut Vec<Seen>) {
    let start = seen.len();
    ancestors(tree, node, prefix_len, seen);
    for seen in &mut seen[start..] {
        seen.position += u64::from(prefix_len > 0);
    }
}
