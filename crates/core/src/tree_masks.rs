//! What backends derive from a tree: positions, ancestor sets, the additive mask, paths to the leaves.
//!
//! The backend keeps the buffers, so a pass allocates nothing once they have grown.

use crate::tree::{DraftTree, NodeId};

/// Writes the absolute position of every node, `prefix_len + depth`, into `out`, `[len]`.
pub fn positions(tree: &DraftTree, prefix_len: usize, out: &mut Vec<u32>) {
    out.clear();
    out.extend(tree.depths().iter().map(|&depth| prefix_len as u32 + depth));
}

/// For every node the set of nodes that it attends to, as a bitset: itself and its ancestors.
///
/// Node `a` is bit `a % 64` of word `a / 64` of a row of [`words`](Self::words) words.
#[derive(Clone, Debug, Default)]
pub struct AncestorSets {
    bits: Vec<u64>,
    words: usize,
}

impl AncestorSets {
    /// Computes the sets of `tree`. O(len² / 64).
    pub fn rebuild(&mut self, tree: &DraftTree) {
        self.words = tree.len().div_ceil(64);
        self.bits.clear();
        self.bits.resize(tree.len() * self.words, 0);
        for (node, &parent) in tree.parents().iter().enumerate() {
            // Parents come first, so the set of the parent is complete.
            let (before, rest) = self.bits.split_at_mut(node * self.words);
            if node > 0 {
                rest[..self.words].copy_from_slice(&before[parent as usize * self.words..][..self.words]);
            }
            rest[node / 64] |= 1 << (node % 64);
        }
    }

    /// The set of `node` as words of 64 bits, `[words]`; empty for a node that the tree lacks.
    #[must_use]
    pub fn row(&self, node: NodeId) -> &[u64] {
        self.bits.get(node.index() * self.words..).and_then(|rest| rest.get(..self.words)).unwrap_or(&[])
    }

    /// Words of 64 bits in a row: `len / 64`, rounded up.
    #[must_use]
    pub fn words(&self) -> usize {
        self.words
    }

    /// Whether `node` attends to `other`: `other` is `node` itself or one of its ancestors.
    #[must_use]
    pub fn contains(&self, node: NodeId, other: NodeId) -> bool {
        self.row(node).get(other.index() / 64).is_some_and(|word| word >> (other.index() % 64) & 1 == 1)
    }
}

/// Writes the additive attention mask, `[len, prefix_len + len]` in row-major order, into `out`. It is 0 where a node attends
/// (the prefix, its ancestors, itself) and negative infinity elsewhere.
pub fn additive_mask(tree: &DraftTree, prefix_len: usize, out: &mut Vec<f32>) {
    let width = prefix_len + tree.len();
    out.clear();
    out.resize(tree.len() * width, f32::NEG_INFINITY);
    for (node, &parent) in tree.parents().iter().enumerate() {
        let (before, rest) = out.split_at_mut(node * width);
        rest[..prefix_len].fill(0.0);
        if node > 0 {
            rest[prefix_len..width]
                .copy_from_slice(&before[parent as usize * width + prefix_len..][..tree.len()]);
        }
        rest[prefix_len + node] = 0.0;
    }
}

/// The paths from the root to each leaf, leaves in node order.
#[derive(Clone, Debug, Default)]
pub struct LeafPaths {
    nodes: Vec<NodeId>,
    ends: Vec<usize>,
}

impl LeafPaths {
    /// Computes the paths of `tree`. O(sum of their lengths).
    pub fn rebuild(&mut self, tree: &DraftTree) {
        self.nodes.clear();
        self.ends.clear();
        for leaf in tree.nodes().filter(|&node| tree.is_leaf(node)) {
            let start = self.nodes.len();
            self.nodes.extend(std::iter::successors(Some(leaf), |&node| tree.parent(node)));
            self.nodes[start..].reverse();
            self.ends.push(self.nodes.len());
        }
    }

    /// The number of leaves.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a rebuilt view always holds the root's path")]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The paths, each from the root (inclusive) down to its leaf (inclusive).
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[NodeId]> + '_ {
        self.ends.iter().enumerate().map(|(leaf, &end)| {
            let start = if leaf == 0 { 0 } else { self.ends[leaf - 1] };
            &self.nodes[start..end]
        })
    }
}
