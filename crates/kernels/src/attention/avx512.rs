//! Attention with AVX-512: four queries on each vector of keys or values that is loaded.
//!
//! What the compiler makes of the loops in `loops` for several queries at once keeps their sums in memory. The order of
//! every sum is that of `loops`, so that the bits are the same.

use std::arch::x86_64::*;

use super::loops::PARTS;
use crate::kv::{KEYS, Numbers};

/// Queries that share a load: sixteen sums, half of the registers.
const TOGETHER: usize = 4;

/// Vectors of 16 dimensions whose sums stay in registers over all positions of a page.
const VECTORS: usize = 4;

/// Sixteen numbers of a cache as f32.
trait Load: Copy {
    /// # Safety
    /// AVX-512, and sixteen numbers at `at`.
    unsafe fn load(at: *const Self) -> __m512;
}

impl Load for f32 {
    #[inline(always)]
    unsafe fn load(at: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_ps(at) }
    }
}

impl Load for half::f16 {
    #[inline(always)]
    unsafe fn load(at: *const Self) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }
}

/// Runs `$run::<_, N>` for queries `$first..$first + N`, four at a time, then the rest.
macro_rules! together {
    ($count:expr, |$first:ident| $run:ident($($argument:expr),*)) => {{
        let (count, mut $first) = ($count, 0);
        while count - $first >= TOGETHER {
            $run::<_, TOGETHER>($($argument),*);
            $first += TOGETHER;
        }
        match count - $first {
            1 => $run::<_, 1>($($argument),*),
            2 => $run::<_, 2>($($argument),*),
            3 => $run::<_, 3>($($argument),*),
            _ => {}
        }
    }};
}

/// As [`score_page`](super::loops::score_page).
///
/// # Safety
/// AVX-512 F, F16C.
///
/// # Panics
/// If the slices do not fit each other.
#[target_feature(enable = "avx512f,avx512vl,f16c,fma")]
pub(super) unsafe fn score_page(
    head_dim: usize,
    queries: &[f32],
    keys: Numbers<'_>,
    stride: usize,
    scores: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match keys {
            Numbers::F32(keys) => score_blocks(head_dim, queries, keys, stride, scores),
            Numbers::F16(keys) => score_blocks(head_dim, queries, keys, stride, scores),
        }
    }
}

/// The same for keys of one type.
///
/// # Safety
/// AVX-512 F, F16C.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,f16c,fma")]
unsafe fn score_blocks<E: Load>(
    head_dim: usize,
    queries: &[f32],
    keys: &[E],
    stride: usize,
    scores: &mut [f32],
) {
    let count = queries.len() / head_dim;
    let blocks = keys.len() / (KEYS * head_dim);
    assert!(count == 0 || (count - 1) * stride + blocks * KEYS <= scores.len(), "room for all scores");
    assert!(head_dim.is_multiple_of(PARTS), "dimensions in fours");
    for block in 0..blocks {
        // SAFETY: block `block` of the keys exists, so do the queries `first..first + N`, and 16 scores for each of them
        // at the block's place, by the assertion.
        unsafe {
            let keys = keys.as_ptr().add(block * KEYS * head_dim);
            let out = scores.as_mut_ptr().add(block * KEYS);
            together!(count, |first| score(
                queries.as_ptr().add(first * head_dim),
                keys,
                head_dim,
                out.add(first * stride),
                stride
            ));
        }
    }
}

/// N queries, `[N, head_dim]`, on one block of keys, `[head_dim][16]`.
///
/// # Safety
/// AVX-512; queries, keys and, `stride` apart, N times 16 scores exist.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,f16c,fma")]
unsafe fn score<E: Load, const N: usize>(
    queries: *const f32,
    keys: *const E,
    head_dim: usize,
    out: *mut f32,
    stride: usize,
) {
    let mut sums = [[_mm512_setzero_ps(); PARTS]; N];
    // SAFETY: the caller's promise.
    unsafe {
        for dim in (0..head_dim).step_by(PARTS) {
            for part in 0..PARTS {
                let keys = E::load(keys.add((dim + part) * KEYS));
                for (n, sums) in sums.iter_mut().enumerate() {
                    let query = _mm512_set1_ps(*queries.add(n * head_dim + dim + part));
                    sums[part] = _mm512_fmadd_ps(query, keys, sums[part]);
                }
            }
        }
        for (n, [a, b, c, d]) in sums.into_iter().enumerate() {
            let sum = _mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d));
            _mm512_storeu_ps(out.add(n * stride), sum);
        }
    }
}

/// As [`add_page`](super::loops::add_page).
///
/// # Safety
/// AVX-512 F, F16C.
///
/// # Panics
/// If the slices do not fit each other.
#[target_feature(enable = "avx512f,avx512vl,f16c,fma")]
pub(super) unsafe fn add_page(
    head_dim: usize,
    values: Numbers<'_>,
    stride: usize,
    weights: &[f32],
    out: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe {
        match values {
            Numbers::F32(values) => add_rows(head_dim, values, stride, weights, out),
            Numbers::F16(values) => add_rows(head_dim, values, stride, weights, out),
        }
    }
}

/// The same for values of one type.
///
/// # Safety
/// AVX-512 F, F16C.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,f16c,fma")]
unsafe fn add_rows<E: Load>(head_dim: usize, values: &[E], stride: usize, weights: &[f32], out: &mut [f32]) {
    let count = out.len() / head_dim;
    let positions = values.len() / head_dim;
    assert!(count == 0 || (count - 1) * stride + positions <= weights.len(), "a weight for each position");
    assert!(head_dim.is_multiple_of(KEYS), "whole vectors");
    // SAFETY: `positions` rows of values exist, so do the sums of queries `first..first + N`, and their weights by the
    // assertion.
    unsafe {
        together!(count, |first| add(
            values.as_ptr(),
            (positions, head_dim),
            weights.as_ptr().add(first * stride),
            stride,
            out.as_mut_ptr().add(first * head_dim)
        ));
    }
}

/// Adds `positions` rows of values to the sums of N queries, `[N, head_dim]`.
///
/// # Safety
/// AVX-512; values, sums and, `stride` apart, N times `positions` weights exist.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,f16c,fma")]
unsafe fn add<E: Load, const N: usize>(
    values: *const E,
    (positions, head_dim): (usize, usize),
    weights: *const f32,
    stride: usize,
    out: *mut f32,
) {
    let mut dim = 0;
    // SAFETY: the caller's promise; whole vectors are within the dimensions.
    unsafe {
        while head_dim - dim >= VECTORS * KEYS {
            columns::<E, N, VECTORS>(values.add(dim), (positions, head_dim), weights, stride, out.add(dim));
            dim += VECTORS * KEYS;
        }
        while dim < head_dim {
            columns::<E, N, 1>(values.add(dim), (positions, head_dim), weights, stride, out.add(dim));
            dim += KEYS;
        }
    }
}

/// The same for P vectors of dimensions.
///
/// # Safety
/// As for [`add`].
#[inline]
#[target_feature(enable = "avx512f,avx512vl,f16c,fma")]
unsafe fn columns<E: Load, const N: usize, const P: usize>(
    values: *const E,
    (positions, head_dim): (usize, usize),
    weights: *const f32,
    stride: usize,
    out: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); P]; N];
        for (n, sums) in sums.iter_mut().enumerate() {
            for (part, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(out.add(n * head_dim + part * KEYS));
            }
        }
        for position in 0..positions {
            let row = values.add(position * head_dim);
            let mut weight = [_mm512_setzero_ps(); N];
            for (n, weight) in weight.iter_mut().enumerate() {
                *weight = _mm512_set1_ps(*weights.add(n * stride + position));
            }
            for part in 0..P {
                let values = E::load(row.add(part * KEYS));
                for (sums, weight) in sums.iter_mut().zip(weight) {
                    sums[part] = _mm512_fmadd_ps(weight, values, sums[part]);
                }
            }
        }
        for (n, sums) in sums.into_iter().enumerate() {
            for (part, sum) in sums.into_iter().enumerate() {
                _mm512_storeu_ps(out.add(n * head_dim + part * KEYS), sum);
            }
        }
    }
}
