//! A corpus: texts whose every place can be found by the tokens before it.

use std::ops::Range;

use super::source::WINDOW;
use crate::TokenId;

/// Gathers texts for a [`Corpus`].
#[derive(Clone, Debug)]
pub struct CorpusBuilder {
    border: TokenId,
    tokens: Vec<TokenId>,
    max_tokens: usize,
}

impl CorpusBuilder {
    /// For a vocabulary of `vocab` tokens, and at most `max_tokens` tokens in all, borders between texts among them.
    #[must_use]
    pub fn new(vocab: usize, max_tokens: usize) -> Self {
        // Places are kept as u32.
        let max_tokens = max_tokens.min(u32::MAX as usize - 1);
        Self { border: vocab.min(u32::MAX as usize - 1) as TokenId, tokens: Vec::new(), max_tokens }
    }

    /// Adds a text, and says how many of its tokens were taken: fewer than it has where the corpus is full. A token
    /// outside the vocabulary is a border: nothing is copied across it.
    pub fn push(&mut self, text: &[TokenId]) -> usize {
        // A border stands before the first text and behind each.
        let room = self.max_tokens.saturating_sub(self.tokens.len().max(1) + 1);
        let taken = text.len().min(room);
        if taken == 0 {
            return 0;
        }
        if self.tokens.is_empty() {
            self.tokens.push(self.border);
        }
        self.tokens.extend(text[..taken].iter().map(|&token| token.min(self.border)));
        self.tokens.push(self.border);
        taken
    }

    /// The tokens so far, borders among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no text yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The corpus, its places sorted by the tokens before them: linear in time and memory.
    #[must_use]
    pub fn build(self) -> Corpus {
        let Self { border, mut tokens, .. } = self;
        tokens.shrink_to_fit();
        // Where a text ends nothing is to be copied.
        let follows = |place: &u32| {
            let place = *place as usize;
            tokens[place] != border && tokens.get(place + 1).is_some_and(|&next| next != border)
        };
        let mut places: Vec<u32> = (0..tokens.len() as u32).filter(follows).collect();
        places.shrink_to_fit();
        let mut sorted = vec![0; places.len()];
        // Radix sort, a token a digit, from the farthest back to the newest.
        let mut starts = vec![0_u32; border as usize + 2];
        for back in (0..WINDOW).rev() {
            let digit = |place: u32| token_before(&tokens, place, back, border) as usize;
            starts.fill(0);
            for &place in &places {
                starts[digit(place) + 1] += 1;
            }
            for token in 1..starts.len() {
                starts[token] += starts[token - 1];
            }
            for &place in &places {
                let next = &mut starts[digit(place)];
                sorted[*next as usize] = place;
                *next += 1;
            }
            std::mem::swap(&mut places, &mut sorted);
        }
        // Each start has moved on to the next token's.
        starts.rotate_right(1);
        starts[0] = 0;
        Corpus { border, tokens, places, starts }
    }
}

/// The token `back` places before `place`; a border before the first.
fn token_before(tokens: &[TokenId], place: u32, back: usize, border: TokenId) -> TokenId {
    (place as usize).checked_sub(back).map_or(border, |at| tokens[at])
}

/// Texts, and an index that finds the longest match of any last [`WINDOW`] tokens in them.
///
/// Eight bytes a token and four for each of the vocabulary. Never changes, so that drafters can share one.
#[derive(Clone, Debug)]
pub struct Corpus {
    /// What stands before the first text and behind each: the first id outside the vocabulary.
    border: TokenId,
    tokens: Vec<TokenId>,
    /// Every place with a token of its text behind it, sorted by the tokens up to it, the newest first. Beyond a
    /// border the order means nothing, and no search gets there.
    places: Vec<u32>,
    /// By token: where the places that end with it begin, and, one on, where they end.
    starts: Vec<u32>,
}

/// Where the last tokens of a text stand in a corpus.
#[derive(Clone, Debug)]
pub(super) struct Matches {
    ranges: [Range<usize>; WINDOW],
    /// The length of the longest match.
    pub(super) longest: usize,
}

impl Matches {
    /// The places that match in at least `length` tokens, 1 to [`longest`](Self::longest), as a range of the index.
    pub(super) fn of_length(&self, length: usize) -> Range<usize> {
        self.ranges[length - 1].clone()
    }
}

impl Corpus {
    /// Its tokens, borders among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether it holds no text.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let words = self.tokens.capacity() + self.places.capacity() + self.starts.capacity();
        words * size_of::<u32>()
    }

    /// The token behind the place at `index`.
    pub(super) fn next(&self, index: usize) -> TokenId {
        self.tokens[self.places[index] as usize + 1]
    }

    /// Where the end of `recent` stands: each token more narrows the range of the last by bisection.
    pub(super) fn find(&self, recent: &[TokenId]) -> Matches {
        let mut matches = Matches { ranges: [const { 0..0 }; WINDOW], longest: 0 };
        let mut range = 0..self.places.len();
        for (back, &token) in recent.iter().rev().take(WINDOW).enumerate() {
            if token >= self.border {
                break;
            }
            range = if back == 0 {
                let token = token as usize;
                self.starts[token] as usize..self.starts[token + 1] as usize
            } else {
                let before = |place: u32| token_before(&self.tokens, place, back, self.border);
                let start =
                    range.start + self.places[range.clone()].partition_point(|&place| before(place) < token);
                let rest = &self.places[start..range.end];
                start..start + rest.partition_point(|&place| before(place) == token)
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
