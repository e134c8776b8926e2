//! The acceptance rule: follow the tree while a child holds the token that the model itself samples.

use crate::token::TokenId;
use crate::tree::{DraftTree, NodeId};

/// An accepted path and the tokens sampled along it; reused from step to step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptedPath {
    /// The nodes of the path, the root first.
    pub nodes: Vec<NodeId>,
    /// The sampled tokens: the accepted draft tokens, then the bonus token.
    ///
    /// A draft has one for each node, `[nodes.len()]`. A prompt chunk has one for its last node, or none if more of the
    /// prompt follows.
    pub sampled: Vec<TokenId>,
}

impl AcceptedPath {
    /// The node whose row the `index`-th of [`sampled`](Self::sampled) was sampled from.
    #[must_use]
    pub fn sampled_from(&self, index: usize) -> Option<NodeId> {
        let skipped = self.nodes.len().checked_sub(self.sampled.len())?;
        self.nodes.get(skipped + index).copied()
    }
}

/// Follows `tree` from its root and records the path in `path`. At each node `sample` gives the model's own next token. If a
/// child holds that token, the path continues at the child. Otherwise the token is the bonus token and the path ends.
///
/// This is exact for greedy decoding and for sampling: the sampled tokens are those of plain decoding with the same noise.
/// `sample` is called once for each node of the path, in order. At least one token is sampled.
///
/// # Errors
/// The first error of `sample`; `path` then holds the part before it.
///
/// ```
/// use upcycle_core::{DraftTree, NodeId, TreeLimits, AcceptedPath, accept};
///
/// let mut tree = DraftTree::new();
/// tree.reset(1, TreeLimits::UNBOUNDED);
/// let two = tree.push(NodeId::ROOT, 2, None)?;
/// let mut path = AcceptedPath::default();
/// // A model that always generates the next number.
/// accept(&tree, &mut path, |node| Ok::<_, ()>(tree.tokens()[node.index()] + 1)).unwrap();
/// assert_eq!(path.nodes, [NodeId::ROOT, two]);
/// assert_eq!(path.sampled, [2, 3]);
/// # Ok::<(), upcycle_core::PushError>(())
/// ```
pub fn accept<E>(
    tree: &DraftTree,
    path: &mut AcceptedPath,
    mut sample: impl FnMut(NodeId) -> Result<TokenId, E>,
) -> Result<(), E> {
    path.nodes.clear();
    path.sampled.clear();
    let mut next = Some(NodeId::ROOT);
    while let Some(node) = next {
        let token = sample(node)?;
        path.nodes.push(node);
        path.sampled.push(token);
        next = tree.child(node, token);
    }
    Ok(())
}
