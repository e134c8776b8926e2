//! A source that copies what followed the longest earlier match of the text's end.

use crate::drafter::Context;
use crate::mixed::match_bins::{BINS, Continuation, match_prior, propose_best};
use crate::mixed::source::{CandidateSource, PredictionContext, Proposals, WINDOW};
use crate::token::{SeqId, TokenId};

/// The most earlier positions compared for one prediction, the latest first. By order: positions found by the last token, and
/// by the last two tokens.
const MAX_COMPARED: [usize; 2] = [8, 24];
/// Continuations proposed.
const PROPOSED: usize = 4;

/// A text, indexed by the hash of its last token (order 0) and of its last two (order 1).
///
/// The positions of one hash form a chain, as in LZ77 compressors: linear time and memory.
#[derive(Clone, Debug, Default)]
struct History {
    tokens: Vec<TokenId>,
    /// By hash: the latest position + 1, or 0. The number of slots is 0 or a power of two.
    heads: [Vec<u32>; 2],
    /// By position: the previous position + 1 with the same hash, or 0.
    chains: [Vec<u32>; 2],
}

impl History {
    fn slot(&self, order: usize, newest: TokenId, before: TokenId) -> usize {
        let key = u64::from(newest) | if order == 1 { (u64::from(before) + 1) << 32 } else { 0 };
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (hash >> 32) as usize & (self.heads[order].len() - 1)
    }

    fn link(&mut self, position: usize) {
        for order in 0..2 {
            let before = if order == 1 && position > 0 { self.tokens[position - 1] } else { 0 };
            let slot = self.slot(order, self.tokens[position], before);
            self.chains[order][position] = self.heads[order][slot];
            self.heads[order][slot] = position as u32 + 1;
        }
    }

    fn push(&mut self, token: TokenId) {
        if self.tokens.len() >= self.heads[0].len() {
            let size = (self.heads[0].len() * 2).max(2048);
            self.reindex(size);
        }
        self.tokens.push(token);
        for chain in &mut self.chains {
            chain.push(0);
        }
        self.link(self.tokens.len() - 1);
    }

    fn reindex(&mut self, size: usize) {
        for head in &mut self.heads {
            head.clear();
            head.resize(size, 0);
        }
        self.tokens.reserve(size - self.tokens.len());
        for chain in &mut self.chains {
            chain.clear();
            chain.reserve(size);
            chain.resize(self.tokens.len(), 0);
        }
        for position in 0..self.tokens.len() {
            self.link(position);
        }
    }

    /// Drops the first `count` tokens.
    fn drop_front(&mut self, count: usize) {
        self.tokens.drain(..count);
        let size = self.heads[0].len();
        self.reindex(size);
    }

    fn clear(&mut self) {
        self.tokens.clear();
        for (head, chain) in self.heads.iter_mut().zip(&mut self.chains) {
            head.fill(0);
            chain.clear();
        }
    }

    fn bytes(&self) -> usize {
        let words = self.tokens.capacity() + self.heads[0].len() * 2 + self.chains[0].capacity() * 2;
        words * size_of::<u32>()
    }

    /// Proposes what followed the longest matches of the end of `recent`.
    fn propose(&self, recent: &[TokenId], proposals: &mut Proposals) {
        let (Some(&newest), false) = (recent.last(), self.tokens.is_empty()) else { return };
        let mut found = [Continuation::default(); PROPOSED];
        let mut len = 0;
        for order in [1, 0] {
            let before = match recent {
                [.., before, _] if order == 1 => *before,
                _ if order == 1 => continue,
                _ => 0,
            };
            let mut next = self.heads[order][self.slot(order, newest, before)];
            for _ in 0..MAX_COMPARED[order] {
                let Some(position) = (next as usize).checked_sub(1) else { break };
                next = self.chains[order][position];
                let Some(&token) = self.tokens.get(position + 1) else { continue };
                let pairs = self.tokens[..=position].iter().rev().zip(recent.iter().rev());
                let matched = pairs.take_while(|(a, b)| a == b).count();
                // A hash collision.
                if matched <= order {
                    continue;
                }
                let new = Continuation { token, matched, times: 1, of: 0 };
                match found[..len].iter_mut().find(|found| found.token == token) {
                    Some(known) => {
                        known.matched = matched.max(known.matched);
                        known.times += 1;
                    }
                    None if len < PROPOSED => {
                        found[len] = new;
                        len += 1;
                    }
                    None => {
                        // Replaces the worst, the oldest of equal ones.
                        let worst = found.iter_mut().rev().min_by_key(|found| (found.matched, found.times));
                        if let Some(worst) = worst.filter(|worst| worst.matched < matched) {
                            *worst = new;
                        }
                    }
                }
            }
            if len > 0 {
                break;
            }
        }
        let found = &mut found[..len];
        let of = found.iter().map(|found| found.times).sum();
        found.iter_mut().for_each(|found| found.of = of);
        propose_best(found, PROPOSED, proposals);
    }
}

/// Proposes what followed the longest earlier match of the text's end, in prompt and output.
///
/// Keeps up to 16 texts. When a text reaches its maximum length, the older half is dropped.
#[derive(Clone, Debug)]
pub struct SuffixMatcher {
    texts: Vec<Text>,
    max_tokens: usize,
}

#[derive(Clone, Debug)]
struct Text {
    seq: SeqId,
    /// Tokens dropped from the beginning.
    dropped: usize,
    history: History,
}

/// The most texts kept at once.
const MAX_TEXTS: usize = 16;

impl SuffixMatcher {
    /// Keeps up to `max_tokens` tokens (at least 16) of each text.
    #[must_use]
    pub fn new(max_tokens: usize) -> Self {
        Self { texts: Vec::new(), max_tokens: max_tokens.max(WINDOW) }
    }
}

impl Default for SuffixMatcher {
    fn default() -> Self {
        Self::new(1 << 14)
    }
}

impl CandidateSource for SuffixMatcher {
    fn name(&self) -> &'static str {
        "suffix"
    }

    fn propose(&self, context: PredictionContext<'_>, proposals: &mut Proposals) {
        if let Some(text) = self.texts.iter().find(|text| text.seq == context.seq) {
            text.history.propose(context.recent, proposals);
        }
    }

    fn confidence_bins(&self) -> usize {
        BINS
    }

    fn prior(&self, confidence_bin: u8) -> f32 {
        // Measured on a small model, then smoothed.
        let by_length = [0.24, 0.46, 0.64, 0.7, 0.75, 0.79, 0.85, 0.92];
        match_prior(confidence_bin, by_length, [1.0, 1.25, 0.8, 0.6], [0.09, 0.05, 0.035])
    }

    fn follow(&mut self, context: Context<'_>) {
        let at = match self.texts.iter().position(|text| text.seq == context.seq) {
            Some(at) => at,
            None if self.texts.len() < MAX_TEXTS => {
                self.texts.push(Text { seq: context.seq, dropped: 0, history: History::default() });
                self.texts.len() - 1
            }
            None => {
                // The oldest text is the first.
                self.texts[0].seq = context.seq;
                self.texts[0].dropped = 0;
                self.texts[0].history.clear();
                self.texts.rotate_left(1);
                MAX_TEXTS - 1
            }
        };
        let text = &mut self.texts[at];
        // Starts over if the text does not continue the kept tokens.
        let known = text.dropped + text.history.tokens.len();
        if known > context.tokens.len() || text.history.tokens.last() != context.tokens[..known].last() {
            text.history.clear();
            text.dropped = context.tokens.len().saturating_sub(self.max_tokens);
        }
        for &token in &context.tokens[text.dropped + text.history.tokens.len()..] {
            if text.history.tokens.len() >= self.max_tokens {
                let half = self.max_tokens / 2;
                text.history.drop_front(half);
                text.dropped += half;
            }
            text.history.push(token);
        }
    }

    fn forget(&mut self, seq: SeqId) {
        self.texts.retain(|text| text.seq != seq);
    }

    fn clear(&mut self) {
        self.texts.clear();
    }

    fn bytes(&self) -> usize {
        self.texts.iter().map(|text| text.history.bytes()).sum()
    }
}
