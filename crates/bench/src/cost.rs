//! What a pass costs by its rows: t(n), on this machine, with this engine.

use std::collections::BTreeMap;
use std::time::Instant;

use upcycle_core::{
    Commit, CostCurve, CostError, DraftTree, NodeId, Room, Rows, SeqId, Shape, Step, TokenId, TopK, Verifier,
    VerifyError,
};

use crate::results::Cost;
use crate::statistics::median;

/// Rows that are always timed, where the backend takes them.
pub const ROWS: [usize; 13] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 81];

/// Candidates ranked for each row, as the paper's drafter wants them.
const K: usize = 8;

/// The times of one size at one context.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Tokens cached.
    pub context: usize,
    /// Rows of a pass, rising.
    pub rows: Vec<usize>,
    /// Seconds of a pass of each, the median of the sweeps, `[rows]`.
    pub seconds: Vec<f64>,
}

impl Point {
    /// As a part of results.
    #[must_use]
    pub fn named(self, setup: &str) -> Cost {
        Cost { setup: setup.to_owned(), context: self.context, rows: self.rows, seconds: self.seconds }
    }
}

/// [`ROWS`] and `more`, rising.
#[must_use]
pub fn rows(more: &[usize]) -> Vec<usize> {
    let mut rows: Vec<usize> = ROWS.iter().chain(more).copied().filter(|&rows| rows > 0).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// Times passes of `rows` rows over each of `contexts` cached tokens, `sweeps` times each, interleaved so that a slow
/// moment of the machine falls on all sizes alike. The first pass of each size is not counted.
///
/// The tree of a pass is a binary one, so that it has as many leaves as draft trees have; a chain where the backend takes
/// no trees. Sizes and contexts that do not fit the backend's limits are left out, a context being cut to what fits.
///
/// # Errors
/// Whatever the verifier's passes fail with. The sequence that was opened is closed in any case.
pub fn measure(
    verifier: &mut dyn Verifier,
    contexts: &[usize],
    rows: &[usize],
    sweeps: usize,
    interrupted: &dyn Fn() -> bool,
) -> Result<Vec<Point>, VerifyError> {
    let seq = verifier.open()?;
    let measured = measure_in(verifier, seq, contexts, rows, sweeps, interrupted);
    verifier.close(seq);
    measured
}

fn measure_in(
    verifier: &mut dyn Verifier,
    seq: SeqId,
    contexts: &[usize],
    rows: &[usize],
    sweeps: usize,
    interrupted: &dyn Fn() -> bool,
) -> Result<Vec<Point>, VerifyError> {
    let limits = verifier.limits().clone();
    let most = limits.max_rows.min(limits.max_context.saturating_sub(1));
    let leaves = |rows: usize| if limits.support.shape() == Shape::Tree { rows.div_ceil(2) } else { 1 };
    let rows: Vec<usize> =
        rows.iter().copied().filter(|&rows| rows <= most && leaves(rows) <= limits.max_leaves).collect();
    let widest = rows.iter().copied().max().unwrap_or(1);
    let mut top = TopK::new(K);
    let mut points = Vec::new();
    let mut committed = 0;
    for &context in contexts {
        let context = context.min(limits.max_context.saturating_sub(widest));
        // Contexts rise as a rule; else the sequence begins anew.
        if context < committed {
            verifier.truncate(seq, 0)?;
            committed = 0;
        }
        while committed < context {
            let chunk: Vec<TokenId> = (committed..context.min(committed + limits.max_rows.min(512)))
                .map(|at| token(at, limits.vocab))
                .collect();
            let tree = DraftTree::chain(&chunk);
            verifier.forward(&[Step { seq, tree: &tree, rows: Rows::Last }], &mut top)?;
            let path: Vec<NodeId> = tree.nodes().collect();
            verifier.commit(&[Commit { seq, path: &path }])?;
            committed += chunk.len();
        }
        let trees: Vec<DraftTree> =
            rows.iter().map(|&rows| tree(rows, limits.vocab, limits.support.shape())).collect();
        let mut times = vec![Vec::with_capacity(sweeps); rows.len()];
        for sweep in 0..=sweeps {
            for (tree, times) in trees.iter().zip(&mut times) {
                if interrupted() {
                    break;
                }
                let start = Instant::now();
                verifier.forward(&[Step { seq, tree, rows: Rows::All }], &mut top)?;
                if sweep > 0 {
                    times.push(start.elapsed().as_secs_f64());
                }
            }
        }
        let timed: Vec<(usize, f64)> =
            rows.iter().zip(times).filter_map(|(&rows, times)| Some((rows, median(times)?))).collect();
        let (rows, seconds) = timed.into_iter().unzip();
        points.push(Point { context, rows, seconds });
    }
    Ok(points)
}

/// Some token that differs from its neighbours.
fn token(at: usize, vocab: usize) -> TokenId {
    ((at.wrapping_mul(7919) + 13) % vocab) as TokenId
}

/// A tree of `rows` nodes, each with up to two children; or a chain.
fn tree(rows: usize, vocab: usize, shape: Shape) -> DraftTree {
    let mut tree = DraftTree::new();
    tree.restart(token(0, vocab), Room::UNBOUNDED);
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

/// Brings together several sweeps: the median of each size, for each setup and context.
#[must_use]
pub fn merge(costs: impl IntoIterator<Item = Cost>) -> Vec<Cost> {
    let mut order: Vec<(String, usize)> = Vec::new();
    let mut times: BTreeMap<(String, usize), BTreeMap<usize, Vec<f64>>> = BTreeMap::new();
    for Cost { setup, context, rows, seconds } in costs {
        let key = (setup, context);
        if !order.contains(&key) {
            order.push(key.clone());
        }
        let times = times.entry(key).or_default();
        for (rows, seconds) in rows.into_iter().zip(seconds) {
            times.entry(rows).or_default().push(seconds);
        }
    }
    let merged = order.into_iter().map(|(setup, context)| {
        let times = times.remove(&(setup.clone(), context)).unwrap_or_default();
        let timed = times.into_iter().filter_map(|(rows, times)| Some((rows, median(times)?)));
        let (rows, seconds) = timed.unzip();
        Cost { setup, context, rows, seconds }
    });
    merged.collect()
}

/// The curve that a budget reads, of the costs of one setup.
///
/// # Errors
/// [`CostError`] if nothing was measured.
pub fn curve(key: String, costs: &[Cost]) -> Result<CostCurve, CostError> {
    let lines = costs.iter().filter(|cost| !cost.rows.is_empty());
    let mut lines: Vec<(usize, Vec<(usize, f64)>)> = lines
        .map(|cost| (cost.context, cost.rows.iter().copied().zip(cost.seconds.iter().copied()).collect()))
        .collect();
    lines.sort_by_key(|&(context, _)| context);
    lines.dedup_by_key(|&mut (context, _)| context);
    CostCurve::new(key, lines)
}

#[cfg(test)]
mod tests {
    use upcycle_testkit::NaiveVerifier;

    use super::*;

    #[test]
    fn every_size_that_fits_is_timed_and_the_sequence_closed() {
        let mut verifier = NaiveVerifier::new(40, 1);
        let sizes = rows(&[9, 2, 0]);
        assert!(sizes.is_sorted() && sizes.contains(&9) && sizes[0] == 1);
        for _ in 0..3 {
            let points = measure(&mut verifier, &[8, 20, 4], &sizes, 2, &|| false).unwrap();
            let contexts: Vec<usize> = points.iter().map(|point| point.context).collect();
            assert_eq!(contexts, [8, 20, 4]);
            for point in &points {
                assert_eq!(point.rows, sizes);
                assert!(point.seconds.iter().all(|&seconds| seconds > 0.0));
            }
            let named: Vec<Cost> = points.into_iter().map(|point| point.named("x")).collect();
            assert!(curve("key".into(), &named).unwrap().seconds(1, 8) > 0.0);
        }
        assert!(measure(&mut verifier, &[8], &sizes, 2, &|| true).unwrap()[0].rows.is_empty());
    }

    #[test]
    fn trees_have_the_nodes_that_were_asked_for() {
        for rows in [1, 2, 9, 81] {
            assert_eq!(tree(rows, 7, Shape::Tree).len(), rows);
            assert_eq!(tree(rows, 7, Shape::Chain).len(), rows);
            assert_eq!(tree(rows, 7, Shape::Chain).leaves(), 1);
        }
    }

    #[test]
    fn sweeps_merge_to_medians() {
        let cost = |seconds: f64| Cost {
            setup: "x".into(),
            context: 8,
            rows: vec![1, 2],
            seconds: vec![1.0, seconds],
        };
        let merged = merge([cost(2.0), cost(9.0), cost(3.0)]);
        assert_eq!(merged, [cost(3.0)]);
        assert!(curve(String::new(), &[]).is_err());
    }
}
