//! A source that remembers which tokens the model ranked high a few tokens ago.

use crate::drafter::{Outcome, Phase};
use crate::mixed::source::{CandidateSource, PredictionContext, Proposals};
use crate::token::{SeqId, TokenId};
use crate::top::Candidates;

/// Remembered rankings of the accepted path, and the tokens of each (without the sampled one).
const RANKINGS: usize = 3;
const TOKENS: usize = 4;
/// Remembered rankings after rejected siblings, and the tokens of each.
const SIBLINGS: usize = 2;
const SIBLING_TOKENS: usize = 3;
/// A token is proposed up to this distance from its ranking, in tokens.
const MAX_DISTANCE: usize = 4;

/// A token, and the bin of its logit's distance to the ranking's best.
type Ranked = Option<(TokenId, u8)>;

#[derive(Clone, Copy, Debug, Default)]
struct RecentRankings {
    /// The tokens that were ranked high but not sampled in the last rows of the accepted path, the newest first.
    rankings: [[Ranked; TOKENS]; RANKINGS],
    /// The best tokens after the rejected siblings of the bonus token.
    after_siblings: [[Ranked; SIBLING_TOKENS]; SIBLINGS],
}

/// Proposes tokens that the model ranked high in the last rows but that were not sampled. They often come next. LogitSpec
/// (Liu et al., arXiv 2507.01449) drafts from the last row in this way.
///
/// Also proposes the best tokens after a rejected sibling of the bonus token. They often follow the bonus token too.
#[derive(Clone, Debug, Default)]
pub struct TopKHistory {
    sequences: Vec<(SeqId, RecentRankings)>,
}

/// The ids of `candidates` with the bins of their logits' distance to the best.
fn ranked<'a>(candidates: &Candidates<'a>) -> impl Iterator<Item = (TokenId, u8)> + use<'a> {
    let best = candidates.logits[0];
    let bin = move |logit: f32| [0.7, 1.5, 3.0].partition_point(|&edge| edge <= best - logit) as u8;
    candidates.ids.iter().zip(candidates.logits).map(move |(&id, &logit)| (id, bin(logit)))
}

fn fill(ranking: &mut [Ranked], tokens: impl Iterator<Item = (TokenId, u8)>) {
    ranking.fill(None);
    for (entry, token) in ranking.iter_mut().zip(tokens) {
        *entry = Some(token);
    }
}

fn push_new(proposals: &mut Proposals, ranking: &[Ranked], bins: u8) {
    for (rank, &(token, bin)) in ranking.iter().flatten().enumerate() {
        if !proposals.contains(token) {
            proposals.push(token, bins | (rank as u8) << 2 | bin);
        }
    }
}

impl CandidateSource for TopKHistory {
    fn name(&self) -> &'static str {
        "top-k-history"
    }

    fn propose(&self, context: PredictionContext<'_>, proposals: &mut Proposals) {
        let Some((_, history)) = self.sequences.iter().find(|(seq, _)| *seq == context.seq) else { return };
        if context.depth == 0 {
            for (sibling, ranking) in history.after_siblings.iter().enumerate() {
                push_new(proposals, ranking, 128 | (sibling as u8) << 4);
            }
        }
        let distances = context.depth..MAX_DISTANCE;
        for (distance, ranking) in distances.zip(&history.rankings) {
            push_new(proposals, ranking, (distance as u8) << 4);
        }
    }

    fn confidence_bins(&self) -> usize {
        256
    }

    fn prior_hit_rate(&self, confidence_bin: u8) -> f32 {
        if confidence_bin & 128 != 0 { 0.05 } else { 0.015 }
    }

    fn initial_weight(&self) -> f32 {
        0.1
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        if outcome.phase == Phase::Prefill {
            return;
        }
        let at = match self.sequences.iter().position(|(seq, _)| *seq == outcome.seq) {
            Some(at) => at,
            None => {
                self.sequences.push((outcome.seq, RecentRankings::default()));
                self.sequences.len() - 1
            }
        };
        let history = &mut self.sequences[at].1;
        for (&node, &sampled) in outcome.accepted.nodes.iter().zip(&outcome.accepted.sampled) {
            let Some(candidates) = outcome.candidates(node) else { continue };
            history.rankings.rotate_right(1);
            fill(&mut history.rankings[0], ranked(&candidates).filter(|&(id, _)| id != sampled));
        }
        history.after_siblings = Default::default();
        let Some(&last) = outcome.accepted.nodes.last() else { return };
        let rejected = outcome.tree.children(last);
        for (ranking, sibling) in history.after_siblings.iter_mut().zip(rejected) {
            if let Some(candidates) = outcome.candidates(sibling) {
                fill(ranking, ranked(&candidates));
            }
        }
    }

    fn drop_sequence(&mut self, seq: SeqId) {
        self.sequences.retain(|(other, _)| *other != seq);
    }

    fn clear(&mut self) {
        self.sequences.clear();
    }

    fn bytes(&self) -> usize {
        self.sequences.capacity() * size_of::<(SeqId, RecentRankings)>()
    }
}
