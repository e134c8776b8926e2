//! Times passes: what a [`CostCurve`] is made of.

use crate::{
    Clock, Commit, CostCurve, CostError, DraftTree, NodeId, RowSelection, SeqId, Shape, TokenId, TopK,
    TreeInput, TreeLimits, Verifier, VerifyError,
};

/// Candidates ranked for each row, as the paper's drafter wants them.
const K: usize = 8;
/// Rows of a chunk while a context is read.
const CHUNK: usize = 512;

/// Which passes are timed.
#[derive(Clone, Copy, Debug)]
pub struct Timing<'a> {
    /// Tokens cached; cut to what leaves room for the widest pass.
    pub contexts: &'a [usize],
    /// Rows of the passes; those beyond the backend's limits are left out.
    pub rows: &'a [usize],
    /// How often each size is timed at each context, one more at the start not counted.
    pub sweeps: usize,
}

/// The times of all sizes over one context.
#[derive(Clone, Debug, PartialEq)]
pub struct Timed {
    /// Tokens cached.
    pub context: usize,
    /// Rows of a pass, in the order in which they were asked for.
    pub rows: Vec<usize>,
    /// Median seconds of a pass of each, `[rows]`.
    pub seconds: Vec<f64>,
}

impl Timing<'_> {
    /// Times the passes, sizes interleaved so that a slow moment of the machine falls on all alike, each sweep but the first
    /// behind a pass of the first size that is not timed. `stop` is asked
    /// before each pass; after it, what was timed so far is what there is (the first sweep included, where it is the only
    /// one).
    ///
    /// The tree of a pass is a binary one, so that it has as many leaves as draft trees have; a chain where the backend
    /// takes no trees. It runs in a sequence of its own, which is closed in any case.
    ///
    /// # Errors
    /// Whatever the passes fail with.
    pub fn run<V: Verifier + ?Sized>(
        &self,
        verifier: &mut V,
        clock: &dyn Clock,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Timed>, VerifyError> {
        let seq = verifier.open()?;
        let timed = self.run_in(verifier, seq, clock, stop);
        verifier.close(seq);
        timed
    }

    fn run_in<V: Verifier + ?Sized>(
        &self,
        verifier: &mut V,
        seq: SeqId,
        clock: &dyn Clock,
        stop: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Timed>, VerifyError> {
        let limits = verifier.limits().clone();
        let shape = limits.support.shape();
        let most = limits.max_rows.min(limits.max_context.saturating_sub(1));
        let leaves = |rows: usize| if shape == Shape::Tree { rows.div_ceil(2) } else { 1 };
        let fits = |&rows: &usize| rows > 0 && rows <= most && leaves(rows) <= limits.max_leaves;
        let rows: Vec<usize> = self.rows.iter().copied().filter(fits).collect();
        let widest = rows.iter().copied().max().unwrap_or(1);
        let trees: Vec<DraftTree> = rows.iter().map(|&rows| tree(rows, limits.vocab, shape)).collect();
        let mut top = TopK::new(K);
        let (mut all, mut committed) = (Vec::new(), 0);
        for &context in self.contexts {
            let context = context.min(limits.max_context.saturating_sub(widest));
            if context < committed {
                verifier.truncate(seq, 0)?;
                committed = 0;
            }
            read(verifier, seq, committed, context, &mut top)?;
            committed = context;
            let mut times = vec![Vec::with_capacity(self.sweeps + 1); rows.len()];
            'sweeps: for sweep in 0..=self.sweeps {
                // Behind a wider pass a narrow one is slower than behind its like: it finds less of the weights in the caches.
                if let (Some(first), 1..) = (trees.first(), sweep) {
                    verifier.forward(&[TreeInput { seq, tree: first, rows: RowSelection::All }], &mut top)?;
                }
                for (tree, times) in trees.iter().zip(&mut times) {
                    if stop() {
                        break 'sweeps;
                    }
                    let start = clock.now();
                    verifier.forward(&[TreeInput { seq, tree, rows: RowSelection::All }], &mut top)?;
                    times.push(clock.now().saturating_sub(start).as_secs_f64());
                }
            }
            let timed = rows.iter().zip(times).filter_map(|(&rows, times)| Some((rows, settled(times)?)));
            let (rows, seconds) = timed.unzip();
            all.push(Timed { context, rows, seconds });
        }
        Ok(all)
    }
}

/// Reads the tokens from position `from` to `to` into a sequence that holds `from`, the last row of each chunk ranked.
pub(super) fn read<V: Verifier + ?Sized>(
    verifier: &mut V,
    seq: SeqId,
    from: usize,
    to: usize,
    top: &mut TopK,
) -> Result<(), VerifyError> {
    let (vocab, most) = (verifier.limits().vocab, verifier.limits().max_rows.min(CHUNK));
    for start in (from..to).step_by(most) {
        let chunk: Vec<TokenId> = (start..to.min(start + most)).map(|at| token(at, vocab)).collect();
        let tree = DraftTree::chain(&chunk);
        verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::Last }], top)?;
        let path: Vec<NodeId> = tree.nodes().collect();
        verifier.commit(&[Commit { seq, path: &path }])?;
    }
    Ok(())
}

/// The median of all times but the first, which is the only one where there is no other.
pub(super) fn settled(mut times: Vec<f64>) -> Option<f64> {
    if times.len() > 1 {
        times.remove(0);
    }
    times.sort_unstable_by(f64::total_cmp);
    times.get(times.len().checked_sub(1)? / 2).copied()
}

/// Some token that differs from its neighbours.
fn token(at: usize, vocab: usize) -> TokenId {
    (at.wrapping_mul(7919).wrapping_add(13) % vocab.max(1)) as TokenId
}

/// A chain of `rows` tokens.
pub(super) fn chain(rows: usize, vocab: usize) -> DraftTree {
    tree(rows, vocab, Shape::Chain)
}

/// A tree of `rows` nodes, each with up to two children; or a chain.
fn tree(rows: usize, vocab: usize, shape: Shape) -> DraftTree {
    let mut tree = DraftTree::new();
    tree.restart(token(0, vocab), TreeLimits::UNBOUNDED);
    for node in 1..rows {
        let parent = if shape == Shape::Tree { (node - 1) / 2 } else { node - 1 };
        let mut at = node;
        // In a tiny vocabulary siblings may collide: try the next token then.
        while tree.len() == node && at < node + vocab {
            let _ = tree.push(NodeId::new(parent), token(at, vocab), None);
            at += 1;
        }
    }
    tree
}

impl CostCurve {
    /// A curve of what was timed. `key` says what it holds for: model, backend, options, CPU.
    ///
    /// # Errors
    /// [`CostError`] if nothing was timed, or a clock stood still.
    pub fn of(key: String, timed: &[Timed]) -> Result<Self, CostError> {
        let points = |timed: &Timed| {
            let mut points: Vec<(usize, f64)> =
                timed.rows.iter().copied().zip(timed.seconds.iter().copied()).collect();
            points.sort_unstable_by_key(|&(rows, _)| rows);
            points.dedup_by_key(|&mut (rows, _)| rows);
            (timed.context, points)
        };
        let mut lines: Vec<_> = timed.iter().filter(|timed| !timed.rows.is_empty()).map(points).collect();
        lines.sort_by_key(|&(context, _)| context);
        lines.dedup_by_key(|&mut (context, _)| context);
        Self::new(key, lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_have_the_nodes_that_were_asked_for() {
        for rows in [1, 2, 9, 81] {
            assert_eq!(tree(rows, 7, Shape::Tree).len(), rows);
            assert_eq!(tree(rows, 7, Shape::Chain).len(), rows);
            assert_eq!(tree(rows, 7, Shape::Chain).leaves(), 1);
        }
    }

    #[test]
    fn the_first_of_several_times_is_dropped() {
        assert_eq!(settled(vec![9.0, 1.0, 3.0, 2.0]), Some(2.0));
        assert_eq!(settled(vec![9.0]), Some(9.0));
        assert_eq!(settled(vec![]), None);
    }
}
