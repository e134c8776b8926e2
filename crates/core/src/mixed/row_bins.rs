//! Confidence bins for candidates that come from a remembered row of the model: rank, score and stability in one byte.

use crate::matrix::softmax;
use crate::top::Candidates;

/// Candidates of a row that are used.
pub const WIDTH: usize = 8;

/// The edges of the score bins, in 255ths.
const SCORE_EDGES: [u8; 7] = [5, 15, 38, 77, 128, 184, 235];

/// Hit rates of best candidates by score bin. In `NEW_BEST` the row's best candidate has just changed. In `STABLE_BEST` it has
/// stayed the same three times. Measured on a small model, then smoothed.
const NEW_BEST: [f32; 8] = [0.03, 0.04, 0.07, 0.13, 0.2, 0.31, 0.47, 0.62];
const STABLE_BEST: [f32; 8] = [0.1, 0.15, 0.25, 0.5, 0.68, 0.82, 0.88, 0.93];
/// Hit rates of all other candidates by score bin.
const OTHERS: [f32; 8] = [0.012, 0.02, 0.04, 0.12, 0.22, 0.3, 0.4, 0.4];

/// The number of bins.
pub(super) const BINS: usize = 256;

/// The bin of the candidate of `rank` with `score` (softmax over the row, in 255ths) in a row of this `stability`.
pub(super) fn row_bin(rank: usize, score: u8, stability: u8) -> u8 {
    let score = SCORE_EDGES.partition_point(|&edge| edge <= score);
    ((rank.min(7) << 5) | (score << 2)) as u8 | stability
}

/// The prior hit rate of a bin. `factor` scales it for sources whose rows are better or worse than average.
pub(super) fn row_prior(bin: u8, factor: f32) -> f32 {
    let score = usize::from((bin >> 2) & 7);
    let rate = match bin >> 5 {
        0 => NEW_BEST[score] + (STABLE_BEST[score] - NEW_BEST[score]) * f32::from(bin & 3) / 3.0,
        _ => OTHERS[score],
    };
    (rate * factor).clamp(0.004, 0.97)
}

/// How many times in succession the best candidate of a row has stayed the same, at most 3, after one more update.
pub(super) fn next_stability(stability: u8, same_best: bool) -> u8 {
    if same_best { (stability + 1).min(3) } else { 0 }
}

/// The scores of a row: softmax over its own candidates, in 255ths.
pub(super) fn row_scores(candidates: &Candidates<'_>) -> [u8; WIDTH] {
    let mut scores = [0; WIDTH];
    softmax(&candidates.logits[..candidates.logits.len().min(WIDTH)], &mut scores);
    scores
}
