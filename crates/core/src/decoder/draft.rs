//! Drafts the trees of a pass and prunes them to the size that pays.

use super::active::ActiveSession;
use super::{Budget, Decoder};
use crate::budget::Offer;
use crate::drafter::{Context, Drafter, Phase};
use crate::tree_limits::TreeLimits;
use crate::verifier::Verifier;

impl<V: Verifier, D: Drafter> Decoder<V, D> {
    /// Makes the tree of each session: the next chunk of its prompt, or a draft.
    pub(super) fn draft(&mut self, active: &mut [ActiveSession<'_>]) {
        let count = active.len();
        let limits = self.verifier.limits();
        let budget = match &self.budget {
            Budget::Fixed(limits) => *limits,
            Budget::Auto(budget) => TreeLimits { nodes: budget.most(), ..TreeLimits::UNBOUNDED },
        };
        for ActiveSession { session, .. } in active {
            if session.phase() == Phase::Prefill {
                let rows = (limits.max_rows / count).min(self.prefill_chunk).max(1);
                let end = session.prompt_len.min(session.committed + rows);
                let chunk = &session.tokens[session.committed..end];
                session.tree.restart_chain(chunk[0], &chunk[1..]);
                continue;
            }
            let start = self.clock.now();
            let tree_limits = limits.tree_limits(session.committed, count).and(budget);
            session.tree.restart(session.tokens[session.committed], tree_limits);
            let context =
                Context { seq: session.seq, tokens: &session.tokens, prompt_len: session.prompt_len };
            self.drafter.draft(context, &mut session.tree);
            session.stats.time.draft += self.clock.now().saturating_sub(start);
        }
    }

    /// Where a budget chooses the size, prunes the drafts to the nodes that pay.
    pub(super) fn choose_size(&mut self, active: &mut [ActiveSession<'_>]) {
        let Budget::Auto(budget) = &mut self.budget else { return };
        self.offers.clear();
        let (mut rows, mut decoding, mut context) = (0, 0, 0);
        for (index, ActiveSession { session, .. }) in active.iter().enumerate() {
            context += session.committed;
            if session.phase() == Phase::Prefill {
                rows += session.tree.len();
                continue;
            }
            rows += 1;
            decoding += 1;
            self.paths.clear();
            self.paths.push((1.0, 1.0));
            for node in session.tree.nodes().skip(1) {
                let (above, left) = &mut self.paths[session.tree.parents()[node.index()] as usize];
                // At most one sibling can be accepted, whatever the drafter claims for each.
                let chance = self.calibration.chance(&session.tree, node).min(*left);
                *left -= chance;
                let path = *above * chance;
                self.paths.push((path, 1.0));
                self.offers.push(Offer { path, tree: index as u32, node });
            }
        }
        if decoding == 0 {
            return;
        }
        let nodes = budget.choose(&mut self.offers, (rows, decoding), context / active.len());
        let chosen = &mut self.offers[..nodes];
        chosen.sort_unstable_by_key(|offer| (offer.tree, offer.node));
        for (index, ActiveSession { session, .. }) in active.iter_mut().enumerate() {
            if session.phase() == Phase::Prefill {
                continue;
            }
            session.unpruned_tree.copy_from(&session.tree);
            let first = chosen.partition_point(|offer| (offer.tree as usize) < index);
            let mut own = chosen[first..].iter().filter(|offer| offer.tree as usize == index).peekable();
            session.tree.retain(|node| own.next_if(|offer| offer.node == node).is_some());
        }
    }
}
