//! Tree attention: each row attends to a prefix of the cache and to its own ancestors, in order of absolute position.
//!
//! A row's arithmetic is a function of its own positions alone: scores are dot products whose four partial sums run over
//! dimensions d, d + 4, …; the maximum is exact in any order; the sum of exponentials runs in sixteen lanes by
//! position modulo 16; values are added one position after the other. Masked positions do not occur. So a node of a
//! tree gets the bits that it gets when its path is decoded one token at a time.

use std::cell::RefCell;

use crate::kv::{KEYS, KvCache, KvElement, KvShape, Numbers, PAGE};
use crate::lanes::{self, LANES};
use crate::ops::Columns;
use crate::{Kernels, Path};

/// What one row attends to: positions `0..prefix` of `cache`, then the rows `tail` of the pass itself, in order of
/// position, the row itself last (unless it is in the cache already).
#[derive(Debug)]
pub struct Sight<'a, E> {
    /// The sequence's cache.
    pub cache: &'a KvCache<E>,
    /// Cached positions that it sees.
    pub prefix: usize,
    /// Rows of the pass that it sees: its ancestors, then itself. Together with `prefix` at least one.
    pub tail: &'a [u32],
}

impl<E> Clone for Sight<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for Sight<'_, E> {}

/// The keys and values of the pass itself, `[rows, kv_heads * head_dim]` each.
#[derive(Clone, Copy, Debug)]
pub struct Fresh<'a> {
    /// Keys.
    pub keys: &'a [f32],
    /// Values.
    pub values: &'a [f32],
}

/// Partial sums of a score.
const PARTS: usize = 4;

thread_local! {
    static SCORES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

impl Kernels {
    /// Attention of every row: `queries` `[rows, heads * head_dim]` to `out`, of the same shape; query head h reads KV
    /// head `h * kv_heads / heads`. Scores are scaled by 1 / sqrt(head_dim).
    ///
    /// # Panics
    /// If the shapes do not fit each other, or a row sees nothing, or a position that is not in the cache.
    pub fn attention<E: KvElement>(
        &self,
        layer: usize,
        heads: usize,
        queries: &[f32],
        sights: &[Sight<'_, E>],
        fresh: Fresh<'_>,
        out: &mut [f32],
    ) {
        let Some(first) = sights.first() else { return };
        let shape = first.cache.shape();
        let KvShape { layers, kv_heads, head_dim } = shape;
        let width = heads * head_dim;
        assert!(
            layer < layers && heads > 0 && heads.is_multiple_of(kv_heads),
            "{heads} heads over {kv_heads}"
        );
        assert_eq!(queries.len(), sights.len() * width, "queries are [rows, heads * head_dim]");
        assert_eq!(out.len(), queries.len(), "the output has the shape of the queries");
        for sight in sights {
            assert_eq!(sight.cache.shape(), shape, "all sequences are of one model");
            assert!(sight.prefix <= sight.cache.capacity(), "the prefix is cached");
            assert!(sight.prefix + sight.tail.len() > 0, "a row sees at least itself");
        }
        let out = Columns::new(out, width);
        self.pool().run(sights.len() * heads, |task| {
            let (row, head) = (task / heads, task % heads);
            // SAFETY: each task writes its own head of its own row.
            let out = unsafe { out.slice(row, head * head_dim, head_dim) };
            let query = &queries[row * width + head * head_dim..][..head_dim];
            let kv_head = head * kv_heads / heads;
            SCORES.with_borrow_mut(|scores| {
                attend(self.path(), query, sights[row], (layer, kv_head), fresh, scores, out);
            });
        });
    }
}

fn attend<E: KvElement>(
    path: Path,
    query: &[f32],
    sight: Sight<'_, E>,
    place: (usize, usize),
    fresh: Fresh<'_>,
    scores: &mut Vec<f32>,
    out: &mut [f32],
) {
    let (len, head_dim) = (sight.prefix + sight.tail.len(), query.len());
    scores.clear();
    scores.resize(len.next_multiple_of(KEYS), 0.0);
    let (layer, kv_head) = place;
    for page in 0..sight.prefix.div_ceil(PAGE) {
        let (keys, _) = sight.cache.page(layer, kv_head, page);
        let end = scores.len().min((page + 1) * PAGE);
        score_blocks(path, query, E::numbers(keys), &mut scores[page * PAGE..end]);
    }
    let stride = sight.cache.shape().kv_heads * head_dim;
    let at = |row: u32| row as usize * stride + kv_head * head_dim;
    for (index, &row) in sight.tail.iter().enumerate() {
        scores[sight.prefix + index] = dot(path, query, &fresh.keys[at(row)..][..head_dim]);
    }
    let total = softmax(path, 1.0 / (head_dim as f32).sqrt(), len, scores);
    out.fill(0.0);
    for page in 0..sight.prefix.div_ceil(PAGE) {
        let (_, values) = sight.cache.page(layer, kv_head, page);
        let end = sight.prefix.min((page + 1) * PAGE);
        add_values(path, E::numbers(values), &scores[page * PAGE..end], out);
    }
    for (index, &row) in sight.tail.iter().enumerate() {
        let values = Numbers::F32(&fresh.values[at(row)..][..head_dim]);
        add_values(path, values, &scores[sight.prefix + index..][..1], out);
    }
    out.iter_mut().for_each(|x| *x /= total);
}

/// The scores of blocks of 16 positions: `keys` `[blocks][head_dim][16]`, `scores` `[blocks][16]`.
#[inline(always)]
fn score<E: KvElement>(query: &[f32], keys: &[E], scores: &mut [f32]) {
    let blocks = keys.chunks_exact(KEYS * query.len());
    for (scores, block) in scores.as_chunks_mut::<KEYS>().0.iter_mut().zip(blocks) {
        let mut sums = [[0.0_f32; KEYS]; PARTS];
        let quads = block.as_chunks::<KEYS>().0.as_chunks::<PARTS>().0;
        for (query, keys) in query.as_chunks::<PARTS>().0.iter().zip(quads) {
            for part in 0..PARTS {
                for lane in 0..KEYS {
                    sums[part][lane] = query[part].mul_add(keys[part][lane].to_f32(), sums[part][lane]);
                }
            }
        }
        for lane in 0..KEYS {
            scores[lane] = (sums[0][lane] + sums[1][lane]) + (sums[2][lane] + sums[3][lane]);
        }
    }
}

/// Adds the values of successive positions, `[positions][head_dim]`, by their `weights`.
#[inline(always)]
fn add<E: KvElement>(values: &[E], weights: &[f32], out: &mut [f32]) {
    let width = out.len();
    // 64 dimensions at a time stay in registers over all positions.
    for start in (0..width).step_by(64) {
        let end = width.min(start + 64);
        let mut sums = [[0.0_f32; LANES]; 4];
        let count = (end - start) / LANES;
        for (sums, out) in sums.iter_mut().zip(out[start..end].as_chunks::<LANES>().0) {
            *sums = *out;
        }
        for (&weight, row) in weights.iter().zip(values.chunks_exact(width)) {
            let row = row[start..end].as_chunks::<LANES>().0;
            if let [a, b, c, d] = row {
                for lane in 0..LANES {
                    sums[0][lane] = weight.mul_add(a[lane].to_f32(), sums[0][lane]);
                    sums[1][lane] = weight.mul_add(b[lane].to_f32(), sums[1][lane]);
                    sums[2][lane] = weight.mul_add(c[lane].to_f32(), sums[2][lane]);
                    sums[3][lane] = weight.mul_add(d[lane].to_f32(), sums[3][lane]);
                }
            } else {
                for (sums, row) in sums.iter_mut().zip(row) {
                    for lane in 0..LANES {
                        sums[lane] = weight.mul_add(row[lane].to_f32(), sums[lane]);
                    }
                }
            }
        }
        for (out, sums) in out[start..end].as_chunks_mut::<LANES>().0.iter_mut().zip(&sums[..count]) {
            *out = *sums;
        }
    }
}

lanes::dispatch! {
    fn score_blocks(query: &[f32], keys: Numbers<'_>, scores: &mut [f32]) {
        match keys {
            Numbers::F32(keys) => score(query, keys, scores),
            Numbers::F16(keys) => score(query, keys, scores),
        }
    }
}

lanes::dispatch! {
    fn add_values(values: Numbers<'_>, weights: &[f32], out: &mut [f32]) {
        match values {
            Numbers::F32(values) => add(values, weights, out),
            Numbers::F16(values) => add(values, weights, out),
        }
    }
}

lanes::dispatch! {
    /// One score, summed as `score` sums it.
    fn dot(query: &[f32], key: &[f32]) -> f32 {
        let mut sums = [0.0_f32; PARTS];
        for (query, key) in query.as_chunks::<PARTS>().0.iter().zip(key.as_chunks::<PARTS>().0) {
            for part in 0..PARTS {
                sums[part] = query[part].mul_add(key[part], sums[part]);
            }
        }
        (sums[0] + sums[1]) + (sums[2] + sums[3])
    }
}

lanes::dispatch! {
    /// Turns the first `len` of `scores` into weights, exponentials of the scaled difference to the highest, the rest
    /// into 0, and returns their sum.
    fn softmax(scale: f32, len: usize, scores: &mut [f32]) -> f32 {
        scores[len..].fill(f32::NEG_INFINITY);
        let mut highest = [f32::NEG_INFINITY; LANES];
        for block in scores.as_chunks::<KEYS>().0 {
            for lane in 0..LANES {
                highest[lane] = if block[lane] > highest[lane] { block[lane] } else { highest[lane] };
            }
        }
        let highest = lanes::max(highest);
        let mut sums = [0.0_f32; LANES];
        for block in scores.as_chunks_mut::<KEYS>().0 {
            for lane in 0..LANES {
                block[lane] = lanes::exp((block[lane] - highest) * scale);
                sums[lane] += block[lane];
            }
        }
        lanes::sum(sums)
    }
}
