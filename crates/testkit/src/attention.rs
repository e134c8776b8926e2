//! The attention mask of a [`NaiveVerifier`](crate::NaiveVerifier), as a function.

use upcycle_core::{DraftTree, NodeId, TokenId};

/// A token that a row attends to, with its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The absolute position.
    pub position: u64,
    /// The token.
    pub token: TokenId,
}

/// An attention mask: appends to `seen` the tokens of `tree` that `node` attends to, with their positions. `prefix_len` tokens
/// are committed before the tree, and every node attends to all of them.
pub type Attention = fn(tree: &DraftTree, node: NodeId, prefix_len: usize, seen: &mut Vec<Seen>);

/// The correct [`Attention`]: the node's ancestors and itself, each at `prefix_len + depth`.
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
