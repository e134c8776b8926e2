//! The draft tree, as flat arrays of tokens and parents.

use std::fmt;

use crate::token::TokenId;
use crate::tree_limits::{PushError, TreeKind, TreeLimits};

/// A node of a [`DraftTree`]. Nodes are numbered in the order in which they were pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl NodeId {
    /// The root: the last emitted token, whose KV is not yet committed.
    pub const ROOT: NodeId = NodeId(0);

    /// The node with this index.
    ///
    /// An index past `u32::MAX` saturates. No tree is that large, so it names no node.
    #[must_use]
    pub fn new(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// The index of this node in [`DraftTree::tokens`] and the other arrays of the tree.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}", self.0)
    }
}

const NO_NODE: u32 = u32::MAX;

/// A tree of draft tokens that the model verifies in one pass.
///
/// Node 0 is the root: the last emitted token, whose KV is not yet committed. `parents[i] < i` for every other
/// node, and the children of one node hold distinct tokens. The arrays are reused from step to step, so drafting allocates
/// nothing once they have grown.
///
/// ```
/// use upcycle_core::{DraftTree, PushError, NodeId, TreeLimits};
///
/// let mut tree = DraftTree::new();
/// tree.reset(7, TreeLimits { nodes: 3, leaves: 2, depth: 8 });
/// let a = tree.push(NodeId::ROOT, 11, None)?;
/// let b = tree.push(a, 12, None)?;
/// assert_eq!(tree.push(a, 12, None)?, b, "an equal sibling is the same node");
/// tree.push(NodeId::ROOT, 13, None)?;
/// assert_eq!(tree.push(b, 14, None), Err(PushError::Nodes));
/// assert_eq!(tree.tokens(), [7, 11, 12, 13]);
/// assert_eq!(tree.child(a, 12), Some(b));
/// # Ok::<(), PushError>(())
/// ```
#[derive(Debug)]
pub struct DraftTree {
    tokens: Vec<TokenId>,
    parents: Vec<u32>,
    depths: Vec<u32>,
    probabilities: Vec<f32>,
    source_bits: Vec<u8>,
    /// Links to the children of a node, which follow from `parents`.
    first_child: Vec<u32>,
    next_sibling: Vec<u32>,
    leaves: usize,
    limits: TreeLimits,
}

impl Clone for DraftTree {
    fn clone(&self) -> Self {
        let mut tree = Self::new();
        tree.clone_from(self);
        tree
    }

    /// Reuses its memory.
    fn clone_from(&mut self, other: &Self) {
        self.tokens.clone_from(&other.tokens);
        self.parents.clone_from(&other.parents);
        self.depths.clone_from(&other.depths);
        self.probabilities.clone_from(&other.probabilities);
        self.source_bits.clone_from(&other.source_bits);
        self.first_child.clone_from(&other.first_child);
        self.next_sibling.clone_from(&other.next_sibling);
        self.leaves = other.leaves;
        self.limits = other.limits;
    }
}

impl Default for DraftTree {
    fn default() -> Self {
        Self::new()
    }
}

impl DraftTree {
    /// A tree with only a root, token 0. Nothing can be added before a [`reset`](Self::reset).
    #[must_use]
    pub fn new() -> Self {
        let mut tree = Self {
            tokens: Vec::new(),
            parents: Vec::new(),
            depths: Vec::new(),
            probabilities: Vec::new(),
            source_bits: Vec::new(),
            first_child: Vec::new(),
            next_sibling: Vec::new(),
            leaves: 0,
            limits: TreeLimits::ROOT_ONLY,
        };
        tree.reset(0, TreeLimits::ROOT_ONLY);
        tree
    }

    /// The chain of `tokens`, with the first as its root. A prefill chunk is a chain.
    ///
    /// An empty slice gives the tree of [`new`](Self::new).
    #[must_use]
    pub fn chain(tokens: &[TokenId]) -> Self {
        let mut tree = Self::new();
        if let Some((&root, rest)) = tokens.split_first() {
            tree.reset_chain(root, rest);
        }
        tree
    }

    /// Removes all nodes and starts again with the token `root` and these limits. Reuses its memory.
    pub fn reset(&mut self, root: TokenId, limits: TreeLimits) {
        self.tokens.clear();
        self.parents.clear();
        self.depths.clear();
        self.probabilities.clear();
        self.source_bits.clear();
        self.first_child.clear();
        self.next_sibling.clear();
        self.leaves = 1;
        self.limits = limits;
        self.append(root, 0, 0, 1.0);
    }

    /// Becomes the chain of `root` and `rest`. Nothing can be added to it.
    pub fn reset_chain(&mut self, root: TokenId, rest: &[TokenId]) {
        self.reset(root, TreeLimits::ROOT_ONLY);
        for (parent, &token) in rest.iter().enumerate() {
            self.first_child[parent] = parent as u32 + 1;
            self.append(token, parent as u32, parent as u32 + 1, f32::NAN);
        }
    }

    fn append(&mut self, token: TokenId, parent: u32, depth: u32, probability: f32) {
        self.tokens.push(token);
        self.parents.push(parent);
        self.depths.push(depth);
        self.probabilities.push(probability);
        self.source_bits.push(0);
        self.first_child.push(NO_NODE);
        self.next_sibling.push(NO_NODE);
    }

    /// Adds a child that holds `token` under `parent`, or returns the child that already holds it.
    ///
    /// `probability` is the probability that this child is accepted if its parent is, or `None` if the drafter does not know
    /// it. It is clamped to 0..=1. A child that exists already keeps its probability. O(siblings).
    ///
    /// # Errors
    /// [`PushError`] if the node does not fit the limits; the tree is unchanged.
    ///
    /// # Panics
    /// If `parent` is not a node of this tree.
    pub fn push(
        &mut self,
        parent: NodeId,
        token: TokenId,
        probability: Option<f32>,
    ) -> Result<NodeId, PushError> {
        assert!(parent.index() < self.len(), "{parent} is not in a tree of {} nodes", self.len());
        let mut last = NO_NODE;
        let mut next = self.first_child[parent.index()];
        while next != NO_NODE {
            if self.tokens[next as usize] == token {
                return Ok(NodeId(next));
            }
            last = next;
            next = self.next_sibling[next as usize];
        }
        let depth = self.depths[parent.index()] + 1;
        if self.draft_len() >= self.limits.nodes || self.len() >= NO_NODE as usize {
            return Err(PushError::Nodes);
        }
        if depth as usize > self.limits.depth {
            return Err(PushError::Depth);
        }
        // The first child of a leaf replaces it among the leaves.
        let leaves = self.leaves + usize::from(last != NO_NODE);
        if leaves > self.limits.leaves {
            return Err(PushError::Leaves);
        }
        let node = self.len() as u32;
        if last == NO_NODE {
            self.first_child[parent.index()] = node;
        } else {
            self.next_sibling[last as usize] = node;
        }
        self.leaves = leaves;
        self.append(token, parent.0, depth, probability.map_or(f32::NAN, |p| p.clamp(0.0, 1.0)));
        Ok(NodeId(node))
    }

    /// Records which of the drafter's [sources](crate::Drafter::sources) proposed `node`, as bits. Only reports use it.
    ///
    /// # Panics
    /// If `node` is not a node of this tree.
    pub fn set_source_bits(&mut self, node: NodeId, sources: u8) {
        self.source_bits[node.index()] = sources;
    }

    /// Which of the drafter's sources proposed each node, as bits, `[len]`; 0 where nothing was recorded.
    #[must_use]
    pub fn source_bits(&self) -> &[u8] {
        &self.source_bits
    }

    /// Keeps the nodes for which `keep` returns true and whose parent is kept, in their order. The root and the limits always
    /// stay. O(len), without allocation.
    pub fn retain(&mut self, mut keep: impl FnMut(NodeId) -> bool) {
        let len = self.len();
        // The links are rebuilt below. Until then `next_sibling` holds the new index of each node.
        self.next_sibling[0] = 0;
        let mut kept = 1;
        for old in 1..len {
            let parent = self.next_sibling[self.parents[old] as usize];
            if parent == NO_NODE || !keep(NodeId(old as u32)) {
                self.next_sibling[old] = NO_NODE;
                continue;
            }
            self.next_sibling[old] = kept as u32;
            self.tokens[kept] = self.tokens[old];
            self.depths[kept] = self.depths[old];
            self.probabilities[kept] = self.probabilities[old];
            self.source_bits[kept] = self.source_bits[old];
            // `kept <= old`, so no parent is overwritten before it was read.
            self.parents[kept] = parent;
            kept += 1;
        }
        for array in [&mut self.tokens, &mut self.parents, &mut self.depths] {
            array.truncate(kept);
        }
        self.probabilities.truncate(kept);
        self.source_bits.truncate(kept);
        self.first_child.truncate(kept);
        self.next_sibling.truncate(kept);
        self.first_child.fill(NO_NODE);
        self.next_sibling.fill(NO_NODE);
        self.leaves = kept;
        for node in (1..kept).rev() {
            let parent = self.parents[node] as usize;
            if self.first_child[parent] == NO_NODE {
                self.leaves -= 1;
            }
            self.next_sibling[node] = self.first_child[parent];
            self.first_child[parent] = node as u32;
        }
    }

    /// The child of `node` that holds `token`. O(children).
    #[must_use]
    pub fn child(&self, node: NodeId, token: TokenId) -> Option<NodeId> {
        self.children(node).find(|&child| self.tokens[child.index()] == token)
    }

    /// The children of `node`, in the order in which they were pushed. None for a node that the tree lacks.
    pub fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let first = self.first_child.get(node.index()).copied().unwrap_or(NO_NODE);
        std::iter::successors((first != NO_NODE).then_some(NodeId(first)), |child| {
            let next = self.next_sibling[child.index()];
            (next != NO_NODE).then_some(NodeId(next))
        })
    }

    /// The number of nodes, the root included. This is also the number of its rows in a pass; at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a tree always has its root, so it is never empty")]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The number of draft nodes, which are all but the root.
    #[must_use]
    pub fn draft_len(&self) -> usize {
        self.tokens.len() - 1
    }

    /// The limits that this tree was started with.
    #[must_use]
    pub fn limits(&self) -> TreeLimits {
        self.limits
    }

    /// The token of every node, `[len]`.
    #[must_use]
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// The index of every node's parent, `[len]`; that of the root is 0.
    #[must_use]
    pub fn parents(&self) -> &[u32] {
        &self.parents
    }

    /// The depth of every node, `[len]`; the root's is 0.
    #[must_use]
    pub fn depths(&self) -> &[u32] {
        &self.depths
    }

    /// The parent of `node`; `None` for the root.
    ///
    /// # Panics
    /// If `node` is not a node of this tree.
    #[must_use]
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        (node != NodeId::ROOT).then(|| NodeId(self.parents[node.index()]))
    }

    /// The probability that `node` is accepted if its parent is, as the drafter gave it; 1 for the root.
    ///
    /// # Panics
    /// If `node` is not a node of this tree.
    #[must_use]
    pub fn probability(&self, node: NodeId) -> Option<f32> {
        let p = self.probabilities[node.index()];
        (!p.is_nan()).then_some(p)
    }

    /// Whether `node` has no child.
    #[must_use]
    pub fn is_leaf(&self, node: NodeId) -> bool {
        self.first_child.get(node.index()).is_none_or(|&child| child == NO_NODE)
    }

    /// The number of nodes without a child. At least 1.
    #[must_use]
    pub fn leaves(&self) -> usize {
        self.leaves
    }

    /// The depth of the deepest node.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.depths.iter().copied().max().unwrap_or(0) as usize
    }

    /// The simplest [`TreeKind`] of this tree.
    #[must_use]
    pub fn kind(&self) -> TreeKind {
        match (self.draft_len(), self.leaves) {
            (0, _) => TreeKind::Plain,
            (_, 1) => TreeKind::Chain,
            _ => TreeKind::Tree,
        }
    }

    /// Every node, the root first and parents before their children.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = NodeId> + use<> {
        (0..self.len() as u32).map(NodeId)
    }
}
