//! What may be drafted: how many nodes, how broad, how deep.

/// What kinds of tree fit a [`TreeLimits`] or a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shape {
    /// The root alone: plain decoding.
    Plain,
    /// One path: no node has two children.
    Chain,
    /// Any tree.
    Tree,
}

/// What may be drafted now: the least of the budget, the backend's limits and the context left.
///
/// A tree keeps its limits, so no drafter can overdraw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeLimits {
    /// Draft nodes, the root not counted.
    pub nodes: usize,
    /// Leaves; a tree always has one (the root, while it is alone).
    pub leaves: usize,
    /// The depth of the deepest node; the root has depth 0.
    pub depth: usize,
}

impl TreeLimits {
    /// Any tree.
    pub const UNBOUNDED: TreeLimits = TreeLimits { nodes: usize::MAX, leaves: usize::MAX, depth: usize::MAX };

    /// The root alone: plain decoding.
    pub const NONE: TreeLimits = TreeLimits { nodes: 0, leaves: 1, depth: 0 };

    /// What fits both `self` and `other`.
    #[must_use]
    pub fn and(self, other: TreeLimits) -> TreeLimits {
        TreeLimits {
            nodes: self.nodes.min(other.nodes),
            leaves: self.leaves.min(other.leaves),
            depth: self.depth.min(other.depth),
        }
    }

    /// The richest shape that fits.
    #[must_use]
    pub fn shape(self) -> Shape {
        if self.nodes == 0 || self.depth == 0 {
            Shape::Plain
        } else if self.leaves <= 1 {
            Shape::Chain
        } else {
            Shape::Tree
        }
    }
}

/// Why a node was not added; the tree is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeFull {
    /// All nodes that the limits allow are drafted: nothing more fits anywhere.
    #[error("the tree has as many draft nodes as its limits allow")]
    Nodes,
    /// One more leaf would not fit; a child of a present leaf still does.
    #[error("the tree has as many leaves as its limits allow")]
    Leaves,
    /// The node would be too deep; shallower ones still fit.
    #[error("the node would be deeper than the limits of the tree allow")]
    Depth,
}
