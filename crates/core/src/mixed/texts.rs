//! SuffixMatcher from texts of the user's own: what followed the same words there.

use std::sync::Arc;

use super::copying::grade;
use super::corpus::Corpus;
use super::source::{Place, Proposals, Source};
use crate::TokenId;

/// Shorter matches are not looked for: in a large corpus every pair of tokens stands somewhere. Over texts that have nothing
/// to do with the answers, pairs lost 1.6 % of the tokens a step and triples 0.7 %; over the answers themselves both win.
const SHORTEST: usize = 3;
/// Places looked at for one guess.
const LOOKED_AT: usize = 32;
/// Continuations proposed.
const PROPOSED: usize = 4;

/// Proposes what followed the longest matches of the text's end in a [`Corpus`].
#[derive(Clone, Debug)]
pub struct Texts {
    corpus: Arc<Corpus>,
}

impl Texts {
    /// Copies from `corpus`.
    #[must_use]
    pub fn new(corpus: Arc<Corpus>) -> Self {
        Self { corpus }
    }
}

/// A token that followed a match.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    token: TokenId,
    /// The length of its longest match.
    matched: usize,
    /// How many matches of that length it followed, of those looked at.
    times: usize,
    /// How many matches of that length the tokens first found with it followed.
    all: usize,
}

impl Source for Texts {
    fn name(&self) -> &'static str {
        "texts"
    }

    fn propose(&self, place: Place<'_>, proposals: &mut Proposals) {
        let matches = self.corpus.find(place.recent);
        let mut found = [Found::default(); LOOKED_AT];
        let (mut len, mut left) = (0, LOOKED_AT);
        // What matches in more tokens lies within what matches in fewer, and is not looked at again.
        let mut inner = 0..0;
        for matched in (SHORTEST..=matches.longest).rev() {
            if left == 0 || len >= PROPOSED {
                break;
            }
            let outer = matches.of_length(matched);
            if inner.is_empty() {
                inner = outer.start..outer.start;
            }
            let of_length = (outer.start..inner.start).chain(inner.end..outer.end);
            let count = outer.len() - inner.len();
            let first = len;
            // Of too many, as many as may be looked at, evenly spread.
            for index in of_length.step_by(count.div_ceil(left).max(1)) {
                let token = self.corpus.next(index);
                match found[..len].iter().position(|found| found.token == token) {
                    // It has followed a longer match.
                    Some(known) if known < first => {}
                    Some(known) => found[known].times += 1,
                    None => {
                        found[len] = Found { token, matched, times: 1, all: 0 };
                        len += 1;
                    }
                }
                left -= 1;
            }
            let all = found[first..len].iter().map(|found| found.times).sum();
            for found in &mut found[first..len] {
                found.all = all;
            }
            inner = outer;
        }
        let found = &mut found[..len];
        // Stable, so that the same corpus always gives the same draft.
        found.sort_by_key(|found| std::cmp::Reverse((found.matched, found.times)));
        for (rank, found) in found.iter().take(PROPOSED).enumerate() {
            proposals.push(found.token, grade(rank, found.matched, found.times, found.all));
        }
    }

    fn grades(&self) -> usize {
        128
    }

    fn prior(&self, grade: u8) -> f32 {
        // Set by hand, below those of the text itself: in a large corpus short matches are chance.
        const BY_LENGTH: [f32; 8] = [0.05, 0.15, 0.3, 0.45, 0.55, 0.7, 0.8, 0.9];
        const BY_AGREEMENT: [f32; 4] = [1.0, 1.1, 0.8, 0.5];
        match grade >> 5 {
            0 => {
                let length = BY_LENGTH[usize::from((grade >> 2) & 7)];
                (length * BY_AGREEMENT[usize::from(grade & 3)]).min(0.97)
            }
            rank => 0.1 / f32::from(rank),
        }
    }

    /// The texts are the user's, not learned: they stay.
    fn clear(&mut self) {}

    fn bytes(&self) -> usize {
        self.corpus.bytes()
    }
}
