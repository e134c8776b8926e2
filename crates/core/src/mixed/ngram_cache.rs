//! A source that remembers the model's ranking after the last two or three tokens.

use crate::drafter::Outcome;
use crate::mixed::ranking_bins::{
    BINS, RANKING_LEN, next_best_repeats, ranking_bin, ranking_prior, ranking_probabilities,
};
use crate::mixed::source::{
    CandidateSource, MAX_CONTEXT_TOKENS, PredictionContext, Proposals, rows_to_learn,
};
use crate::token::TokenId;

/// Rankings of one set. A new ranking replaces the least recently written one of its set.
const WAYS: usize = 4;

#[derive(Clone, Copy, Debug)]
struct CachedRanking {
    /// 0 marks an empty entry.
    tag: u32,
    written: u32,
    tokens: [TokenId; RANKING_LEN],
    probabilities: [u8; RANKING_LEN],
    len: u8,
    best_repeats: u8,
}

impl CachedRanking {
    const EMPTY: Self = Self {
        tag: 0,
        written: 0,
        tokens: [0; RANKING_LEN],
        probabilities: [0; RANKING_LEN],
        len: 0,
        best_repeats: 0,
    };
}

/// Proposes the remembered ranking after the last two or three tokens, from a set-associative table of fixed size.
///
/// The key is a hash. Two keys share an entry with a probability of about 2^-30; such a collision makes a draft worse, but
/// never changes the text.
#[derive(Clone, Debug)]
pub struct NgramCache {
    context_len: usize,
    rankings: Vec<CachedRanking>,
    writes: u32,
}

impl NgramCache {
    /// A table keyed by the last `context_len` tokens (2 or 3) that takes at most `bytes` (and at least one set of rankings).
    #[must_use]
    pub fn new(context_len: usize, bytes: usize) -> Self {
        let sets = (bytes / (WAYS * size_of::<CachedRanking>())).max(1);
        let sets = if sets.is_power_of_two() { sets } else { sets.next_power_of_two() / 2 };
        Self {
            context_len: context_len.clamp(2, 3),
            rankings: vec![CachedRanking::EMPTY; sets * WAYS],
            writes: 0,
        }
    }

    /// The first entry of the key's set, and the key's tag; `None` if `recent` is shorter than the key.
    fn key(&self, recent: &[TokenId]) -> Option<(usize, u32)> {
        let start = recent.len().checked_sub(self.context_len)?;
        let hash = recent[start..].iter().fold(0x9E37_79B9_7F4A_7C15_u64, |hash, &token| {
            (hash ^ u64::from(token)).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29)
        });
        let hash = (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let set = hash as usize & (self.rankings.len() / WAYS - 1);
        Some((set * WAYS, (hash >> 32) as u32 | 1))
    }

    fn find(&self, recent: &[TokenId]) -> Option<&CachedRanking> {
        let (first, tag) = self.key(recent)?;
        self.rankings[first..first + WAYS].iter().find(|ranking| ranking.tag == tag)
    }
}

impl CandidateSource for NgramCache {
    fn name(&self) -> &'static str {
        if self.context_len == 2 { "last-2" } else { "last-3" }
    }

    fn propose(&self, context: PredictionContext<'_>, proposals: &mut Proposals) {
        let Some(ranking) = self.find(context.recent) else { return };
        for (rank, &token) in ranking.tokens[..usize::from(ranking.len)].iter().enumerate() {
            proposals.push(token, ranking_bin(rank, ranking.probabilities[rank], ranking.best_repeats));
        }
    }

    fn confidence_bins(&self) -> usize {
        BINS
    }

    fn prior_hit_rate(&self, confidence_bin: u8) -> f32 {
        ranking_prior(confidence_bin, if self.context_len == 2 { 1.0 } else { 1.06 })
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        let mut window = [0; MAX_CONTEXT_TOKENS];
        for (node, candidates) in rows_to_learn(outcome) {
            let context = PredictionContext::from_outcome(outcome, node, &mut window);
            let Some((first, tag)) = self.key(context.recent) else { continue };
            self.writes = self.writes.wrapping_add(1);
            let writes = self.writes;
            // The entry of this key, otherwise an empty one, otherwise the least recently written.
            let Some(ranking) = self.rankings[first..first + WAYS].iter_mut().max_by_key(|ranking| {
                (ranking.tag == tag, ranking.tag == 0, writes.wrapping_sub(ranking.written))
            }) else {
                continue;
            };
            let same_best = ranking.tag == tag && ranking.tokens.first() == candidates.ids.first();
            let len = candidates.ids.len().min(RANKING_LEN);
            ranking.tag = tag;
            ranking.written = writes;
            ranking.len = len as u8;
            ranking.tokens[..len].copy_from_slice(&candidates.ids[..len]);
            ranking.probabilities = ranking_probabilities(&candidates);
            ranking.best_repeats = next_best_repeats(ranking.best_repeats, same_best);
        }
    }

    fn clear(&mut self) {
        self.rankings.fill(CachedRanking::EMPTY);
    }

    fn bytes(&self) -> usize {
        size_of_val(&self.rankings[..])
    }
}
