//! Drafts the trees of a pass and prunes them to the size that the budget chooses.

use super::step::ActiveSession;
use super::{Budget, Decoder};
use crate::budget::{CandidateNode, PlainPass};
use crate::drafter::{DraftContext, Drafter, Phase};
use crate::verifier::Verifier;

impl<V: Verifier, D: Drafter> Decoder<V, D> {
    /// Makes the tree of each session: the next chunk of its prompt, or a draft.
    pub(super) fn draft(&mut self, active: &mut [ActiveSession<'_>]) {
        let count = active.len();
        let prefilling = active.iter().filter(|active| active.session.phase() == Phase::Prefill).count();
        let mut chunk = self.prefill_chunk.min(self.verifier.limits().max_rows / count);
        if prefilling > 0 && prefilling < count {
            let rows = self.prefill_pace.prompt_rows(count - prefilling);
            chunk = chunk.min(rows / prefilling);
        }
        let limits = self.verifier.limits();
        let max_nodes = match &self.budget {
            Budget::Fixed(nodes) => *nodes,
            Budget::Auto(auto) => auto.max_draft(),
        };
        for ActiveSession { session, .. } in active {
            if session.phase() == Phase::Prefill {
                let end = session.prompt_len.min(session.committed + chunk.max(1));
                let tokens = &session.tokens[session.committed..end];
                session.tree.reset_chain(tokens[0], &tokens[1..]);
                continue;
            }
            let start = self.clock.now();
            let mut tree_limits = limits.tree_limits(session.committed, count);
            tree_limits.nodes = tree_limits.nodes.min(max_nodes);
            session.tree.reset(session.tokens[session.committed], tree_limits);
            let context = DraftContext { seq: session.seq, tokens: &session.tokens };
            self.drafter.draft(context, &mut session.tree);
            session.stats.time.draft += self.clock.now().saturating_sub(start);
        }
    }

    /// With an automatic budget, prunes the drafts to the nodes that it chooses.
    pub(super) fn choose_size(&mut self, active: &mut [ActiveSession<'_>]) {
        let Budget::Auto(budget) = &mut self.budget else { return };
        self.candidates.clear();
        let (mut prompt_rows, mut decoding, mut cached_tokens) = (0, 0, 0);
        for (index, ActiveSession { session, .. }) in active.iter().enumerate() {
            cached_tokens += session.committed;
            if session.phase() == Phase::Prefill {
                prompt_rows += session.tree.len();
                continue;
            }
            decoding += 1;
            self.paths.clear();
            self.paths.push((1.0, 1.0));
            for node in session.tree.nodes().skip(1) {
                let (parent_path, unassigned) =
                    &mut self.paths[session.tree.parents()[node.index()] as usize];
                // At most one sibling can be accepted, so the probabilities of siblings sum to at most 1.
                let probability = self.calibration.probability(&session.tree, node).min(*unassigned);
                *unassigned -= probability;
                let path_probability = *parent_path * probability;
                self.paths.push((path_probability, 1.0));
                self.candidates.push(CandidateNode { path_probability, tree: index as u32, node });
            }
        }
        if decoding == 0 {
            return;
        }
        let cached_tokens = cached_tokens / active.len();
        let pass = PlainPass { sequences: decoding, prompt_rows, cached_tokens };
        let nodes = budget.choose(&mut self.candidates, pass);
        let chosen = &mut self.candidates[..nodes];
        chosen.sort_unstable_by_key(|candidate| (candidate.tree, candidate.node));
        let mut chosen = chosen.iter().map(|candidate| (candidate.tree as usize, candidate.node)).peekable();
        for (index, ActiveSession { session, .. }) in active.iter_mut().enumerate() {
            if session.phase() == Phase::Prefill {
                continue;
            }
            session.unpruned_tree.clone_from(&session.tree);
            session.tree.retain(|node| chosen.next_if_eq(&(index, node)).is_some());
        }
    }
}
