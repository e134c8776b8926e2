//! How many nodes and leaves a draft may have, and how deep it may be.

/// The kinds of tree that limits allow or a backend can verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TreeKind {
    /// Only the root: plain decoding.
    Plain,
    /// One path: no node has two children.
    Chain,
    /// Any tree.
    Tree,
}

/// How large a draft may be: the minimum of budget, backend limits and remaining context.
///
/// A tree enforces its limits, so no drafter can exceed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeLimits {
    /// Draft nodes, without the root.
    pub nodes: usize,
    /// Leaves. A tree always has at least one: the root, if there is no other node.
    pub leaves: usize,
    /// The depth of the deepest node; the root has depth 0.
    pub depth: usize,
}

impl TreeLimits {
    /// No limits.
    pub const UNBOUNDED: TreeLimits = TreeLimits { nodes: usize::MAX, leaves: usize::MAX, depth: usize::MAX };

    /// Only the root: plain decoding.
    pub const ROOT_ONLY: TreeLimits = TreeLimits { nodes: 0, leaves: 1, depth: 0 };

    /// The most general kind of tree that these limits allow.
    #[must_use]
    pub fn kind(self) -> TreeKind {
        if self.nodes == 0 || self.depth == 0 {
            TreeKind::Plain
        } else if self.leaves <= 1 {
            TreeKind::Chain
        } else {
            TreeKind::Tree
        }
    }
}

/// Why a node was not added; the tree is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The tree has all nodes that its limits allow. Nothing more fits anywhere.
    #[error("the tree has as many draft nodes as its limits allow")]
    Nodes,
    /// One more leaf does not fit. A child of a leaf still does.
    #[error("the tree has as many leaves as its limits allow")]
    Leaves,
    /// The node would be too deep. Shallower ones still fit.
    #[error("the node would be deeper than the limits of the tree allow")]
    Depth,
}
