//! Texts with an index that finds all positions where given tokens occur.

use std::ops::Range;

use crate::mixed::source::MAX_CONTEXT_TOKENS;
use crate::token::TokenId;

/// Collects texts for a [`Corpus`].
#[derive(Clone, Debug)]
pub struct CorpusBuilder {
    separator: TokenId,
    tokens: Vec<TokenId>,
    max_tokens: usize,
}

impl CorpusBuilder {
    /// A builder for a vocabulary of `vocab` tokens. It accepts at most `max_tokens` tokens, including separators.
    #[must_use]
    pub fn new(vocab: usize, max_tokens: usize) -> Self {
        // Positions are stored as u32.
        let max_tokens = max_tokens.min(u32::MAX as usize - 1);
        Self { separator: vocab.min(u32::MAX as usize - 1) as TokenId, tokens: Vec::new(), max_tokens }
    }

    /// Adds a text and returns how many of its tokens were added: fewer than all if the corpus is full. A token outside the
    /// vocabulary counts as a separator, and no match crosses a separator.
    pub fn push(&mut self, text: &[TokenId]) -> usize {
        // One separator comes before the first text, and one after each text.
        let free = self.max_tokens.saturating_sub(self.tokens.len().max(1) + 1);
        let taken = text.len().min(free);
        if taken == 0 {
            return 0;
        }
        if self.tokens.is_empty() {
            self.tokens.push(self.separator);
        }
        self.tokens.extend(text[..taken].iter().map(|&token| token.min(self.separator)));
        self.tokens.push(self.separator);
        taken
    }

    /// The number of tokens so far, separators included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether no text was added yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// Builds the index, in time and memory linear in the tokens.
    #[must_use]
    pub fn build(self) -> Corpus {
        let Self { separator, mut tokens, .. } = self;
        tokens.shrink_to_fit();
        // Only positions before another token of the same text.
        let follows = |position: &u32| {
            let position = *position as usize;
            tokens[position] != separator && tokens.get(position + 1).is_some_and(|&next| next != separator)
        };
        let mut positions: Vec<u32> = (0..tokens.len() as u32).filter(follows).collect();
        positions.shrink_to_fit();
        let mut sorted = vec![0; positions.len()];
        // Radix sort with one token as a digit, from the oldest token to the newest.
        let mut starts = vec![0_u32; separator as usize + 2];
        for back in (0..MAX_CONTEXT_TOKENS).rev() {
            let digit = |position: u32| token_before(&tokens, position, back, separator) as usize;
            starts.fill(0);
            for &position in &positions {
                starts[digit(position) + 1] += 1;
            }
            for token in 1..starts.len() {
                starts[token] += starts[token - 1];
            }
            for &position in &positions {
                let next = &mut starts[digit(position)];
                sorted[*next as usize] = position;
                *next += 1;
            }
            std::mem::swap(&mut positions, &mut sorted);
        }
        // Each start has moved to where the next token starts.
        starts.rotate_right(1);
        starts[0] = 0;
        Corpus { separator, tokens, positions, starts }
    }
}

/// The token `back` positions before `position`; a separator before the first.
fn token_before(tokens: &[TokenId], position: u32, back: usize, separator: TokenId) -> TokenId {
    (position as usize).checked_sub(back).map_or(separator, |at| tokens[at])
}

/// Texts with an index (a suffix array of depth [`MAX_CONTEXT_TOKENS`]) that finds the longest suffix match of a text.
///
/// Takes 8 bytes for each token and 4 for each token of the vocabulary. It never changes, so drafters can share one.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// Separates texts: the first id outside the vocabulary.
    separator: TokenId,
    tokens: Vec<TokenId>,
    /// Every position before another token of its text. Sorted by the tokens that end at the position, compared backwards
    /// from it. The order beyond a separator has no meaning; no search reaches it.
    positions: Vec<u32>,
    /// By token: the start of its range in `positions`. The next entry is the end.
    starts: Vec<u32>,
}

/// The suffix matches of a text in a corpus.
#[derive(Clone, Debug)]
pub(super) struct Matches {
    ranges: [Range<usize>; MAX_CONTEXT_TOKENS],
    /// The length of the longest match.
    pub(super) longest: usize,
}

impl Matches {
    /// The matches of at least `length` tokens, 1 to [`longest`](Self::longest), as a range of the index.
    pub(super) fn at_least(&self, length: usize) -> Range<usize> {
        self.ranges[length - 1].clone()
    }
}

impl Corpus {
    /// The number of tokens, separators included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it has no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The bytes of texts and index.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let words = self.tokens.capacity() + self.positions.capacity() + self.starts.capacity();
        words * size_of::<u32>()
    }

    /// The token that follows the position at `index`.
    pub(super) fn next(&self, index: usize) -> TokenId {
        self.tokens[self.positions[index] as usize + 1]
    }

    /// Finds the matches of the end of `recent`. Each further token narrows the range by binary search, so the cost is
    /// `O(MAX_CONTEXT_TOKENS * log(tokens))`.
    pub(super) fn find(&self, recent: &[TokenId]) -> Matches {
        let mut matches = Matches { ranges: [const { 0..0 }; MAX_CONTEXT_TOKENS], longest: 0 };
        let mut range = 0..self.positions.len();
        for (back, &token) in recent.iter().rev().take(MAX_CONTEXT_TOKENS).enumerate() {
            if token >= self.separator {
                break;
            }
            range = if back == 0 {
                let token = token as usize;
                self.starts[token] as usize..self.starts[token + 1] as usize
            } else {
                let before = |position: u32| token_before(&self.tokens, position, back, self.separator);
                let start = range.start
                    + self.positions[range.clone()].partition_point(|&position| before(position) < token);
                let rest = &self.positions[start..range.end];
                start..start + rest.partition_point(|&position| before(position) == token)
            };
            if range.is_empty() {
                break;
            }
            matches.ranges[back] = range.clone();
            matches.longest = back + 1;
        }
        matches
    }
}
