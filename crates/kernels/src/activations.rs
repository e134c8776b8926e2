//! Activations: rows that matrices multiply, quantized to int8 in blocks of 32, or kept as f32.

use crate::columns::Columns;
#[cfg(target_arch = "x86_64")]
use crate::isa::Isa;
use crate::isa::KernelPath;
use crate::lanes::{self, LANES};
use crate::layout::BLOCK;

/// Rows whose blocks lie side by side: as many as share one decoding of the weights.
pub(crate) const GROUP: usize = 12;

/// Activation rows, `[n, cols]`, in the form that the kernels read. The memory is reused.
///
/// Each block of 32 is quantized on its own: scale = max |x| / 127, quant = x / scale rounded to even. A block with a NaN or an
/// infinity gets a NaN scale, so every result computed from it is NaN and is found.
///
/// Quantized rows are in groups of up to twelve, of equal size. A group is `[block][row][32]`, so what a kernel needs of all its rows for one
/// block of weights is in one place. Rows apart from each other would often share cache sets, because their distance is a power of two.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    n: usize,
    cols: usize,
    quantized: bool,
    floats: Vec<f32>,
    quants: Vec<[i8; BLOCK]>,
    blocks: Vec<BlockMeta>,
}

/// What a matrix product needs of a block of 32 activations besides its quants.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(crate) struct BlockMeta {
    pub(crate) scale: f32,
    /// The scale times the sum of the quants.
    pub(crate) scaled_sum: f32,
    /// Minus the sum of the quants.
    pub(crate) minus_sum: i32,
    /// Minus the sum of the first 16 quants.
    pub(crate) minus_first: i32,
}

impl BlockMeta {
    /// Minus the sums of the first and of the last 16 quants.
    pub(crate) fn minus_sums(&self) -> [i32; 2] {
        [self.minus_first, self.minus_sum - self.minus_first]
    }

    /// The same as two numbers of 16 bits, the first in the low half.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn minus_pair(&self) -> i32 {
        let [first, last] = self.minus_sums();
        first & 0xffff | last << 16
    }
}

/// The group of a row: its first row, and its number of rows.
fn group_of(n: usize, row: usize) -> (usize, usize) {
    let count = n.div_ceil(GROUP);
    // The group whose rows are `group * n / count..(group + 1) * n / count`.
    let group = ((row + 1) * count - 1) / n;
    let start = group * n / count;
    (start, (group + 1) * n / count - start)
}

/// Neighbouring rows of a group, as the vector kernels read them. Block `index` of row `r` of them is at `index * group + r`.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[derive(Clone, Copy)]
pub(crate) struct PackedRows {
    pub(crate) quants: *const [i8; BLOCK],
    pub(crate) blocks: *const BlockMeta,
    /// Rows of the group.
    pub(crate) group: usize,
}

impl Activations {
    /// No rows; memory is allocated at first use.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Resizes to `n` rows of `cols` columns, with unspecified contents.
    pub(crate) fn resize(&mut self, n: usize, cols: usize) {
        (self.n, self.cols, self.quantized) = (n, cols, false);
        self.floats.resize(n * cols, 0.0);
        self.quants.resize(n * (cols / BLOCK), [0; BLOCK]);
        self.blocks.resize(n * (cols / BLOCK), BlockMeta::default());
    }

    /// The number of rows.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// The number of columns.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Whether the rows are quantized.
    #[must_use]
    pub fn is_quantized(&self) -> bool {
        self.quantized
    }

    /// The rows for several threads to write. If `quantize`, the caller must also [finish](Rows::finish) all of them.
    ///
    /// # Panics
    /// If `quantize` and the columns are not a multiple of 32.
    pub(crate) fn split(&mut self, quantize: bool) -> Rows<'_> {
        assert!(
            !quantize || self.cols.is_multiple_of(BLOCK),
            "{} columns are not whole blocks of 32",
            self.cols
        );
        self.quantized = quantize;
        Rows {
            quantize,
            floats: Columns::new(&mut self.floats, self.cols),
            n: self.n,
            row_blocks: self.cols / BLOCK,
            quants: Columns::new(&mut self.quants, 1),
            blocks: Columns::new(&mut self.blocks, 1),
        }
    }

    pub(crate) fn floats(&self, row: usize) -> &[f32] {
        &self.floats[row * self.cols..][..self.cols]
    }

    /// Block `index` of a row.
    pub(crate) fn block(&self, row: usize, index: usize) -> (&[i8; BLOCK], &BlockMeta) {
        let (start, size) = group_of(self.n, row);
        let at = start * (self.cols / BLOCK) + index * size + row - start;
        (&self.quants[at], &self.blocks[at])
    }

    /// `count` rows from `first` on.
    ///
    /// # Panics
    /// If they are not rows of one group.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub(crate) fn packed(&self, first: usize, count: usize) -> PackedRows {
        let (start, group) = group_of(self.n, first);
        assert!(first + count <= start + group && start + group <= self.n, "rows of one group");
        let blocks = self.cols / BLOCK;
        let at = start * blocks..(start + group) * blocks;
        let (quants, metas) = (&self.quants[at.clone()], &self.blocks[at]);
        // The block 0 of a row lies at its place in the group. Nothing is read if there are no blocks.
        let row = first - start;
        PackedRows {
            quants: quants.as_ptr().wrapping_add(row),
            blocks: metas.as_ptr().wrapping_add(row),
            group,
        }
    }
}

/// Activations that several threads write and quantize at disjoint places.
pub(crate) struct Rows<'a> {
    quantize: bool,
    floats: Columns<'a>,
    n: usize,
    /// Blocks of a row.
    row_blocks: usize,
    quants: Columns<'a, [i8; BLOCK]>,
    blocks: Columns<'a, BlockMeta>,
}

impl Rows<'_> {
    /// `count` columns of row `row` from `column` on.
    ///
    /// # Safety
    /// No two live slices overlap, and none overlaps what is being quantized.
    #[expect(clippy::mut_from_ref, reason = "disjoint slices, as the caller promises")]
    pub(crate) unsafe fn slice(&self, row: usize, column: usize, count: usize) -> &mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { self.floats.slice(row, column, count) }
    }

    /// Quantizes `count` columns of row `row` from `column` on, if the rows are to be quantized. Both are multiples of 32.
    ///
    /// # Safety
    /// No other thread writes or quantizes these columns at the same time.
    pub(crate) unsafe fn finish(&self, path: KernelPath, row: usize, column: usize, count: usize) {
        if !self.quantize {
            return;
        }
        debug_assert!(column.is_multiple_of(BLOCK) && count.is_multiple_of(BLOCK), "whole blocks");
        let (start, size) = group_of(self.n, row);
        let first = start * self.row_blocks + row - start;
        let places = (column / BLOCK..(column + count) / BLOCK).map(|index| first + index * size);
        // SAFETY: the caller's promise.
        let x = unsafe { self.floats.slice(row, column, count) };
        // SAFETY: the caller's promise; every block has a place of its own.
        let place =
            |at| unsafe { (&mut self.quants.slice(at, 0, 1)[0], &mut self.blocks.slice(at, 0, 1)[0]) };
        quantize(path, x, places.map(place));
    }
}

/// Quantizes `x` in blocks of 32.
fn quantize<'a>(
    path: KernelPath,
    x: &[f32],
    outs: impl Iterator<Item = (&'a mut [i8; BLOCK], &'a mut BlockMeta)>,
) {
    match path.isa() {
        // SAFETY: a `KernelPath` proves that the processor has the instructions.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Vnni => unsafe { avx512_blocks(x, outs) },
        _ => x.as_chunks().0.iter().zip(outs).for_each(|(x, (quants, meta))| *meta = block(path, x, quants)),
    }
}

/// [`avx512`] for each block, in one function, so that the processor overlaps blocks.
///
/// # Safety
/// The processor has AVX-512 F and BW.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn avx512_blocks<'a>(x: &[f32], outs: impl Iterator<Item = (&'a mut [i8; BLOCK], &'a mut BlockMeta)>) {
    for (x, (quants, meta)) in x.as_chunks().0.iter().zip(outs) {
        // SAFETY: the caller's promise.
        *meta = unsafe { avx512(x, quants) };
    }
}

/// The factor from values to quants, for a block whose largest magnitude is `highest`.
#[inline(always)]
fn inverse_of(highest: f32) -> f32 {
    let inverse = if highest > 0.0 { 127.0 / highest } else { 0.0 };
    // The inverse of a denormal overflows; such a block is treated as zero.
    if inverse < f32::INFINITY { inverse } else { 0.0 }
}

/// `poison` is NaN if a value is not finite, otherwise 0.
#[inline(always)]
fn meta_of(highest: f32, poison: f32, sums: [i32; 2]) -> BlockMeta {
    let scale = highest / 127.0 + poison;
    let sum = sums[0] + sums[1];
    BlockMeta { scale, scaled_sum: scale * sum as f32, minus_sum: -sum, minus_first: -sums[0] }
}

lanes::dispatch! {
    fn block(x: &[f32; BLOCK], quants: &mut [i8; BLOCK]) -> BlockMeta {
        let mut highest = [0.0_f32; LANES];
        let mut poison = [0.0_f32; LANES];
        for half in x.as_chunks::<LANES>().0 {
            for lane in 0..LANES {
                let size = half[lane].abs();
                highest[lane] = if size > highest[lane] { size } else { highest[lane] };
                poison[lane] += half[lane] * 0.0;
            }
        }
        let highest = lanes::max(highest);
        let inverse = inverse_of(highest);
        let mut sums = [0_i32; 2];
        let halves = x.as_chunks::<LANES>().0.iter().zip(quants.as_chunks_mut::<LANES>().0);
        for ((x, quants), sum) in halves.zip(&mut sums) {
            // Adding 1.5 * 2^23 leaves the rounded integer in the low bits.
            let rounded =
                x.map(|x| i32::from(((x * inverse + 12_582_912.0).to_bits() as i32 - 0x4B40_0000) as i8));
            *quants = rounded.map(|quant| quant as i8);
            *sum = rounded.iter().sum();
        }
        meta_of(highest, lanes::sum(poison), sums)
    }
}

/// The same bits with AVX-512. If a value is not finite, only the scale is meaningful: it is NaN.
///
/// # Safety
/// The processor has AVX-512 F and BW.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn avx512(x: &[f32; BLOCK], quants: &mut [i8; BLOCK]) -> BlockMeta {
    use std::arch::x86_64::*;

    // SAFETY: both halves are 16 numbers.
    let (a, b) = unsafe { (_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(x.as_ptr().add(LANES))) };
    // A NaN or an infinity times 0 is NaN, and a sum keeps a NaN.
    let zero = _mm512_setzero_ps();
    let poison = _mm512_add_ps(_mm512_mul_ps(a, zero), _mm512_mul_ps(b, zero));
    if _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(poison, poison) != 0 {
        *quants = [0; BLOCK];
        return meta_of(0.0, f32::NAN, [0; 2]);
    }
    let highest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
    let inverse = _mm512_set1_ps(inverse_of(highest));
    // The conversion rounds to even, as adding 1.5 * 2^23 does.
    let (a, b) =
        (_mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)), _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse)));
    // SAFETY: both halves are 16 bytes.
    unsafe {
        _mm_storeu_si128(quants.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(a));
        _mm_storeu_si128(quants.as_mut_ptr().add(LANES).cast(), _mm512_cvtepi32_epi8(b));
    }
    meta_of(highest, 0.0, [_mm512_reduce_add_epi32(a), _mm512_reduce_add_epi32(b)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_all_rows_in_order() {
        for n in 1..100 {
            let mut next = 0;
            while next < n {
                let (start, size) = group_of(n, next);
                assert!(start == next && (1..=GROUP).contains(&size), "{n}");
                assert!((start..start + size).all(|row| group_of(n, row) == (start, size)), "{n}");
                next += size;
            }
            assert_eq!(next, n);
        }
    }
}
