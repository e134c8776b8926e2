//! Frequent tokens: what the model says often, whatever stood before.

use super::source::{Place, Proposals, Scored, Source};
use crate::TokenId;

/// Tokens proposed.
const PROPOSED: usize = 8;
/// Counts are halved when one reaches this, so that old texts fade.
const FULL: u16 = 400;

/// Proposes the tokens that were sampled most often lately: of use where no other source knows the last token.
#[derive(Clone, Debug)]
pub struct Frequent {
    counts: Vec<u16>,
    /// The most frequent tokens, the most frequent first.
    top: [TokenId; PROPOSED],
    len: usize,
}

impl Frequent {
    /// For a vocabulary of `vocab` tokens.
    #[must_use]
    pub fn new(vocab: usize) -> Self {
        Self { counts: vec![0; vocab], top: [0; PROPOSED], len: 0 }
    }

    fn count(&self, token: TokenId) -> u16 {
        self.counts.get(token as usize).copied().unwrap_or(0)
    }

    fn add(&mut self, token: TokenId) {
        let Some(count) = self.counts.get_mut(token as usize) else { return };
        *count += 1;
        let count = *count;
        if count >= FULL {
            for count in &mut self.counts {
                *count /= 2;
            }
        }
        let count = self.count(token);
        let place = match self.top[..self.len].iter().position(|&other| other == token) {
            Some(place) => place,
            None if self.len < PROPOSED => {
                self.len += 1;
                self.len - 1
            }
            None if self.count(self.top[PROPOSED - 1]) < count => PROPOSED - 1,
            None => return,
        };
        self.top[place] = token;
        let mut place = place;
        while place > 0 && self.count(self.top[place - 1]) <= count {
            self.top.swap(place - 1, place);
            place -= 1;
        }
    }
}

impl Source for Frequent {
    fn name(&self) -> &'static str {
        "frequent"
    }

    fn propose(&self, _: Place<'_>, proposals: &mut Proposals) {
        for (rank, &token) in self.top[..self.len].iter().enumerate() {
            proposals.push(token, rank as u8);
        }
    }

    fn grades(&self) -> usize {
        PROPOSED
    }

    fn prior(&self, grade: u8) -> f32 {
        0.05 / (1.0 + f32::from(grade) * 0.3)
    }

    fn trust(&self) -> f32 {
        0.05
    }

    fn observe(&mut self, scored: Scored<'_>) {
        for &token in &scored.outcome().accepted.sampled {
            self.add(token);
        }
    }

    fn clear(&mut self) {
        self.counts.fill(0);
        self.len = 0;
    }

    fn bytes(&self) -> usize {
        size_of_val(&self.counts[..])
    }
}
