//! Attention over pages of keys and values, generic over the vector type: four queries share each loaded vector.
//!
//! For several queries the compiler would keep the sums of the loops in `loops` in memory. Every sum has the same order as there, so
//! the bits are the same.

use std::hint::black_box;
use std::mem::MaybeUninit;

use crate::attention::order::PARTS;
use crate::kv::KEYS;

/// Queries that share a load.
const TOGETHER: usize = 4;

/// A register of `LANES` numbers.
///
/// # Safety
/// The processor has the instructions of the type; pointers point to `LANES` numbers.
pub(super) trait Vector: Copy {
    const LANES: usize;
    /// How many parts of a score, 1, 2 or 4, are summed at a time for this many queries: enough to hide the latency of an addition, and
    /// no more than there are registers.
    fn parts(queries: usize) -> usize;
    /// How many vectors of sums, 1, 2, 4 or 8, stay in registers for this many queries.
    fn columns(queries: usize) -> usize;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(at: *const f32) -> Self;
    unsafe fn load_half(at: *const half::f16) -> Self;
    unsafe fn store(self, at: *mut f32);
    /// `a * b + self`, rounded once.
    unsafe fn plus_product(self, a: Self, b: Self) -> Self;
    unsafe fn plus(self, other: Self) -> Self;
}

/// The element type of a cache, read as f32.
pub(super) trait Load: Copy {
    /// # Safety
    /// The processor has the instructions of V, and `at` points to `V::LANES` numbers.
    unsafe fn load<V: Vector>(at: *const Self) -> V;
}

impl Load for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(at: *const Self) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load(at) }
    }
}

impl Load for half::f16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(at: *const Self) -> V {
        // SAFETY: the caller's promise.
        unsafe { V::load_half(at) }
    }
}

/// Calls `$run::<$($types),*, N>` for queries `$first..$first + N`, four at a time, then the rest.
macro_rules! together {
    ($count:expr, |$first:ident| $run:ident[$($types:tt),*]($($argument:expr),*)) => {{
        let (count, mut $first) = ($count, 0);
        while count - $first >= TOGETHER {
            $run::<$($types),*, TOGETHER>($($argument),*);
            $first += TOGETHER;
        }
        match count - $first {
            1 => $run::<$($types),*, 1>($($argument),*),
            2 => $run::<$($types),*, 2>($($argument),*),
            3 => $run::<$($types),*, 3>($($argument),*),
            _ => {}
        }
    }};
}

/// As [`score_page`](crate::attention::loops::score_page); B vectors hold a block of 16 positions.
///
/// # Safety
/// The processor has the instructions of V.
///
/// # Panics
/// If the lengths of the slices do not match.
#[inline(always)]
pub(super) unsafe fn score_blocks<E: Load, V: Vector, const B: usize>(
    head_dim: usize,
    queries: &[f32],
    keys: &[E],
    stride: usize,
    scores: &mut [f32],
) {
    const { assert!(B * V::LANES == KEYS, "whole blocks") }
    let count = queries.len() / head_dim;
    let blocks = keys.len() / (KEYS * head_dim);
    assert!(count == 0 || (count - 1) * stride + blocks * KEYS <= scores.len(), "a place for each score");
    assert!(head_dim.is_multiple_of(PARTS), "a multiple of four dimensions");
    for block in 0..blocks {
        // SAFETY: block `block` of the keys exists, so do the queries `first..first + N`, and 16 scores for each of them
        // at the block's place, by the assertion.
        unsafe {
            let keys = keys.as_ptr().add(block * KEYS * head_dim);
            let out = scores.as_mut_ptr().add(block * KEYS);
            together!(count, |first| score[E, V, B](
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
/// The processor has the instructions of V. Queries and keys exist, and N times 16 scores, `stride` apart.
#[inline(always)]
unsafe fn score<E: Load, V: Vector, const B: usize, const N: usize>(
    queries: *const f32,
    keys: *const E,
    head_dim: usize,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match V::parts(N) {
            1 => score_parts::<E, V, B, 1, N>(queries, keys, head_dim, out, stride),
            2 => score_parts::<E, V, B, 2, N>(queries, keys, head_dim, out, stride),
            _ => score_parts::<E, V, B, 4, N>(queries, keys, head_dim, out, stride),
        }
    }
}

/// The same with the sums of T of the four parts at a time.
///
/// # Safety
/// As for [`score`].
#[inline(always)]
unsafe fn score_parts<E: Load, V: Vector, const B: usize, const T: usize, const N: usize>(
    queries: *const f32,
    keys: *const E,
    head_dim: usize,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's promise; only written parts of `kept` are read.
    unsafe {
        let zero = V::splat(0.0);
        let mut parts = [[[zero; B]; N]; PARTS];
        // Finished parts go to memory. The compiler would keep them in registers, and spill the sums of the next parts.
        let mut kept = MaybeUninit::<[[[V; B]; N]; PARTS]>::uninit();
        let kept: *mut [[V; B]; N] = black_box(kept.as_mut_ptr()).cast();
        for start in (0..PARTS).step_by(T) {
            let mut sums = [[[zero; B]; N]; T];
            for dim in (start..head_dim).step_by(PARTS) {
                for (part, sums) in sums.iter_mut().enumerate() {
                    let mut block = [zero; B];
                    for (b, vector) in block.iter_mut().enumerate() {
                        *vector = E::load(keys.add((dim + part) * KEYS + b * V::LANES));
                    }
                    for (n, sums) in sums.iter_mut().enumerate() {
                        let query = V::splat(*queries.add(n * head_dim + dim + part));
                        for (sum, keys) in sums.iter_mut().zip(block) {
                            *sum = sum.plus_product(query, keys);
                        }
                    }
                }
            }
            for (part, sums) in sums.into_iter().enumerate() {
                if T == PARTS {
                    parts[part] = sums;
                } else {
                    kept.add(start + part).write(sums);
                }
            }
        }
        if T < PARTS {
            parts = kept.cast::<[[[V; B]; N]; PARTS]>().read();
        }
        let [first, second, third, fourth] = parts;
        for n in 0..N {
            for b in 0..B {
                let sum = first[n][b].plus(second[n][b]).plus(third[n][b].plus(fourth[n][b]));
                sum.store(out.add(n * stride + b * V::LANES));
            }
        }
    }
}

/// As [`add_page`](crate::attention::loops::add_page).
///
/// # Safety
/// The processor has the instructions of V.
///
/// # Panics
/// If the lengths of the slices do not match.
#[inline(always)]
pub(super) unsafe fn add_rows<E: Load, V: Vector>(
    head_dim: usize,
    values: &[E],
    stride: usize,
    weights: &[f32],
    out: &mut [f32],
) {
    let count = out.len() / head_dim;
    let positions = values.len() / head_dim;
    assert!(count == 0 || (count - 1) * stride + positions <= weights.len(), "a weight for each position");
    assert!(head_dim.is_multiple_of(KEYS), "whole vectors");
    // SAFETY: `positions` rows of values exist, so do the sums of queries `first..first + N`, and their weights by the
    // assertion.
    unsafe {
        together!(count, |first| add[E, V](
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
/// The processor has the instructions of V. Values and sums exist, and N times `positions` weights, `stride` apart.
#[inline(always)]
unsafe fn add<E: Load, V: Vector, const N: usize>(
    values: *const E,
    (positions, head_dim): (usize, usize),
    weights: *const f32,
    stride: usize,
    out: *mut f32,
) {
    let mut dim = 0;
    // SAFETY: the caller's promise; whole vectors are within the dimensions.
    unsafe {
        while dim < head_dim {
            let (values, out, shape) = (values.add(dim), out.add(dim), (positions, head_dim));
            let left = (head_dim - dim) / V::LANES;
            dim += V::LANES
                * match V::columns(N) {
                    8 if left >= 8 => columns::<E, V, 8, N>(values, shape, weights, stride, out),
                    4 if left >= 4 => columns::<E, V, 4, N>(values, shape, weights, stride, out),
                    2 if left >= 2 => columns::<E, V, 2, N>(values, shape, weights, stride, out),
                    _ => columns::<E, V, 1, N>(values, shape, weights, stride, out),
                };
        }
    }
}

/// The same for P vectors of dimensions; returns P.
///
/// # Safety
/// As for [`add`].
#[inline(always)]
unsafe fn columns<E: Load, V: Vector, const P: usize, const N: usize>(
    values: *const E,
    (positions, head_dim): (usize, usize),
    weights: *const f32,
    stride: usize,
    out: *mut f32,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = V::splat(0.0);
        let mut sums = [[zero; P]; N];
        for (n, sums) in sums.iter_mut().enumerate() {
            for (part, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(out.add(n * head_dim + part * V::LANES));
            }
        }
        for position in 0..positions {
            let row = values.add(position * head_dim);
            let mut weight = [zero; N];
            for (n, weight) in weight.iter_mut().enumerate() {
                *weight = V::splat(*weights.add(n * stride + position));
            }
            for part in 0..P {
                let values: V = E::load(row.add(part * V::LANES));
                for (sums, weight) in sums.iter_mut().zip(weight) {
                    sums[part] = sums[part].plus_product(weight, values);
                }
            }
        }
        for (n, sums) in sums.into_iter().enumerate() {
            for (part, sum) in sums.into_iter().enumerate() {
                sum.store(out.add(n * head_dim + part * V::LANES));
            }
        }
    }
    P
}

/// Declares a module with `score_page` and `add_page` for one instruction set.
macro_rules! pages {
    ($name:ident, $features:literal, $vector:ty, $blocks:literal) => {
        pub(in crate::attention) mod $name {
            use crate::attention::vectors::pages::{add_rows, score_blocks};
            use crate::kv::Numbers;

            /// As [`score_page`](crate::attention::loops::score_page).
            ///
            /// # Safety
            #[doc = concat!("The processor has ", $features, ".")]
            ///
            /// # Panics
            /// If the lengths of the slices do not match.
            #[target_feature(enable = $features)]
            pub(in crate::attention) unsafe fn score_page(
                head_dim: usize,
                queries: &[f32],
                keys: Numbers<'_>,
                stride: usize,
                scores: &mut [f32],
            ) {
                // SAFETY: the caller's promise.
                unsafe {
                    match keys {
                        Numbers::F32(keys) => {
                            score_blocks::<_, $vector, $blocks>(head_dim, queries, keys, stride, scores);
                        }
                        Numbers::F16(keys) => {
                            score_blocks::<_, $vector, $blocks>(head_dim, queries, keys, stride, scores);
                        }
                    }
                }
            }

            /// As [`add_page`](crate::attention::loops::add_page).
            ///
            /// # Safety
            #[doc = concat!("The processor has ", $features, ".")]
            ///
            /// # Panics
            /// If the lengths of the slices do not match.
            #[target_feature(enable = $features)]
            pub(in crate::attention) unsafe fn add_page(
                head_dim: usize,
                values: Numbers<'_>,
                stride: usize,
                weights: &[f32],
                out: &mut [f32],
            ) {
                // SAFETY: the caller's promise.
                unsafe {
                    match values {
                        Numbers::F32(values) => {
                            add_rows::<_, $vector>(head_dim, values, stride, weights, out);
                        }
                        Numbers::F16(values) => {
                            add_rows::<_, $vector>(head_dim, values, stride, weights, out);
                        }
                    }
                }
            }
        }
    };
}
pub(super) use pages;
