//! The one acceptance rule: walk down the tree as long as a child holds the token that the model itself draws.

use crate::{DraftTree, NodeId, TokenId};

/// An accepted walk: reused from step to step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// The nodes visited, the root first.
    pub path: Vec<NodeId>,
    /// The token drawn at each of them, `[path.len()]`: the accepted draft tokens, then the bonus token.
    pub drawn: Vec<TokenId>,
}

/// Walks down `tree` from its root into `walk`: at each node `draw` gives the token that the model itself would put
/// there; if a child holds it, the walk goes on from that child, else it is the bonus token and the walk ends.
///
/// Drafts are deterministic, so this is exact for greedy decoding and for sampling alike: the drawn tokens are those
/// of plain decoding with the same draws. `draw` is called once a node, in order, with the tokens drawn before it
/// known to the caller. At least one token is drawn.
///
/// # Errors
/// The first error of `draw`; `walk` then holds the part before it.
///
/// ```
/// use upcycle_core::{DraftTree, NodeId, Room, Walk, accept};
///
/// let mut tree = DraftTree::new();
/// tree.restart(1, Room::UNBOUNDED);
/// let two = tree.push(NodeId::ROOT, 2, None)?;
/// let mut walk = Walk::default();
/// // A model that always says the next number.
/// accept(&tree, &mut walk, |node| Ok::<_, ()>(tree.tokens()[node.index()] + 1)).unwrap();
/// assert_eq!(walk.path, [NodeId::ROOT, two]);
/// assert_eq!(walk.drawn, [2, 3]);
/// # Ok::<(), upcycle_core::Full>(())
/// ```
pub fn accept<E>(
    tree: &DraftTree,
    walk: &mut Walk,
    mut draw: impl FnMut(NodeId) -> Result<TokenId, E>,
) -> Result<(), E> {
    walk.path.clear();
    walk.drawn.clear();
    let mut next = Some(NodeId::ROOT);
    while let Some(node) = next {
        let token = draw(node)?;
        walk.path.push(node);
        walk.drawn.push(token);
        next = tree.child(node, token);
    }
    Ok(())
}
