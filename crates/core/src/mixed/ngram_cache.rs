//! A source that remembers the model's ranking after the last two or three tokens.

use crate::drafter::Outcome;
use crate::mixed::row_bins::{BINS, WIDTH, next_stability, row_bin, row_prior, row_scores};
use crate::mixed::source::{CandidateSource, PredictionContext, Proposals, WINDOW, rows_to_learn};
use crate::token::TokenId;

/// Rows of one set. A new row replaces the least recently written one of its set.
const WAYS: usize = 4;

#[derive(Clone, Copy, Debug)]
struct HashedRow {
    /// 0 marks a vacant row.
    tag: u32,
    written: u32,
    tokens: [TokenId; WIDTH],
    scores: [u8; WIDTH],
    len: u8,
    stability: u8,
}

impl HashedRow {
    const VACANT: Self =
        Self { tag: 0, written: 0, tokens: [0; WIDTH], scores: [0; WIDTH], len: 0, stability: 0 };
}

/// Proposes the remembered row of the last two or three tokens, from a set-associative table of fixed size.
///
/// The key is a hash. Two keys share a row with a probability of about 2^-30; such a collision makes a draft worse, but
/// never changes the text.
#[derive(Clone, Debug)]
pub struct NgramCache {
    order: usize,
    rows: Vec<HashedRow>,
    clock: u32,
}

impl NgramCache {
    /// A table keyed by the last `order` tokens (2 or 3) that takes at most `bytes` (and at least one set of rows).
    #[must_use]
    pub fn new(order: usize, bytes: usize) -> Self {
        let sets = (bytes / (WAYS * size_of::<HashedRow>())).max(1);
        let sets = if sets.is_power_of_two() { sets } else { sets.next_power_of_two() / 2 };
        Self { order: order.clamp(2, 3), rows: vec![HashedRow::VACANT; sets * WAYS], clock: 0 }
    }

    /// The first row of the key's set, and the key's tag; `None` if `recent` is shorter than the key.
    fn key(&self, recent: &[TokenId]) -> Option<(usize, u32)> {
        let start = recent.len().checked_sub(self.order)?;
        let hash = recent[start..].iter().fold(0x9E37_79B9_7F4A_7C15_u64, |hash, &token| {
            (hash ^ u64::from(token)).wrapping_mul(0xD6E8_FEB8_6659_FD93).rotate_left(29)
        });
        let hash = (hash ^ (hash >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let set = hash as usize & (self.rows.len() / WAYS - 1);
        Some((set * WAYS, (hash >> 32) as u32 | 1))
    }

    fn find(&self, recent: &[TokenId]) -> Option<&HashedRow> {
        let (first, tag) = self.key(recent)?;
        self.rows[first..first + WAYS].iter().find(|row| row.tag == tag)
    }
}

impl CandidateSource for NgramCache {
    fn name(&self) -> &'static str {
        if self.order == 2 { "bigram" } else { "trigram" }
    }

    fn propose(&self, context: PredictionContext<'_>, proposals: &mut Proposals) {
        let Some(row) = self.find(context.recent) else { return };
        for (rank, &token) in row.tokens[..usize::from(row.len)].iter().enumerate() {
            proposals.push(token, row_bin(rank, row.scores[rank], row.stability));
        }
    }

    fn confidence_bins(&self) -> usize {
        BINS
    }

    fn prior(&self, confidence_bin: u8) -> f32 {
        row_prior(confidence_bin, if self.order == 2 { 1.0 } else { 1.06 })
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        let mut window = [0; WINDOW];
        for (node, candidates) in rows_to_learn(outcome) {
            let context = PredictionContext::of(outcome, node, &mut window);
            let Some((first, tag)) = self.key(context.recent) else { continue };
            self.clock = self.clock.wrapping_add(1);
            let clock = self.clock;
            // The row of this key, otherwise a vacant one, otherwise the least recently written.
            let Some(row) = self.rows[first..first + WAYS]
                .iter_mut()
                .max_by_key(|row| (row.tag == tag, row.tag == 0, clock.wrapping_sub(row.written)))
            else {
                continue;
            };
            let same_best = row.tag == tag && row.tokens.first() == candidates.ids.first();
            let len = candidates.ids.len().min(WIDTH);
            row.tag = tag;
            row.written = clock;
            row.len = len as u8;
            row.tokens[..len].copy_from_slice(&candidates.ids[..len]);
            row.scores = row_scores(&candidates);
            row.stability = next_stability(row.stability, same_best);
        }
    }

    fn clear(&mut self) {
        self.rows.fill(HashedRow::VACANT);
    }

    fn bytes(&self) -> usize {
        size_of_val(&self.rows[..])
    }
}
