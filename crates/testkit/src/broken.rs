//! Wrong masks and positions, for [`NaiveVerifier::with_attention`](crate::NaiveVerifier::with_attention).
//!
//! They are errors inside a verifier, which [`Faulty`](crate::Faulty) can only imitate from outside. A test suite that
//! accepts one of them is worthless.

use upcycle_core::{DraftTree, NodeId};

use crate::attention::{Seen, ancestors};

fn at(tree: &DraftTree, node: NodeId, prefix_len: usize) -> Seen {
    let depth = u64::from(tree.depths()[node.index()]);
    Seen { position: prefix_len as u64 + depth, token: tree.tokens()[node.index()] }
}

/// Ignores the mask: a node sees every node up to itself, as under a plain causal mask.
pub fn mask_ignored(tree: &DraftTree, node: NodeId, prefix_len: usize, seen: &mut Vec<Seen>) {
    seen.extend(tree.nodes().take(node.index() + 1).map(|node| at(tree, node, prefix_len)));
}

/// Sets one wrong bit of the mask: the last node with an earlier sibling sees that sibling.
pub fn one_bit_set(tree: &DraftTree, node: NodeId, prefix_len: usize, seen: &mut Vec<Seen>) {
    let earlier = |node: NodeId| tree.children(tree.parent(node)?).next().filter(|&first| first != node);
    if tree.nodes().filter(|&node| earlier(node).is_some()).last() == Some(node) {
        seen.extend(earlier(node).map(|earlier| at(tree, earlier, prefix_len)));
    }
    ancestors(tree, node, prefix_len, seen);
}

/// Clears one bit of the mask: the last node of a tree that branches does not see its parent.
pub fn one_bit_cleared(tree: &DraftTree, node: NodeId, prefix_len: usize, seen: &mut Vec<Seen>) {
    ancestors(tree, node, prefix_len, seen);
    let hit = tree.leaves() > 1 && node.index() + 1 == tree.len();
    if let (true, Some(parent)) = (hit, seen.len().checked_sub(2)) {
        seen.remove(parent);
    }
}

/// Positions are off by one where tokens are committed before the tree.
pub fn position_off_by_one(tree: &DraftTree, node: NodeId, prefix_len: usize, seen: &mut Vec<Seen>) {
    let start = seen.len();
    ancestors(tree, node, prefix_len, seen);
    for seen in &mut seen[start..] {
        seen.position += u64::from(prefix_len > 0);
    }
}
