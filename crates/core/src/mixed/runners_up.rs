//! Runners-up: what the model almost said a moment ago.

use super::source::{Place, Proposals, Scored, Source};
use crate::{NodeId, Phase, SeqId, TokenId};

/// Ranks of a row that count, the chosen token left out.
const RANKS: usize = 4;
/// How many of the last rows count.
const ROWS: usize = 3;
/// Rows of rejected siblings that count, and how many candidates of each.
const SIBLINGS: usize = 2;
const AFTER_SIBLING: usize = 3;

#[derive(Clone, Copy, Debug, Default)]
struct Remembered {
    /// The runners-up of the last rows on the text's own path, the latest first.
    rows: [[Option<(TokenId, u8)>; RANKS]; ROWS],
    /// What the model would have said after the siblings of the last token that it rejected.
    after: [[Option<(TokenId, u8)>; AFTER_SIBLING]; SIBLINGS],
}

/// Proposes tokens that the model ranked high a few places before and did not choose, since what was nearly said often
/// comes next (LogitSpec uses the last logits to guess the next-next token), and what it would have said after a
/// rejected sibling of the last token, since that often comes after the token itself.
#[derive(Clone, Debug, Default)]
pub struct TopKHistory {
    texts: Vec<(SeqId, Remembered)>,
}

fn score_step(gap: f32) -> u8 {
    // The logit's distance to the row's best.
    [0.7, 1.5, 3.0].partition_point(|&edge: &f32| edge <= gap) as u8
}

impl Source for TopKHistory {
    fn name(&self) -> &'static str {
        "runners-up"
    }

    fn propose(&self, place: Place<'_>, proposals: &mut Proposals) {
        let Some((_, memory)) = self.texts.iter().find(|(seq, _)| *seq == place.seq) else { return };
        if place.depth == 0 {
            for (sibling, row) in memory.after.iter().enumerate() {
                for (rank, &(token, score)) in row.iter().flatten().enumerate() {
                    if !proposals.contains(token) {
                        proposals.push(token, 128 | (sibling as u8) << 4 | (rank as u8) << 2 | score);
                    }
                }
            }
        }
        for (back, row) in memory.rows.iter().enumerate() {
            let distance = back + place.depth;
            if distance >= 4 {
                return;
            }
            for (rank, &(token, score)) in row.iter().flatten().enumerate() {
                if !proposals.contains(token) {
                    proposals.push(token, (distance as u8) << 4 | (rank as u8) << 2 | score);
                }
            }
        }
    }

    fn grades(&self) -> usize {
        256
    }

    fn prior(&self, grade: u8) -> f32 {
        if grade & 128 != 0 { 0.05 } else { 0.015 }
    }

    fn trust(&self) -> f32 {
        0.1
    }

    fn observe(&mut self, scored: Scored<'_>) {
        let outcome = scored.outcome();
        if outcome.phase == Phase::Prefill {
            return;
        }
        let at = match self.texts.iter().position(|(seq, _)| *seq == outcome.seq) {
            Some(at) => at,
            None => {
                self.texts.push((outcome.seq, Remembered::default()));
                self.texts.len() - 1
            }
        };
        let memory = &mut self.texts[at].1;
        for (&node, &sampled) in outcome.accepted.nodes.iter().zip(&outcome.accepted.sampled) {
            let Some(candidates) = outcome.candidates(node) else { continue };
            memory.rows.rotate_right(1);
            memory.rows[0] = [None; RANKS];
            let best = candidates.logits[0];
            let others = candidates.ids.iter().zip(candidates.logits).filter(|(id, _)| **id != sampled);
            for (slot, (&id, &logit)) in memory.rows[0].iter_mut().zip(others) {
                *slot = Some((id, score_step(best - logit)));
            }
        }
        memory.after = [[None; AFTER_SIBLING]; SIBLINGS];
        let Some(&last) = outcome.accepted.nodes.last() else { return };
        let mut rejected: [Option<NodeId>; SIBLINGS] = [None; SIBLINGS];
        for (slot, child) in rejected.iter_mut().zip(outcome.tree.children(last)) {
            *slot = Some(child);
        }
        for (row, child) in memory.after.iter_mut().zip(rejected) {
            let Some(candidates) = child.and_then(|child| outcome.candidates(child)) else { continue };
            let best = candidates.logits[0];
            for (slot, (&id, &logit)) in row.iter_mut().zip(candidates.ids.iter().zip(candidates.logits)) {
                *slot = Some((id, score_step(best - logit)));
            }
        }
    }

    fn forget(&mut self, seq: SeqId) {
        self.texts.retain(|(other, _)| *other != seq);
    }

    fn clear(&mut self) {
        self.texts.clear();
    }

    fn bytes(&self) -> usize {
        self.texts.capacity() * size_of::<(SeqId, Remembered)>()
    }
}
