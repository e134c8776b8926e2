//! What a row of a [`NaiveVerifier`](crate::NaiveVerifier) attends to: a mask, as a function.

use upcycle_core::{DraftTree, NodeId, TokenId};

/// What a row attends to: a token and the absolute position that it stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The absolute position.
    pub position: u64,
    /// The token.
    pub token: TokenId,
}

/// Which tokens of a tree a node attends to, and at which positions: appends them to the last argument, which
/// already holds the `prefix_len` committed ones. A mask, as a function.
pub type Attention = fn(tree: &DraftTree, node: NodeId, prefix_len: usize, seen: &mut Vec<Seen>);

/// The right [`Attention`]: the node's ancestors and itself, each at `prefix_len + depth`.
pub fn ancestors(tree: &DraftTree, node: NodeId, prefix_len: usize, seen: &mut Vec<Seen>) {
    let start = seen.len();
    let mut next = Some(node);
    while let Some(node) = next {
        let depth = u64::from(tree.depths()[node.index()]);
        seen.push(Seen { position: prefix_len as u64 + depth, token: tree.tokens()[node.index()] });
        next = tree.parent(node);
    }
    seen[start..].reverse();
}
