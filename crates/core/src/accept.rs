//! The one acceptance rule: walk down the tree as long as a child holds the token that the model itself draws.

use crate::{DraftTree, NodeId, TokenId};

/// An accepted walk: reused from step to step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptedPath {
    /// The nodes visited, the root first.
    pub nodes: Vec<NodeId>,
    /// The token sampled at each of them, `[nodes.len()]`: the accepted draft tokens, then the bonus token.
    pub sampled: Vec<TokenId>,
}

/// Walks down `tree` from its root into `path`: at each node `draw` gives the token that the model itself would put
/// there; if a child holds it, the walk goes on from that child, else it is the bonus token and the walk ends.
///
/// Drafts are deterministic, so this is exact for greedy decoding and for sampling alike: the sampled tokens are those
/// of plain decoding with the same draws. `draw` is called once a node, in order, with the tokens sampled before it
/// known to the caller. At least one token is sampled.
///
/// # Errors
/// The first error of `draw`; `path` then holds the part before it.
///
/// ```
/// use upcycle_core::{DraftTree, NodeId, TreeLimits, AcceptedPath, accept};
///
/// let mut tree = DraftTree::new();
/// tree.restart(1, TreeLimits::UNBOUNDED);
/// let two = tree.push(NodeId::ROOT, 2, None)?;
/// let mut path = AcceptedPath::default();
/// // A model that always says the next number.
/// accept(&tree, &mut path, |node| Ok::<_, ()>(tree.tokens()[node.index()] + 1)).unwrap();
/// assert_eq!(path.nodes, [NodeId::ROOT, two]);
/// assert_eq!(path.sampled, [2, 3]);
/// # Ok::<(), upcycle_core::TreeFull>(())
/// ```
pub fn accept<E>(
    tree: &DraftTree,
    path: &mut AcceptedPath,
    mut draw: impl FnMut(NodeId) -> Result<TokenId, E>,
) -> Result<(), E> {
    path.nodes.clear();
    path.sampled.clear();
    let mut next = Some(NodeId::ROOT);
    while let Some(node) = next {
        let token = draw(node)?;
        path.nodes.push(node);
        path.sampled.push(token);
        next = tree.child(node, token);
    }
    Ok(())
}
