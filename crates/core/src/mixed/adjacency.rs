//! A source over the paper's adjacency matrix: the model's ranking after the last token.

use crate::drafter::Outcome;
use crate::matrix::AdjacencyMatrix;
use crate::mixed::ranking_bins::{BINS, RANKING_LEN, next_best_repeats, ranking_bin, ranking_prior};
use crate::mixed::source::{CandidateSource, PredictionContext, Proposals, rows_to_learn};
use crate::token::TokenId;

/// Assumed for a row whose probabilities are unknown: typical probabilities of rows that a template has drafted from.
const TYPICAL_PROBABILITIES: [u8; RANKING_LEN] = [140, 40, 20, 14, 10, 8, 7, 6];
/// The `best_repeats` of a row that was loaded with probabilities, for example from a snapshot: between none and most.
const LOADED_BEST_REPEATS: u8 = 1;

/// Proposes the adjacency matrix's row of the last token. In addition to the rank it uses the probabilities of the row and how
/// often the best candidate has stayed the same.
#[derive(Clone, Debug)]
pub struct AdjacencySource {
    matrix: AdjacencyMatrix,
    /// How many writes in succession have kept each row's best candidate, at most 3, `[vocab]`. A row of the accepted path is written
    /// twice in each pass, so it is never 0 after one.
    best_repeats: Vec<u8>,
}

/// Whether a row has probabilities. If it has, the probability of its best candidate is never 0.
fn are_known(probabilities: &[u8]) -> bool {
    probabilities.first().is_some_and(|&probability| probability > 0)
}

impl AdjacencySource {
    /// A source over `matrix`. It uses the first [`RANKING_LEN`] candidates of each row.
    #[must_use]
    pub fn new(matrix: AdjacencyMatrix) -> Self {
        let best_repeats = (0..matrix.vocab() as TokenId)
            .map(|token| if are_known(matrix.probabilities(token)) { LOADED_BEST_REPEATS } else { 0 })
            .collect();
        Self { matrix, best_repeats }
    }
}

impl CandidateSource for AdjacencySource {
    fn name(&self) -> &'static str {
        "adjacency"
    }

    fn propose(&self, context: PredictionContext<'_>, proposals: &mut Proposals) {
        let Some(&token) = context.recent.last() else { return };
        let probabilities = self.matrix.probabilities(token);
        let probabilities = if are_known(probabilities) { probabilities } else { &TYPICAL_PROBABILITIES };
        let best_repeats = self.best_repeats.get(token as usize).copied().unwrap_or(0);
        for (rank, (candidate, &probability)) in
            self.matrix.candidates(token).zip(probabilities).take(RANKING_LEN).enumerate()
        {
            proposals.push(candidate, ranking_bin(rank, probability, best_repeats));
        }
    }

    fn confidence_bins(&self) -> usize {
        BINS
    }

    fn prior_hit_rate(&self, confidence_bin: u8) -> f32 {
        ranking_prior(confidence_bin, 0.85)
    }

    fn initial_weight(&self) -> f32 {
        0.6
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        for (node, candidates) in rows_to_learn(outcome) {
            let token = outcome.tree.tokens()[node.index()];
            let same_best = self.matrix.candidate(token, 0) == candidates.ids.first().copied();
            self.matrix.update_with_probabilities(token, &candidates);
            if let Some(best_repeats) = self.best_repeats.get_mut(token as usize) {
                *best_repeats = next_best_repeats(*best_repeats, same_best);
            }
        }
    }

    fn clear(&mut self) {
        self.matrix.clear();
        self.best_repeats.fill(0);
    }

    fn matrix(&self) -> Option<&AdjacencyMatrix> {
        Some(&self.matrix)
    }

    fn set_matrix(&mut self, matrix: AdjacencyMatrix) {
        *self = Self::new(matrix);
    }

    fn bytes(&self) -> usize {
        self.matrix.bytes() + self.best_repeats.len()
    }
}
