//! Confidence bins for the continuations of suffix matches: rank, match length and agreement in one byte.

use crate::mixed::source::Proposals;
use crate::token::TokenId;

/// The number of bins.
pub(super) const BINS: usize = 128;

/// The edges of the length bins, in tokens.
const LENGTH_EDGES: [usize; 7] = [2, 3, 4, 5, 7, 10, 14];

/// A token that followed at least one match.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Continuation {
    pub(super) token: TokenId,
    /// The length of the longest match that it followed.
    pub(super) match_len: usize,
    /// How many matches it followed.
    pub(super) matches: usize,
    /// How many matches were compared.
    pub(super) all_matches: usize,
}

impl Continuation {
    fn bin(&self, rank: usize) -> u8 {
        let length = LENGTH_EDGES.partition_point(|&edge| edge <= self.match_len);
        // The only match; all of several matches; at least half of them; fewer.
        let agreement = match (self.matches, self.all_matches) {
            (1, 1) => 0,
            (matches, all) if matches == all => 1,
            (matches, all) if 2 * matches >= all => 2,
            _ => 3,
        };
        (rank.min(3) << 5 | length << 2 | agreement) as u8
    }
}

/// Proposes the first `count` of `found`: longest match first, then most matches. The order is deterministic.
pub(super) fn propose_best(found: &mut [Continuation], count: usize, proposals: &mut Proposals) {
    found.sort_by_key(|found| std::cmp::Reverse((found.match_len, found.matches)));
    for (rank, found) in found.iter().take(count).enumerate() {
        proposals.push(found.token, found.bin(rank));
    }
}

/// The prior hit rate of a bin: for the best continuation `by_length` times `by_agreement`, for others `by_rank`.
pub(super) fn match_prior(bin: u8, by_length: [f32; 8], by_agreement: [f32; 4], by_rank: [f32; 3]) -> f32 {
    match usize::from(bin >> 5) {
        0 => (by_length[usize::from((bin >> 2) & 7)] * by_agreement[usize::from(bin & 3)]).min(0.97),
        rank => by_rank[(rank - 1).min(2)],
    }
}
