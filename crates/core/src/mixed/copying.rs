//! SuffixMatcher: what followed the same words before, in this text or in earlier ones.

use super::source::{Place, Proposals, Source, WINDOW};
use crate::{Context, SeqId, TokenId};

/// Earlier places looked at for one guess, the latest first.
const LOOKED_AT: usize = 24;
/// Continuations proposed.
const PROPOSED: usize = 4;

/// A text with, for each place, the latest earlier place that ends with the same two tokens (and one token).
///
/// Chains of hashes over an array: linear in time and memory, and the longest of the looked-at matches wins.
#[derive(Clone, Debug, Default)]
struct History {
    tokens: Vec<TokenId>,
    /// Place + 1 by hash; a power of two of them, or none.
    heads: [Vec<u32>; 2],
    /// For each place, place + 1 of the one before it in its chain.
    chains: [Vec<u32>; 2],
}

impl History {
    fn slot(&self, order: usize, newest: TokenId, before: TokenId) -> usize {
        let key = u64::from(newest) | if order == 1 { (u64::from(before) + 1) << 32 } else { 0 };
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (hash >> 32) as usize & (self.heads[order].len() - 1)
    }

    fn link(&mut self, place: usize) {
        for order in 0..2 {
            let before = if order == 1 && place > 0 { self.tokens[place - 1] } else { 0 };
            let slot = self.slot(order, self.tokens[place], before);
            self.chains[order][place] = self.heads[order][slot];
            self.heads[order][slot] = place as u32 + 1;
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
        for place in 0..self.tokens.len() {
            self.link(place);
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
        // The continuations found: token, longest match, occurrences.
        let mut found = [(0, 0, 0_usize); PROPOSED];
        let mut len = 0;
        for order in [1, 0] {
            if order == 1 && recent.len() < 2 {
                continue;
            }
            let before = if order == 1 { recent[recent.len() - 2] } else { 0 };
            let mut next = self.heads[order][self.slot(order, newest, before)];
            let looked_at = if order == 1 { LOOKED_AT } else { LOOKED_AT / 3 };
            for _ in 0..looked_at {
                let Some(place) = (next as usize).checked_sub(1) else { break };
                next = self.chains[order][place];
                let Some(&token) = self.tokens.get(place + 1) else { continue };
                let pairs = self.tokens[..=place].iter().rev().zip(recent.iter().rev());
                let matched = pairs.take_while(|(a, b)| a == b).count();
                if matched <= order {
                    continue;
                }
                match found[..len].iter_mut().find(|(other, ..)| *other == token) {
                    Some((_, longest, times)) => {
                        *longest = matched.max(*longest);
                        *times += 1;
                    }
                    None if len < PROPOSED => {
                        found[len] = (token, matched, 1);
                        len += 1;
                    }
                    None => {
                        if let Some(worst) = found.iter_mut().rev().min_by_key(|f| (f.1, f.2))
                            && worst.1 < matched
                        {
                            *worst = (token, matched, 1);
                        }
                    }
                }
            }
            if len > 0 {
                break;
            }
        }
        // Stable, so that of equally good ones the latest stays first.
        found[..len].sort_by_key(|&(_, matched, times)| std::cmp::Reverse((matched, times)));
        let all: usize = found[..len].iter().map(|f| f.2).sum();
        for (rank, &(token, matched, times)) in found[..len].iter().enumerate() {
            proposals.push(token, grade(rank, matched, times, all));
        }
    }
}

/// Matches of these lengths and more are told apart.
const LENGTHS: [usize; 7] = [2, 3, 4, 5, 7, 10, 14];

/// The grade of a continuation that followed `times` of `all` matches, the longest of them `matched` tokens long: rank,
/// length and agreement, below 128.
pub(super) fn grade(rank: usize, matched: usize, times: usize, all: usize) -> u8 {
    let length = LENGTHS.partition_point(|&length| length <= matched);
    // Seen once and alone; several times and always; mostly; seldom.
    let agreement = match (times, all) {
        (1, 1) => 0,
        _ if times == all => 1,
        _ if 2 * times >= all => 2,
        _ => 3,
    };
    (rank.min(3) << 5 | length << 2 | agreement) as u8
}

fn prior(grade: u8) -> f32 {
    // Measured on a small model, then smoothed.
    const BY_LENGTH: [f32; 8] = [0.24, 0.46, 0.64, 0.7, 0.75, 0.79, 0.85, 0.92];
    const BY_RANK: [f32; 4] = [1.0, 0.09, 0.05, 0.035];
    match grade >> 5 {
        0 => (BY_LENGTH[usize::from((grade >> 2) & 7)] * [1.0, 1.25, 0.8, 0.6][usize::from(grade & 3)])
            .min(0.97),
        rank => BY_RANK[usize::from(rank) & 3],
    }
}

/// Copies from the text itself, prompt and output.
///
/// Of a text longer than its cap the older half is forgotten; so are the texts least recently followed beyond the
/// cap of texts.
#[derive(Clone, Debug)]
pub struct SuffixMatcher {
    texts: Vec<Text>,
    max_tokens: usize,
}

/// A sequence's text, of which the first tokens may be forgotten.
#[derive(Clone, Debug)]
struct Text {
    seq: SeqId,
    skipped: usize,
    history: History,
}

/// Texts followed at once.
const TEXTS: usize = 16;

impl SuffixMatcher {
    /// Follows texts of up to `max_tokens` tokens (at least 16) each.
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

impl Source for SuffixMatcher {
    fn name(&self) -> &'static str {
        "suffix"
    }

    fn propose(&self, place: Place<'_>, proposals: &mut Proposals) {
        if let Some(text) = self.texts.iter().find(|text| text.seq == place.seq) {
            text.history.propose(place.recent, proposals);
        }
    }

    fn grades(&self) -> usize {
        128
    }

    fn prior(&self, grade: u8) -> f32 {
        prior(grade)
    }

    fn follow(&mut self, context: Context<'_>) {
        let at = match self.texts.iter().position(|text| text.seq == context.seq) {
            Some(at) => at,
            None if self.texts.len() < TEXTS => {
                self.texts.push(Text { seq: context.seq, skipped: 0, history: History::default() });
                self.texts.len() - 1
            }
            None => {
                // The oldest stands first.
                self.texts[0].seq = context.seq;
                self.texts[0].skipped = 0;
                self.texts[0].history.clear();
                self.texts.rotate_left(1);
                TEXTS - 1
            }
        };
        let text = &mut self.texts[at];
        // What was forgotten of the text's beginning is counted in `skipped`.
        let known = text.skipped + text.history.tokens.len();
        if known > context.tokens.len() || text.history.tokens.last() != context.tokens[..known].last() {
            text.history.clear();
            text.skipped = context.tokens.len().saturating_sub(self.max_tokens);
        }
        for &token in &context.tokens[text.skipped + text.history.tokens.len()..] {
            if text.history.tokens.len() >= self.max_tokens {
                let half = self.max_tokens / 2;
                text.history.drop_front(half);
                text.skipped += half;
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
