//! The loops of attention, compiled once for each instruction set. [`vectors`] replaces those over pages where it exists.

use crate::attention::order::PARTS;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::attention::vectors;
use crate::isa::{Isa, KernelPath};
use crate::kv::{KEYS, KvElement, Numbers};
use crate::lanes::{self, LANES};

/// Dimensions whose sums stay in registers for a whole page.
const SPAN: usize = 4 * LANES;

/// The fewest queries for which shared loads are faster on AVX2. Fewer are bound by memory, and the plain loops take 0.1 ms less for one
/// row of a 135M model.
#[cfg(target_arch = "x86_64")]
const SHARED: usize = 4;

/// The scores of a query for one block of 16 positions, `[head_dim][16]`.
#[inline(always)]
fn score<E: KvElement>(query: &[f32], keys: &[[E; KEYS]], scores: &mut [f32; KEYS]) {
    let mut sums = [[0.0_f32; KEYS]; PARTS];
    for (query, keys) in query.as_chunks::<PARTS>().0.iter().zip(keys.as_chunks::<PARTS>().0) {
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

/// Adds the values of consecutive positions, `[positions][head_dim]`, times their `weights`.
#[inline(always)]
fn add<E: KvElement>(values: &[E], weights: &[f32], out: &mut [f32]) {
    let width = out.len();
    for start in (0..width).step_by(SPAN) {
        let end = width.min(start + SPAN);
        let mut sums = [[0.0_f32; LANES]; SPAN / LANES];
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

/// Multiplies all queries with a block of keys before the next block, so keys are read from memory once.
#[inline(always)]
fn score_all<E: KvElement>(head_dim: usize, queries: &[f32], keys: &[E], stride: usize, scores: &mut [f32]) {
    for (block, keys) in keys.as_chunks::<KEYS>().0.chunks_exact(head_dim).enumerate() {
        for (query, scores) in queries.chunks_exact(head_dim).zip(scores.chunks_mut(stride)) {
            if let Some(scores) = scores[block * KEYS..].first_chunk_mut() {
                score(query, keys, scores);
            }
        }
    }
}

#[inline(always)]
fn add_all<E: KvElement>(head_dim: usize, values: &[E], stride: usize, weights: &[f32], out: &mut [f32]) {
    for (out, weights) in out.chunks_exact_mut(head_dim).zip(weights.chunks(stride)) {
        add(values, weights, out);
    }
}

lanes::dispatch! {
    fn score_lanes(head_dim: usize, queries: &[f32], keys: Numbers<'_>, stride: usize, scores: &mut [f32]) {
        match keys {
            Numbers::F32(keys) => score_all(head_dim, queries, keys, stride, scores),
            Numbers::F16(keys) => score_all(head_dim, queries, keys, stride, scores),
        }
    }
}

lanes::dispatch! {
    fn add_lanes(head_dim: usize, values: Numbers<'_>, stride: usize, weights: &[f32], out: &mut [f32]) {
        match values {
            Numbers::F32(values) => add_all(head_dim, values, stride, weights, out),
            Numbers::F16(values) => add_all(head_dim, values, stride, weights, out),
        }
    }
}

/// The scores of a page's `keys`, `[blocks][head_dim][16]`, for all `queries`, `[count, head_dim]`. The scores of query q go to
/// `scores[q * stride..]`.
pub(super) fn score_page(
    path: KernelPath,
    head_dim: usize,
    queries: &[f32],
    keys: Numbers<'_>,
    stride: usize,
    scores: &mut [f32],
) {
    match path.isa() {
        // SAFETY: a `KernelPath` proves that the processor has the instructions.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => unsafe {
            vectors::avx512::score_page(head_dim, queries, keys, stride, scores);
        },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni if queries.len() >= SHARED * head_dim => unsafe {
            vectors::avx2::score_page(head_dim, queries, keys, stride, scores);
        },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDot => unsafe { vectors::neon::score_page(head_dim, queries, keys, stride, scores) },
        _ => score_lanes(path, head_dim, queries, keys, stride, scores),
    }
}

/// Adds a page's `values`, `[positions][head_dim]`, times their weights to `out`, `[count, head_dim]`. The weights of query q are
/// `weights[q * stride..]`.
pub(super) fn add_page(
    path: KernelPath,
    head_dim: usize,
    values: Numbers<'_>,
    stride: usize,
    weights: &[f32],
    out: &mut [f32],
) {
    match path.isa() {
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => unsafe {
            vectors::avx512::add_page(head_dim, values, stride, weights, out);
        },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::AvxVnni if out.len() >= SHARED * head_dim => unsafe {
            vectors::avx2::add_page(head_dim, values, stride, weights, out);
        },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Isa::NeonDot => unsafe { vectors::neon::add_page(head_dim, values, stride, weights, out) },
        _ => add_lanes(path, head_dim, values, stride, weights, out),
    }
}

lanes::dispatch! {
    /// One score, with the sums of `score`.
    pub(super) fn dot(query: &[f32], key: &[f32]) -> f32 {
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
    /// Replaces the first `len` of `scores` by the exponentials of their scaled difference to the highest, and the rest by 0. Returns
    /// the sum.
    pub(super) fn softmax(scale: f32, len: usize, scores: &mut [f32]) -> f32 {
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
