//! Extreme drafters: always right, always wrong, random.

use upcycle_core::{DraftContext, DraftTree, Drafter, NodeId, PushError, TokenId};

use crate::rng::Rng;

/// Knows the answers: drafts as much of one as the limits allow, as a chain. No tree can have more nodes accepted.
///
/// A text that does not start like one of the answers gets no draft.
#[derive(Clone, Debug)]
pub struct OracleDrafter {
    texts: Vec<Vec<TokenId>>,
}

impl OracleDrafter {
    /// Knows these texts, each a prompt and its continuation.
    #[must_use]
    pub fn new(texts: Vec<Vec<TokenId>>) -> Self {
        Self { texts }
    }
}

impl Drafter for OracleDrafter {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
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

/// Always wrong, at the highest cost: fills the limits with branches, none of which starts with the right token of the texts
/// that it knows.
#[derive(Clone, Debug)]
pub struct AdversarialDrafter {
    texts: Vec<Vec<TokenId>>,
    vocab: TokenId,
}

impl AdversarialDrafter {
    /// Avoids these texts, each a prompt and its continuation, with a vocabulary of `vocab` tokens.
    #[must_use]
    pub fn new(texts: Vec<Vec<TokenId>>, vocab: usize) -> Self {
        Self { texts, vocab: TokenId::try_from(vocab).unwrap_or(TokenId::MAX) }
    }
}

impl Drafter for AdversarialDrafter {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
        let rest = |text: &Vec<TokenId>| text.strip_prefix(context.tokens)?.first().copied();
        let right: Vec<TokenId> = self.texts.iter().filter_map(rest).collect();
        let mut wrong =
            (0..self.vocab).map(|token| self.vocab - 1 - token).filter(|token| !right.contains(token));
        // First branches, half as many as leaves fit; then two children for each node in turn.
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
                    Err(PushError::Nodes) => return,
                    Ok(_) | Err(PushError::Leaves | PushError::Depth) => {}
                }
            }
            parent += 1;
        }
    }
}

/// Drafts random trees over a few tokens, of any shape, of up to 64 nodes and within the limits. The seed determines them.
#[derive(Clone, Debug)]
pub struct RandomDrafter {
    tokens: Vec<TokenId>,
    rng: Rng,
}

impl RandomDrafter {
    /// Uses the tokens in `tokens`. Without any it drafts nothing.
    #[must_use]
    pub fn new(tokens: Vec<TokenId>, seed: u64) -> Self {
        Self { tokens, rng: Rng::new(seed) }
    }
}

impl Drafter for RandomDrafter {
    fn draft(&mut self, _: DraftContext<'_>, tree: &mut DraftTree) {
        for _ in 0..self.rng.below(64) {
            let parent = NodeId::new(self.rng.below(tree.len()));
            let Some(&token) = self.rng.pick(&self.tokens) else { return };
            // A node that does not fit is left out.
            let _ = tree.push(parent, token, None);
        }
    }
}
