//! Drafters at the extremes: all-knowing, always wrong, arbitrary.

use upcycle_core::{Context, DraftTree, Drafter, NodeId, TokenId, TreeFull};

use crate::rng::Rng;

/// Knows the answer: drafts the longest chain of it that fits the room, which is the most that a tree can have
/// accepted.
///
/// A text that does not start with what it knows gets no draft.
#[derive(Clone, Debug)]
pub struct OracleDrafter {
    texts: Vec<Vec<TokenId>>,
}

impl OracleDrafter {
    /// Knows these texts, each of them a prompt and its continuation.
    #[must_use]
    pub fn new(texts: Vec<Vec<TokenId>>) -> Self {
        Self { texts }
    }
}

impl Drafter for OracleDrafter {
    fn draft(&mut self, context: Context<'_>, tree: &mut DraftTree) {
        let Some(rest) = self.texts.iter().find_map(|text| text.strip_prefix(context.tokens)) else { return };
        let mut above = NodeId::ROOT;
        for &token in rest {
            match tree.push(above, token, Some(1.0)) {
                Ok(node) => above = node,
                Err(_) => return,
            }
        }
    }
}

/// Always wrong, and at the greatest expense: fills the whole room with branches, none of which starts with the
/// right token, where it knows the text.
#[derive(Clone, Debug)]
pub struct AdversarialDrafter {
    texts: Vec<Vec<TokenId>>,
    vocab: TokenId,
}

impl AdversarialDrafter {
    /// Avoids these texts, each of them a prompt and its continuation, of a vocabulary of `vocab` tokens.
    #[must_use]
    pub fn new(texts: Vec<Vec<TokenId>>, vocab: usize) -> Self {
        Self { texts, vocab: TokenId::try_from(vocab).unwrap_or(TokenId::MAX) }
    }
}

impl Drafter for AdversarialDrafter {
    fn draft(&mut self, context: Context<'_>, tree: &mut DraftTree) {
        let rest = |text: &Vec<TokenId>| text.strip_prefix(context.tokens)?.first().copied();
        let right: Vec<TokenId> = self.texts.iter().filter_map(rest).collect();
        let mut wrong =
            (0..self.vocab).map(|token| self.vocab - 1 - token).filter(|token| !right.contains(token));
        // Half as many branches as leaves fit, then each node in turn gets two children.
        let width = (tree.limits().leaves / 2).clamp(1, 16);
        for token in wrong.by_ref().take(width) {
            if tree.push(NodeId::ROOT, token, Some(1.0)).is_err() {
                return;
            }
        }
        let mut parent = 1;
        while parent < tree.len().min(1024) {
            for child in 0..2 {
                let token = (tree.tokens()[parent] + child) % self.vocab.max(1);
                match tree.push(NodeId::new(parent), token, None) {
                    Err(TreeFull::Nodes) => return,
                    Ok(_) | Err(TreeFull::Leaves | TreeFull::Depth) => {}
                }
            }
            parent += 1;
        }
    }
}

/// Drafts seeded arbitrary trees over a few tokens: any shape, any size up to the room (and 64 nodes).
#[derive(Clone, Debug)]
pub struct RandomDrafter {
    tokens: Vec<TokenId>,
    rng: Rng,
}

impl RandomDrafter {
    /// Draws from `tokens`; another `seed` drafts other trees. Without tokens it drafts nothing.
    #[must_use]
    pub fn new(tokens: Vec<TokenId>, seed: u64) -> Self {
        Self { tokens, rng: Rng::new(seed) }
    }
}

impl Drafter for RandomDrafter {
    fn draft(&mut self, _: Context<'_>, tree: &mut DraftTree) {
        for _ in 0..self.rng.below(64) {
            let parent = NodeId::new(self.rng.below(tree.len()));
            let Some(&token) = self.rng.pick(&self.tokens) else { return };
            // What does not fit is left out.
            let _ = tree.push(parent, token, None);
        }
    }
}
