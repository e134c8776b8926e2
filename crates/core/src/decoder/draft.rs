//! Makes drafts, and cuts them to the size that pays.

use super::{Budget, Decoder};
use crate::budget::Offer;
use crate::drafter::{Context, Phase};
use crate::{Drafter, Session, TreeLimits, Verifier};

impl<V: Verifier, D: Drafter> Decoder<V, D> {
    /// Cuts the drafts of a pass to what pays. Gives the context of a pass whose cost can be learned from: one of
    /// drafts alone, since a prompt's rows cost less than theirs.
    pub(super) fn choose_size(&mut self, sessions: &mut [Session], count: usize) -> Option<usize> {
        let Budget::Auto(budget) = &mut self.budget else { return None };
        self.offers.clear();
        let (mut rows, mut decoding, mut context) = (0, 0, 0);
        let active = |session: &&mut Session| session.finish.is_none();
        for (index, session) in sessions.iter_mut().filter(active).take(count).enumerate() {
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
                // One sibling alone can come true, whatever a drafter claims for each.
                let chance = self.calibration.chance(&session.tree, node).min(*left);
                *left -= chance;
                let path = *above * chance;
                self.paths.push((path, 1.0));
                self.offers.push(Offer { path, tree: index as u32, node });
            }
        }
        if decoding == 0 {
            return None;
        }
        let context = context / count;
        let nodes = budget.choose(&mut self.offers, (rows, decoding), context);
        // Of each tree the chosen nodes are those before the first offer that was not taken, in the order of offers.
        let taken = &mut self.offers[..nodes];
        taken.sort_unstable_by_key(|offer| (offer.tree, offer.node));
        for (index, session) in sessions.iter_mut().filter(active).take(count).enumerate() {
            if session.phase() == Phase::Prefill {
                continue;
            }
            session.unpruned_tree.copy_from(&session.tree);
            let first = taken.partition_point(|offer| (offer.tree as usize) < index);
            let mut own = taken[first..].iter().filter(|offer| offer.tree as usize == index).peekable();
            session.tree.retain(|node| own.next_if(|offer| offer.node == node).is_some());
        }
        (decoding == count).then_some(context)
    }

    /// Makes the tree of a session's next pass, one of `count` in it.
    pub(super) fn draft(&mut self, session: &mut Session, count: usize) {
        let start = self.clock.now();
        let limits = self.verifier.limits();
        match session.phase() {
            Phase::Prefill => {
                let rows = (limits.max_rows / count).min(self.prefill_chunk).max(1);
                let end = session.prompt_len.min(session.committed + rows);
                let chunk = &session.tokens[session.committed..end];
                session.tree.restart_chain(chunk[0], &chunk[1..]);
            }
            Phase::Decode => {
                let budget = match &self.budget {
                    Budget::Fixed(limits) => *limits,
                    Budget::Auto(budget) => TreeLimits { nodes: budget.most(), ..TreeLimits::UNBOUNDED },
                };
                let tree_limits = limits.tree_limits(session.committed, count).and(budget);
                session.tree.restart(session.tokens[session.committed], tree_limits);
                let context =
                    Context { seq: session.seq, tokens: &session.tokens, prompt_len: session.prompt_len };
                self.drafter.draft(context, &mut session.tree);
                session.stats.time.draft += self.since(start);
            }
        }
    }
}
