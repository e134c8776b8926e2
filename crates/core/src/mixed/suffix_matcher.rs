//! A source that copies the continuation of the longest suffix match in prompt and output.

use crate::drafter::DraftContext;
use crate::mixed::match_bins::{BINS, Continuation, match_prior, propose_best};
use crate::mixed::source::{CandidateSource, MAX_CONTEXT_TOKENS, PredictionContext, Proposals};
use crate::token::{SeqId, TokenId};

/// The most earlier positions compared for one prediction, the latest first. By order: positions found by the last token, and
/// by the last two tokens.
const MAX_COMPARED: [usize; 2] = [8, 24];
/// Continuations proposed.
const PROPOSED: usize = 4;

/// A text, indexed by the hash of its last token (order 0) and of its last two (order 1).
///
/// The positions of one hash are linked, as in LZ77 compressors: linear time and memory.
#[derive(Clone, Debug, Default)]
struct SuffixIndex {
    tokens: Vec<TokenId>,
    /// By hash: the latest position + 1, or 0. The number of buckets is 0 or a power of two.
    heads: [Vec<u32>; 2],
    /// By position: the previous position + 1 with the same hash, or 0.
    previous: [Vec<u32>; 2],
}

impl SuffixIndex {
    fn bucket(&self, order: usize, newest: TokenId, before: TokenId) -> usize {
        let key = u64::from(newest) | if order == 1 { (u64::from(before) + 1) << 32 } else { 0 };
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (hash >> 32) as usize & (self.heads[order].len() - 1)
    }

    fn link(&mut self, position: usize) {
        for order in 0..2 {
            let before = if order == 1 && position > 0 { self.tokens[position - 1] } else { 0 };
            let bucket = self.bucket(order, self.tokens[position], before);
            self.previous[order][position] = self.heads[order][bucket];
            self.heads[order][bucket] = position as u32 + 1;
        }
    }

    fn push(&mut self, token: TokenId) {
        if self.tokens.len() >= self.heads[0].len() {
            let size = (self.heads[0].len() * 2).max(2048);
            self.reindex(size);
        }
        self.tokens.push(token);
        for previous in &mut self.previous {
            previous.push(0);
        }
        self.link(self.tokens.len() - 1);
    }

    fn reindex(&mut self, size: usize) {
        for head in &mut self.heads {
            head.clear();
            head.resize(size, 0);
        }
        self.tokens.reserve(size - self.tokens.len());
        for previous in &mut self.previous {
            previous.clear();
            previous.reserve(size);
            previous.resize(self.tokens.len(), 0);
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
        for (head, previous) in self.heads.iter_mut().zip(&mut self.previous) {
            head.fill(0);
            previous.clear();
        }
    }

    fn bytes(&self) -> usize {
        let words = self.tokens.capacity() + self.heads[0].len() * 2 + self.previous[0].capacity() * 2;
        words * size_of::<u32>()
    }

    /// Proposes the continuations of the longest matches of the end of `recent`.
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
            let mut next = self.heads[order][self.bucket(order, newest, before)];
            for _ in 0..MAX_COMPARED[order] {
                let Some(position) = (next as usize).checked_sub(1) else { break };
                next = self.previous[order][position];
                let Some(&token) = self.tokens.get(position + 1) else { continue };
                let pairs = self.tokens[..=position].iter().rev().zip(recent.iter().rev());
                let match_len = pairs.take_while(|(a, b)| a == b).count();
                // A hash collision.
                if match_len <= order {
                    continue;
                }
                let new = Continuation { token, match_len, matches: 1, all_matches: 0 };
                match found[..len].iter_mut().find(|found| found.token == token) {
                    Some(known) => {
                        known.match_len = match_len.max(known.match_len);
                        known.matches += 1;
                    }
                    None if len < PROPOSED => {
                        found[len] = new;
                        len += 1;
                    }
                    None => {
                        // Replaces the worst, the oldest of equal ones.
                        let worst =
                            found.iter_mut().rev().min_by_key(|found| (found.match_len, found.matches));
                        if let Some(worst) = worst.filter(|worst| worst.match_len < match_len) {
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
        let all_matches = found.iter().map(|found| found.matches).sum();
        found.iter_mut().for_each(|found| found.all_matches = all_matches);
        propose_best(found, PROPOSED, proposals);
    }
}

/// Proposes the continuations of the longest suffix matches in prompt and output.
///
/// Keeps up to 16 texts. When a text reaches its maximum length, the older half is dropped.
#[derive(Clone, Debug)]
pub struct SuffixMatcher {
    sequences: Vec<IndexedSequence>,
    max_tokens: usize,
}

#[derive(Clone, Debug)]
struct IndexedSequence {
    seq: SeqId,
    /// Tokens dropped from the beginning.
    dropped: usize,
    indexed: SuffixIndex,
}

/// The most texts kept at once.
const MAX_SEQUENCES: usize = 16;

impl SuffixMatcher {
    /// Keeps up to `max_tokens` tokens (at least 16) of each text.
    #[must_use]
    pub fn new(max_tokens: usize) -> Self {
        Self { sequences: Vec::new(), max_tokens: max_tokens.max(MAX_CONTEXT_TOKENS) }
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
        if let Some(text) = self.sequences.iter().find(|text| text.seq == context.seq) {
            text.indexed.propose(context.recent, proposals);
        }
    }

    fn confidence_bins(&self) -> usize {
        BINS
    }

    fn prior_hit_rate(&self, confidence_bin: u8) -> f32 {
        // Measured on a small model, then smoothed.
        let by_length = [0.24, 0.46, 0.64, 0.7, 0.75, 0.79, 0.85, 0.92];
        match_prior(confidence_bin, by_length, [1.0, 1.25, 0.8, 0.6], [0.09, 0.05, 0.035])
    }

    fn before_draft(&mut self, context: DraftContext<'_>) {
        let at = match self.sequences.iter().position(|text| text.seq == context.seq) {
            Some(at) => at,
            None if self.sequences.len() < MAX_SEQUENCES => {
                self.sequences.push(IndexedSequence {
                    seq: context.seq,
                    dropped: 0,
                    indexed: SuffixIndex::default(),
                });
                self.sequences.len() - 1
            }
            None => {
                // The oldest text is the first.
                self.sequences[0].seq = context.seq;
                self.sequences[0].dropped = 0;
                self.sequences[0].indexed.clear();
                self.sequences.rotate_left(1);
                MAX_SEQUENCES - 1
            }
        };
        let text = &mut self.sequences[at];
        // Starts over if the text does not continue the kept tokens.
        let known = text.dropped + text.indexed.tokens.len();
        if known > context.tokens.len() || text.indexed.tokens.last() != context.tokens[..known].last() {
            text.indexed.clear();
            text.dropped = context.tokens.len().saturating_sub(self.max_tokens);
        }
        for &token in &context.tokens[text.dropped + text.indexed.tokens.len()..] {
            if text.indexed.tokens.len() >= self.max_tokens {
                let half = self.max_tokens / 2;
                text.indexed.drop_front(half);
                text.dropped += half;
            }
            text.indexed.push(token);
        }
    }

    fn drop_sequence(&mut self, seq: SeqId) {
        self.sequences.retain(|text| text.seq != seq);
    }

    fn clear(&mut self) {
        self.sequences.clear();
    }

    fn bytes(&self) -> usize {
        self.sequences.iter().map(|text| text.indexed.bytes()).sum()
    }
}
