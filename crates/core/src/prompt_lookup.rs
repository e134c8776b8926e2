//! Prompt lookup: a chain copied from earlier text. The baseline for other drafters.

use std::num::NonZeroUsize;

use crate::drafter::{DraftContext, Drafter};
use crate::token::TokenId;
use crate::tree::{DraftTree, NodeId};

/// Finds the longest suffix of the text that also occurs earlier. Drafts the tokens after its latest occurrence, as a chain.
///
/// This is prompt lookup decoding (Saxena 2023; `prompt_lookup_num_tokens` in Hugging Face transformers), over prompt and
/// output. A step costs O(tokens * max_ngram) in the worst case and usually one scan of the tokens.
#[derive(Clone, Copy, Debug)]
pub struct PromptLookup {
    max_ngram: NonZeroUsize,
    draft_len: usize,
}

impl PromptLookup {
    /// Matches suffixes of at most `max_ngram` tokens and drafts at most `draft_len`.
    #[must_use]
    pub fn new(max_ngram: NonZeroUsize, draft_len: usize) -> Self {
        Self { max_ngram, draft_len }
    }

    /// The position after the latest of the longest earlier matches of the text's end.
    fn find(&self, tokens: &[TokenId]) -> Option<usize> {
        let mut best = (0, None);
        // From the end, so the latest of equally long matches wins.
        for end in (1..tokens.len()).rev() {
            let matched = tokens[..end]
                .iter()
                .rev()
                .zip(tokens.iter().rev())
                .take(self.max_ngram.get())
                .take_while(|(a, b)| a == b)
                .count();
            if matched > best.0 {
                best = (matched, Some(end));
                if matched == self.max_ngram.get() {
                    break;
                }
            }
        }
        best.1
    }
}

impl Default for PromptLookup {
    /// Matches three tokens and drafts ten, as the original does.
    fn default() -> Self {
        Self::new(NonZeroUsize::MIN.saturating_add(2), 10)
    }
}

impl Drafter for PromptLookup {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
        if tree.limits().nodes == 0 {
            return;
        }
        let Some(start) = self.find(context.tokens) else { return };
        let mut parent = NodeId::ROOT;
        for &token in context.tokens[start..].iter().take(self.draft_len) {
            match tree.push(parent, token, None) {
                Ok(node) => parent = node,
                Err(_) => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::SeqId;
    use crate::tree_limits::TreeLimits;

    fn drafted(tokens: &[u32]) -> Vec<u32> {
        let mut tree = DraftTree::new();
        tree.reset(tokens[tokens.len() - 1], TreeLimits { nodes: 4, leaves: 9, depth: 9 });
        PromptLookup::default().draft(DraftContext { seq: SeqId::new(0), tokens }, &mut tree);
        tree.tokens()[1..].to_vec()
    }

    #[test]
    fn copies_after_the_longest_then_the_latest_match() {
        assert_eq!(drafted(&[1]), []);
        assert_eq!(drafted(&[1, 2, 3]), []);
        assert_eq!(
            drafted(&[5, 6, 1, 9, 6, 2, 5, 6]),
            [1, 9, 6, 2],
            "two tokens match before the later one does"
        );
        assert_eq!(drafted(&[6, 1, 6, 2, 6]), [2, 6], "the latest of equal matches");
        assert_eq!(drafted(&[7, 7, 7]), [7], "a match may overlap the end");
    }
}
