//! A source over the paper's adjacency matrix: the model's ranking after the last token.

use crate::drafter::Outcome;
use crate::matrix::AdjacencyMatrix;
use crate::mixed::row_bins::{BINS, WIDTH, next_stability, row_bin, row_prior};
use crate::mixed::source::{CandidateSource, PredictionContext, Proposals, rows_to_learn};
use crate::token::TokenId;

/// Assumed for a row whose scores are unknown: typical scores of rows that a template has drafted from.
const TYPICAL_SCORES: [u8; WIDTH] = [140, 40, 20, 14, 10, 8, 7, 6];
/// The stability of a row that was loaded with scores, for example from a snapshot: between new and most stable.
const LOADED_STABILITY: u8 = 1;

/// Proposes the adjacency matrix's row of the last token. In addition to the rank it uses the scores of the row and how
/// often the best candidate has stayed the same.
#[derive(Clone, Debug)]
pub struct AdjacencySource {
    matrix: AdjacencyMatrix,
    /// How many times in succession each row's best candidate has stayed the same, at most 3, `[vocab]`.
    stability: Vec<u8>,
}

/// Whether a row has scores. If it has, the score of its best candidate is never 0.
fn are_known(scores: &[u8]) -> bool {
    scores.first().is_some_and(|&score| score > 0)
}

impl AdjacencySource {
    /// A source over `matrix`. It uses the first [`WIDTH`] candidates of each row.
    #[must_use]
    pub fn new(matrix: AdjacencyMatrix) -> Self {
        let stability = (0..matrix.vocab() as TokenId)
            .map(|token| if are_known(matrix.scores(token)) { LOADED_STABILITY } else { 0 })
            .collect();
        Self { matrix, stability }
    }
}

impl CandidateSource for AdjacencySource {
    fn name(&self) -> &'static str {
        "recycling"
    }

    fn propose(&self, context: PredictionContext<'_>, proposals: &mut Proposals) {
        let Some(&token) = context.recent.last() else { return };
        let scores = self.matrix.scores(token);
        let scores = if are_known(scores) { scores } else { &TYPICAL_SCORES };
        let stability = self.stability.get(token as usize).copied().unwrap_or(0);
        for (rank, (candidate, &score)) in self.matrix.row(token).zip(scores).take(WIDTH).enumerate() {
            proposals.push(candidate, row_bin(rank, score, stability));
        }
    }

    fn confidence_bins(&self) -> usize {
        BINS
    }

    fn prior(&self, confidence_bin: u8) -> f32 {
        row_prior(confidence_bin, 0.85)
    }

    fn initial_weight(&self) -> f32 {
        0.6
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        for (node, candidates) in rows_to_learn(outcome) {
            let token = outcome.tree.tokens()[node.index()];
            let same_best = self.matrix.candidate(token, 0) == candidates.ids.first().copied();
            self.matrix.update_scored(token, &candidates);
            if let Some(stability) = self.stability.get_mut(token as usize) {
                *stability = next_stability(*stability, same_best);
            }
        }
    }

    fn clear(&mut self) {
        self.matrix.clear();
        self.stability.fill(0);
    }

    fn matrix(&self) -> Option<&AdjacencyMatrix> {
        Some(&self.matrix)
    }

    fn set_matrix(&mut self, matrix: AdjacencyMatrix) {
        *self = Self::new(matrix);
    }

    fn bytes(&self) -> usize {
        self.matrix.bytes() + self.stability.len()
    }
}
