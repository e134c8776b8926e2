//! Confidence bins for candidates that come from a remembered ranking of the model: rank, probability and stability of
//! the best token in one byte.

use crate::matrix::softmax;
use crate::top::Candidates;

/// Candidates of a ranking that are used.
pub const RANKING_LEN: usize = 8;

/// The edges of the probability bins, in 255ths.
const PROBABILITY_EDGES: [u8; 7] = [5, 15, 38, 77, 128, 184, 235];

/// Hit rates of best candidates by probability bin. In `NEW_BEST` the last write changed the ranking's best candidate. In `STABLE_BEST`
/// the last three writes kept it. Measured on a small model, then smoothed.
const NEW_BEST: [f32; 8] = [0.03, 0.04, 0.07, 0.13, 0.2, 0.31, 0.47, 0.62];
const STABLE_BEST: [f32; 8] = [0.1, 0.15, 0.25, 0.5, 0.68, 0.82, 0.88, 0.93];
/// Hit rates of all other candidates by probability bin.
const OTHERS: [f32; 8] = [0.012, 0.02, 0.04, 0.12, 0.22, 0.3, 0.4, 0.4];

/// The number of bins.
pub(super) const BINS: usize = 256;

/// The bin of a token by its `rank`, its `probability` (softmax over the ranking, in 255ths) and how often the ranking's best token
/// has stayed the same.
pub(super) fn ranking_bin(rank: usize, probability: u8, best_repeats: u8) -> u8 {
    let probability = PROBABILITY_EDGES.partition_point(|&edge| edge <= probability);
    ((rank.min(7) << 5) | (probability << 2)) as u8 | best_repeats
}

/// The prior hit rate of a bin. `factor` scales it for sources whose rankings are better or worse than average.
pub(super) fn ranking_prior(bin: u8, factor: f32) -> f32 {
    let probability = usize::from((bin >> 2) & 7);
    let rate = match bin >> 5 {
        0 => {
            NEW_BEST[probability]
                + (STABLE_BEST[probability] - NEW_BEST[probability]) * f32::from(bin & 3) / 3.0
        }
        _ => OTHERS[probability],
    };
    (rate * factor).clamp(0.004, 0.97)
}

/// How many times in succession the best candidate of a ranking has stayed the same, at most 3, after one more update.
pub(super) fn next_best_repeats(best_repeats: u8, same_best: bool) -> u8 {
    if same_best { (best_repeats + 1).min(3) } else { 0 }
}

/// The probabilities of a ranking: softmax over its own candidates, in 255ths.
pub(super) fn ranking_probabilities(candidates: &Candidates<'_>) -> [u8; RANKING_LEN] {
    let mut probabilities = [0; RANKING_LEN];
    softmax(&candidates.logits[..candidates.logits.len().min(RANKING_LEN)], &mut probabilities);
    probabilities
}
