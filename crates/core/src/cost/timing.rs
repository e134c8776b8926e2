//! Times passes of several row counts, for a cost curve.

use std::ops::Range;

use crate::clock::Clock;
use crate::input::{RowSelection, TreeInput};
use crate::token::{SeqId, TokenId};
use crate::top::TopK;
use crate::tree::{DraftTree, NodeId};
use crate::tree_limits::{TreeKind, TreeLimits};
use crate::verifier::{Verifier, VerifyError, prefill, with_sequence};

/// Candidates ranked for each row: the paper's k.
pub(super) const K: usize = 8;

/// The passes to time.
#[derive(Clone, Copy, Debug)]
pub struct TimingPlan<'a> {
    /// Cached tokens; reduced if they and the largest pass do not fit the backend's context.
    pub contexts: &'a [usize],
    /// Rows of the passes; row counts beyond the backend's limits are left out.
    pub rows: &'a [usize],
    /// Timed repetitions of each row count at each context, after an uncounted one.
    pub repetitions: usize,
}

/// The times of all row counts at one context.
#[derive(Clone, Debug, PartialEq)]
pub struct ContextTimes {
    /// Cached tokens.
    pub context: usize,
    /// Rows of the passes, in the order of the request.
    pub rows: Vec<usize>,
    /// Median seconds of each, `[rows]`.
    pub seconds: Vec<f64>,
    /// The median of each divided by its least seconds, `[rows]`: 1 where all times are equal.
    pub spread: Vec<f64>,
}

impl TimingPlan<'_> {
    /// Times the passes. The row counts are interleaved, so a slow moment of the machine affects all of them.
    ///
    /// `stop` is called before each pass. If it returns true, the result has what was timed until then. The uncounted
    /// repetition then counts if it is the only one.
    ///
    /// The passes score binary trees, which have about as many leaves as draft trees. If the backend does not support trees,
    /// they score chains. `run` opens a sequence for them and closes it.
    ///
    /// # Errors
    /// [`VerifyError`] if a pass fails.
    pub fn run<V: Verifier + ?Sized>(
        &self,
        verifier: &mut V,
        clock: &dyn Clock,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<ContextTimes>, VerifyError> {
        with_sequence(verifier, |verifier, seq| self.run_in(verifier, seq, clock, stop))
    }

    fn run_in<V: Verifier + ?Sized>(
        &self,
        verifier: &mut V,
        seq: SeqId,
        clock: &dyn Clock,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<ContextTimes>, VerifyError> {
        let limits = verifier.limits().clone();
        let kind = limits.support.kind();
        let max_rows = limits.max_rows.min(limits.max_context.saturating_sub(1));
        let leaves = |rows: usize| if kind == TreeKind::Tree { rows.div_ceil(2) } else { 1 };
        let fits = |&rows: &usize| rows > 0 && rows <= max_rows && leaves(rows) <= limits.max_leaves;
        let rows: Vec<usize> = self.rows.iter().copied().filter(fits).collect();
        let widest = rows.iter().copied().max().unwrap_or(1);
        let trees: Vec<DraftTree> = rows.iter().map(|&rows| tree(rows, limits.vocab, kind)).collect();
        let mut top = TopK::new(K);
        let (mut all, mut committed) = (Vec::new(), 0);
        for &context in self.contexts {
            let context = context.min(limits.max_context.saturating_sub(widest));
            if context < committed {
                verifier.truncate(seq, 0)?;
                committed = 0;
            }
            prefill_positions(verifier, seq, committed..context, &mut top)?;
            committed = context;
            let mut times = vec![Vec::with_capacity(self.repetitions + 1); rows.len()];
            'repetitions: for repetition in 0..=self.repetitions {
                // A small pass is slower after a larger one, which leaves less of the weights in the caches. So one small pass
                // is not timed.
                if let (Some(first), 1..) = (trees.first(), repetition) {
                    verifier.forward(&[TreeInput { seq, tree: first, rows: RowSelection::All }], &mut top)?;
                }
                for (tree, times) in trees.iter().zip(&mut times) {
                    if stop() {
                        break 'repetitions;
                    }
                    let start = clock.now();
                    verifier.forward(&[TreeInput { seq, tree, rows: RowSelection::All }], &mut top)?;
                    times.push(clock.now().saturating_sub(start).as_secs_f64());
                }
            }
            let mut timed =
                ContextTimes { context, rows: Vec::new(), seconds: Vec::new(), spread: Vec::new() };
            for (&rows, times) in rows.iter().zip(times) {
                let least = times.iter().copied().fold(f64::INFINITY, f64::min);
                let Some(median) = median_after_first(times) else { continue };
                timed.rows.push(rows);
                timed.seconds.push(median);
                timed.spread.push(if least > 0.0 { median / least } else { 1.0 });
            }
            all.push(timed);
        }
        Ok(all)
    }
}

/// Appends tokens at `positions`, which start at the end of the sequence.
pub(super) fn prefill_positions<V: Verifier + ?Sized>(
    verifier: &mut V,
    seq: SeqId,
    positions: Range<usize>,
    top: &mut TopK,
) -> Result<(), VerifyError> {
    let vocab = verifier.limits().vocab;
    let tokens: Vec<TokenId> = positions.map(|position| token(position, vocab)).collect();
    prefill(verifier, seq, &tokens, top)
}

/// The median of all times but the first, or the first if there is no other.
pub(super) fn median_after_first(mut times: Vec<f64>) -> Option<f64> {
    if times.len() > 1 {
        times.remove(0);
    }
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len().checked_sub(1)? / 2).copied()
}

/// A token for a position, different from its neighbours.
fn token(position: usize, vocab: usize) -> TokenId {
    (position.wrapping_mul(7919).wrapping_add(13) % vocab.max(1)) as TokenId
}

/// A chain of `rows` tokens.
pub(super) fn chain(rows: usize, vocab: usize) -> DraftTree {
    tree(rows, vocab, TreeKind::Chain)
}

/// A tree of `rows` nodes, each with up to two children; or a chain.
fn tree(rows: usize, vocab: usize, kind: TreeKind) -> DraftTree {
    let mut tree = DraftTree::new();
    tree.reset(token(0, vocab), TreeLimits::UNBOUNDED);
    for node in 1..rows {
        let parent = if kind == TreeKind::Tree { (node - 1) / 2 } else { node - 1 };
        let mut at = node;
        // In a tiny vocabulary siblings may be equal: try the next token.
        while tree.len() == node && at < node + vocab {
            let _ = tree.push(NodeId::new(parent), token(at, vocab), None);
            at += 1;
        }
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_have_the_requested_nodes() {
        for rows in [1, 2, 9, 81] {
            assert_eq!(tree(rows, 7, TreeKind::Tree).len(), rows);
            assert_eq!(tree(rows, 7, TreeKind::Chain).len(), rows);
            assert_eq!(tree(rows, 7, TreeKind::Chain).leaves(), 1);
        }
    }

    #[test]
    fn the_median_leaves_out_the_first_time() {
        assert_eq!(median_after_first(vec![9.0, 1.0, 3.0, 2.0]), Some(2.0));
        assert_eq!(median_after_first(vec![9.0]), Some(9.0));
        assert_eq!(median_after_first(vec![]), None);
    }
}
