//! A source that ignores the context: it proposes the most frequent tokens of recent texts.

use crate::drafter::Outcome;
use crate::mixed::source::{CandidateSource, PredictionContext, Proposals};
use crate::token::TokenId;

/// Tokens proposed.
const PROPOSED: usize = 8;
/// All counts are halved when one reaches this, so that old texts count less.
const MAX_COUNT: u16 = 400;

/// Proposes the tokens sampled most often. Useful if no other source knows the last token.
#[derive(Clone, Debug)]
pub struct FrequentTokens {
    counts: Vec<u16>,
    /// The most frequent tokens, by descending count.
    top: [TokenId; PROPOSED],
    len: usize,
}

impl FrequentTokens {
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
        if count >= MAX_COUNT {
            for count in &mut self.counts {
                *count /= 2;
            }
        }
        let count = self.count(token);
        let mut rank = match self.top[..self.len].iter().position(|&other| other == token) {
            Some(rank) => rank,
            None if self.len < PROPOSED => {
                self.len += 1;
                self.len - 1
            }
            None if self.count(self.top[PROPOSED - 1]) < count => PROPOSED - 1,
            None => return,
        };
        self.top[rank] = token;
        while rank > 0 && self.count(self.top[rank - 1]) <= count {
            self.top.swap(rank - 1, rank);
            rank -= 1;
        }
    }
}

impl CandidateSource for FrequentTokens {
    fn name(&self) -> &'static str {
        "frequent"
    }

    fn propose(&self, _: PredictionContext<'_>, proposals: &mut Proposals) {
        for (rank, &token) in self.top[..self.len].iter().enumerate() {
            proposals.push(token, rank as u8);
        }
    }

    fn confidence_bins(&self) -> usize {
        PROPOSED
    }

    fn prior_hit_rate(&self, confidence_bin: u8) -> f32 {
        0.05 / (1.0 + f32::from(confidence_bin) * 0.3)
    }

    fn initial_weight(&self) -> f32 {
        0.05
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        for &token in &outcome.accepted.sampled {
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
