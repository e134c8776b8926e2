//! Attention of single rows over cached keys and values.
//!
//! The arithmetic of a row depends on its own query and on the keys and values that it sees, in order of their
//! absolute position, and on nothing else: not on the slots they lie in, not on the rows beside it, not on the
//! threads. What a row may not see is never touched, so a tree's row and the same row decoded alone agree to the bit.

use std::cell::RefCell;
use std::ops::Range;

use crate::kv::{KvCache, Part};

/// Independent partial sums of a reduction. Fixed, so that the order of additions is.
const LANES: usize = 16;

/// The slots that each row of a pass sees, in order of absolute position, as runs of neighbouring slots.
///
/// A row sees the committed prefix, its ancestors and itself; for a chain that is one run.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    runs: Vec<Range<usize>>,
    /// For each row, its runs.
    rows: Vec<Range<usize>>,
}

impl Visible {
    /// Forgets all rows.
    pub(crate) fn clear(&mut self) {
        self.runs.clear();
        self.rows.clear();
    }

    /// Adds the rows of a tree over `prefix` committed slots, node `i` in slot `first + i`.
    pub(crate) fn push_tree(&mut self, parents: &[u32], prefix: usize, first: usize) {
        let tree = self.rows.len();
        for (node, &parent) in parents.iter().enumerate() {
            let start = self.runs.len();
            if node > 0 {
                self.runs.extend_from_within(self.rows[tree + parent as usize].clone());
            } else if prefix > 0 {
                self.runs.push(0..prefix);
            }
            let slot = first + node;
            match self.runs[start..].last_mut() {
                Some(run) if run.end == slot => run.end += 1,
                _ => self.runs.push(slot..slot + 1),
            }
            self.rows.push(start..self.runs.len());
        }
    }

    /// The runs that a row sees.
    pub(crate) fn row(&self, row: usize) -> &[Range<usize>] {
        &self.runs[self.rows[row].clone()]
    }
}

thread_local! {
    static WEIGHTS: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Attention of one head of one row: the softmax over the visible slots, without the first `unseen` of them, of
/// `query · key / sqrt(width)`, times their values, into `out`, `[width]`.
///
/// Two passes: all scores and their maximum first, then exponentials and sums. O(visible slots · width).
pub(crate) fn attend(
    cache: &KvCache,
    (layer, head): (usize, usize),
    (visible, unseen): (&[Range<usize>], usize),
    query: &[f32],
    out: &mut [f32],
) {
    let width = query.len();
    let scale = 1.0 / (width as f32).sqrt();
    WEIGHTS.with_borrow_mut(|weights| {
        weights.clear();
        for_each_run(cache, (layer, Part::Keys, head), (visible, unseen), |keys| {
            weights.extend(keys.chunks_exact(width).map(|key| dot(query, key) * scale));
        });
        let total = exponentials(weights);
        out.fill(0.0);
        let mut position = 0;
        for_each_run(cache, (layer, Part::Values, head), (visible, unseen), |values| {
            let weights = &weights[position..];
            add_weighted(out, weights, values);
            position += values.len() / width;
        });
        for value in out {
            *value /= total;
        }
    });
}

/// Hands out what a head has cached in the visible slots but the first `unseen`, in order, a part of a page at a time.
fn for_each_run<'c>(
    cache: &'c KvCache,
    (layer, part, head): (usize, Part, usize),
    (visible, mut unseen): (&[Range<usize>], usize),
    mut f: impl FnMut(&'c [f32]),
) {
    for run in visible {
        let skipped = unseen.min(run.len());
        unseen -= skipped;
        let mut slot = run.start + skipped;
        while slot < run.end {
            f(cache.run(layer, part, head, slot, run.end - slot));
            slot += (run.end - slot).min(crate::kv::PAGE - slot % crate::kv::PAGE);
        }
    }
}

/// The inner product, summed in [`LANES`] lanes.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    fold(sums) + rest
}

/// Adds up the lanes in a fixed tree.
fn fold(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// Turns scores into the exponentials of their distance to the highest, and returns their sum.
fn exponentials(scores: &mut [f32]) -> f32 {
    let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in &mut *scores {
        *score = (*score - highest).exp();
    }
    let mut sums = [0.0_f32; LANES];
    for chunk in scores.chunks(LANES) {
        for (sum, &weight) in sums.iter_mut().zip(chunk) {
            *sum += weight;
        }
    }
    fold(sums)
}

/// Adds `values`, `[n, width]`, each times its weight, to `out`, `[width]`, one position after the other.
fn add_weighted(out: &mut [f32], weights: &[f32], values: &[f32]) {
    let width = out.len();
    let (blocks, rest) = out.as_chunks_mut::<LANES>();
    let blocked = blocks.len() * LANES;
    for (block, out) in blocks.iter_mut().enumerate() {
        // A copy, so that the sums stay in registers.
        let mut sums = *out;
        for (&weight, value) in weights.iter().zip(values.chunks_exact(width)) {
            let Some(value) = value[block * LANES..].first_chunk::<LANES>() else { continue };
            for lane in 0..LANES {
                sums[lane] += weight * value[lane];
            }
        }
        *out = sums;
    }
    for (i, out) in rest.iter_mut().enumerate() {
        for (&weight, value) in weights.iter().zip(values.chunks_exact(width)) {
            *out += weight * value[blocked + i];
        }
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a row often sees a single run")]
mod tests {
    use super::*;
    use crate::kv::{KvShape, PAGE};

    #[test]
    fn a_chain_is_one_run_and_a_branch_skips_its_siblings() {
        let mut visible = Visible::default();
        visible.push_tree(&[0, 0, 1], 5, 5);
        visible.push_tree(&[0, 0, 0, 1], 5, 5);
        visible.push_tree(&[0, 0], 0, 3);
        let rows: Vec<_> = (0..9).map(|row| visible.row(row).to_vec()).collect();
        assert_eq!(rows[2], [0..8]);
        assert_eq!(rows[4], [0..7]);
        assert_eq!(rows[5], [0..6, 7..8]);
        assert_eq!(rows[6], [0..7, 8..9]);
        assert_eq!(rows[8], [3..5]);
    }

    /// A number that looks random.
    fn noise(i: usize) -> f32 {
        ((i as f32 * 12.9898).sin() * 43758.547).fract()
    }

    #[test]
    fn slots_do_not_matter_and_the_result_is_softmax_attention() {
        let shape = KvShape { layers: 1, heads: 2, width: 20 };
        let n = PAGE + 30;
        let mut straight = KvCache::new(shape);
        let mut scattered = KvCache::new(shape);
        straight.reserve(n).unwrap();
        scattered.reserve(3 * n).unwrap();
        for position in 0..n {
            for (part, seed) in [(Part::Keys, 1), (Part::Values, 2)] {
                let row: Vec<f32> = (0..40).map(|i| noise(seed * 100_000 + position * 40 + i)).collect();
                straight.write(0, part, position, &row);
                scattered.write(0, part, if position < 40 { position } else { 2 * position }, &row);
            }
        }
        let runs: Vec<_> = std::iter::once(0..40).chain((40..n).map(|p| 2 * p..2 * p + 1)).collect();
        for (head, unseen) in [(0, 0), (1, 0), (0, 39), (1, 40), (0, 57), (1, PAGE + 1), (0, n - 1)] {
            let query: Vec<f32> = (0..20).map(|i| 4.0 * noise(7_000_000 + i)).collect();
            let (mut a, mut b) = (vec![0.0; 20], vec![9.0; 20]);
            attend(&straight, (0, head), (&[0..n], unseen), &query, &mut a);
            attend(&scattered, (0, head), (&runs, unseen), &query, &mut b);
            assert_eq!(a, b);

            let row = |part, p| straight.run(0, part, head, p, 1);
            let weight = |p: usize| {
                let score: f64 = row(Part::Keys, p).iter().zip(&query).map(|(k, q)| f64::from(k * q)).sum();
                (score / 20.0_f64.sqrt()).exp()
            };
            let total: f64 = (unseen..n).map(weight).sum();
            for (i, &found) in a.iter().enumerate() {
                let sum: f64 = (unseen..n).map(|p| weight(p) * f64::from(row(Part::Values, p)[i])).sum();
                assert!((f64::from(found) - sum / total).abs() < 1e-5, "{found} for {}", sum / total);
            }
        }
    }
}
