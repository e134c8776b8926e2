//! Kernels for AVX-512 with VNNI. A group of a tile is one register, and one instruction multiplies it with four activation bytes.

use std::arch::x86_64::*;

use crate::activations::{Activations, PackedRows};
use crate::format::Format;
use crate::layout::{BLOCK, TILE, TileOut};
use crate::matmul::by_format::{parts, tile_by_format};
use crate::matmul::formats::{BF16, F16, F32, Float, Quantized, has_head};
use crate::matrix::Matrix;
use crate::pack::has_half_scales;
use crate::prefetch;

/// # Safety
/// The processor has AVX-512 F, BW, VL and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c,fma")]
pub(super) unsafe fn tile(matrix: &Matrix, x: &Activations, tile: usize, first: usize, out: &mut TileOut) {
    // Two integer sums a row leave too few registers for twelve rows.
    let most = if has_half_scales(matrix.format()) { 11 } else { 12 };
    for (start, end) in parts(out.len(), most) {
        let (first, out) = (first + start, &mut out[start..end]);
        tile_by_format!(
            (matrix, x, tile, first, out),
            quantized,
            floats,
            [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
            12
        );
    }
}

/// Both groups of a 64-byte vector of nibbles (g and g + 4), as unsigned bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn pair<F: Quantized>(block: *const u8, group: usize) -> (__m512i, __m512i) {
    // SAFETY: a block of F has `F::QUANTS` bytes at `block`, and the offsets below stay within them.
    unsafe {
        if F::IS_BYTES {
            return (
                _mm512_loadu_si512(block.add(group * 64).cast()),
                _mm512_loadu_si512(block.add((group + 4) * 64).cast()),
            );
        }
        let field = |plane: *const u8| {
            let bits = _mm512_loadu_si512(plane.cast());
            let shifted = _mm512_srl_epi16(bits, _mm_cvtsi32_si128(group as i32 * 2));
            _mm512_and_si512(shifted, _mm512_set1_epi8(3))
        };
        let (mut a, mut b) = if F::HAS_FIELDS {
            (field(block), field(block.add(64)))
        } else {
            let raw = _mm512_loadu_si512(block.add(group * 64).cast());
            let low = _mm512_set1_epi8(15);
            (_mm512_and_si512(raw, low), _mm512_and_si512(_mm512_srli_epi16::<4>(raw), low))
        };
        if F::HAS_TABLE {
            let table = _mm512_broadcast_i32x4(_mm_loadu_si128(F::TABLE.as_ptr().cast()));
            (a, b) = (_mm512_shuffle_epi8(table, a), _mm512_shuffle_epi8(table, b));
        }
        if F::TOP > 0 {
            let masks = block.add(F::MASKS).cast::<u64>();
            a = with_top::<F>(a, masks.add(group).read_unaligned());
            b = with_top::<F>(b, masks.add(group + 4).read_unaligned());
        }
        if matches!(F::FORMAT, Format::Q6K) {
            a = _mm512_or_si512(a, _mm512_slli_epi16::<4>(field(block.add(256))));
            b = _mm512_or_si512(b, _mm512_slli_epi16::<4>(field(block.add(256 + 64))));
        }
        (a, b)
    }
}

/// Sets the highest bit of the quants whose bit in `mask` is set.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn with_top<F: Quantized>(a: __m512i, mask: u64) -> __m512i {
    _mm512_mask_add_epi8(a, mask, a, _mm512_set1_epi8(F::TOP as i8))
}

#[inline]
#[target_feature(enable = "avx512f,f16c")]
unsafe fn halves(at: *const u8) -> __m512 {
    // SAFETY: the caller gives a record with 16 half-precision numbers at `at`.
    unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn bytes(at: *const u8) -> __m512 {
    // SAFETY: the caller gives a record with 16 bytes at `at`.
    unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast()))) }
}

/// The offset of the quants times `minus_sum`, in every lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn times_offset<F: Quantized>(minus_sum: i32) -> __m512i {
    const { assert!(F::OFFSET == 0 || F::OFFSET.count_ones() == 1, "a shift multiplies") }
    _mm512_sll_epi32(_mm512_set1_epi32(minus_sum), _mm_cvtsi32_si128(F::OFFSET.trailing_zeros() as i32))
}

/// # Safety
/// The features; `tile` is of format F and `x.cols()` columns; rows `start..start + N` exist.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,f16c,fma")]
unsafe fn quantized<F: Quantized, const N: usize>(
    tile: &[u8],
    x: &Activations,
    start: usize,
    out: &mut TileOut,
) {
    let blocks = x.cols() / BLOCK;
    debug_assert!(tile.len() >= blocks * F::BLOCK, "the tile holds every block");
    let PackedRows { mut quants, blocks: mut metas, group: group_rows } = x.packed(start, N);
    let split = F::HAS_HALF_SCALES;
    // Two sums a row shorten the chains of dependent instructions; more than eight rows need the registers, and have chains enough.
    let two_sums = split || N <= 8;
    let mut sums = [_mm512_setzero_ps(); N];
    let mut block = tile.as_ptr();
    let mut head = Head { d: _mm512_setzero_ps(), min: _mm512_setzero_ps() };
    for index in 0..blocks {
        // SAFETY: `block` is at block `index` of the tile, or at the head before it, and each row has its quants and its meta
        // at `index`.
        unsafe {
            if has_head::<F>(index) {
                prefetch::ahead(block, F::HEAD);
                head = head_of::<F>(block);
                block = block.add(F::HEAD);
            }
            prefetch::ahead(block, F::BLOCK);
            let mut low = [_mm512_setzero_si512(); N];
            let mut high = [_mm512_setzero_si512(); N];
            for r in 0..N {
                let meta = &*metas.add(r);
                match (F::OFFSET, split) {
                    (0, _) => {}
                    (_, false) => low[r] = times_offset::<F>(meta.minus_sum),
                    (_, true) => [low[r], high[r]] = meta.minus_sums().map(|sum| times_offset::<F>(sum)),
                }
            }
            for group in 0..4 {
                let (a, b) = pair::<F>(block, group);
                let four = |r: usize, group: usize| {
                    _mm512_set1_epi32(quants.add(r).cast::<i32>().add(group).read_unaligned())
                };
                for r in 0..N {
                    low[r] = _mm512_dpbusd_epi32(low[r], a, four(r, group));
                    if two_sums {
                        high[r] = _mm512_dpbusd_epi32(high[r], b, four(r, group + 4));
                    }
                }
                // With one sum a row, its two products are apart, so that neither waits for the other.
                for (r, low) in low.iter_mut().enumerate().filter(|_| !two_sums) {
                    *low = _mm512_dpbusd_epi32(*low, b, four(r, group + 4));
                }
            }
            let (scale, min, halves) = scales_of::<F>(block.add(F::QUANTS), head);
            let half_mins = half_mins_of::<F>(block.add(F::QUANTS));
            for r in 0..N {
                let meta = &*metas.add(r);
                let dot = if split {
                    _mm512_add_epi32(
                        _mm512_mullo_epi32(low[r], halves.0),
                        _mm512_mullo_epi32(high[r], halves.1),
                    )
                } else if two_sums {
                    _mm512_add_epi32(low[r], high[r])
                } else {
                    low[r]
                };
                let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), scale);
                sums[r] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(meta.scale), sums[r]);
                if F::HAS_MIN {
                    sums[r] = _mm512_fmadd_ps(min, _mm512_set1_ps(meta.scaled_sum), sums[r]);
                }
                if F::HAS_HALF_MINS {
                    let dot = _mm512_madd_epi16(half_mins, _mm512_set1_epi32(meta.minus_pair()));
                    let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(dot), head.min);
                    sums[r] = _mm512_fmadd_ps(scaled, _mm512_set1_ps(meta.scale), sums[r]);
                }
            }
            block = block.add(F::BLOCK);
            // Behind the last block they point past the group, or into what follows it, and are not read.
            (quants, metas) = (quants.wrapping_add(group_rows), metas.wrapping_add(group_rows));
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        // SAFETY: `out` is 16 numbers.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
    }
}

/// The scales and minima of 16 rows for 256 columns.
#[derive(Clone, Copy)]
struct Head {
    d: __m512,
    min: __m512,
}

/// The head at `at`.
#[inline]
#[target_feature(enable = "avx512f,f16c")]
unsafe fn head_of<F: Quantized>(at: *const u8) -> Head {
    // SAFETY: the caller gives `F::HEAD` bytes at `at`: 16 half-precision numbers, or twice as many if the format has minima.
    unsafe {
        let min = if F::HEAD_HAS_MIN { halves(at.add(32)) } else { _mm512_setzero_ps() };
        Head { d: halves(at), min }
    }
}

/// The minima of both halves of the columns of 16 rows, as pairs of 16 bits.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
unsafe fn half_mins_of<F: Quantized>(scales: *const u8) -> __m512i {
    if !F::HAS_HALF_MINS {
        return _mm512_setzero_si512();
    }
    // SAFETY: the caller's block has its scales there: two bytes of each row, with a minimum in the high half.
    unsafe {
        let min = |at: *const u8| _mm512_srli_epi32::<4>(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())));
        _mm512_or_si512(min(scales), _mm512_slli_epi32::<16>(min(scales.add(16))))
    }
}

/// Scales, minima and (Q2_K, Q3_K, Q6_K) the scales of both halves, of 16 rows, from the scales of a block and its head.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
unsafe fn scales_of<F: Quantized>(scales: *const u8, head: Head) -> (__m512, __m512, (__m512i, __m512i)) {
    let none = (_mm512_setzero_si512(), _mm512_setzero_si512());
    // SAFETY: the caller's block has its scales there.
    unsafe {
        match F::FORMAT {
            Format::Q4K | Format::Q5K => {
                let scale = _mm512_mul_ps(head.d, bytes(scales));
                let min = _mm512_mul_ps(head.min, bytes(scales.add(16)));
                (scale, _mm512_sub_ps(_mm512_setzero_ps(), min), none)
            }
            Format::Q2K => {
                let low = |at: *const u8| {
                    _mm512_and_si512(_mm512_cvtepu8_epi32(_mm_loadu_si128(at.cast())), _mm512_set1_epi32(15))
                };
                (head.d, _mm512_setzero_ps(), (low(scales), low(scales.add(16))))
            }
            Format::Q3K | Format::Q6K => {
                let signed = |at: *const u8| _mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()));
                (head.d, _mm512_setzero_ps(), (signed(scales), signed(scales.add(16))))
            }
            Format::Iq4Xs => {
                let scale = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(scales.cast())));
                (_mm512_mul_ps(head.d, scale), _mm512_setzero_ps(), none)
            }
            Format::Mxfp4 => (<BF16 as Floats>::load(scales), _mm512_setzero_ps(), none),
            _ => {
                let min = if F::HAS_MIN { halves(scales.add(32)) } else { _mm512_setzero_ps() };
                (halves(scales), min, none)
            }
        }
    }
}

/// A format whose weights are floats: one column of a tile.
trait Floats: Float {
    unsafe fn load(at: *const u8) -> __m512;
}
impl Floats for F16 {
    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: 16 half-precision numbers at `at`, and AVX-512: the caller's promise.
        unsafe { halves(at) }
    }
}
impl Floats for BF16 {
    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: as above.
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
}
impl Floats for F32 {
    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: as above.
        unsafe { _mm512_loadu_ps(at.cast()) }
    }
}

/// # Safety
/// The features; `tile` is of format F and `x.cols()` columns; rows `start..start + N` exist.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c,fma")]
unsafe fn floats<F: Floats, const N: usize>(tile: &[u8], x: &Activations, start: usize, out: &mut TileOut) {
    let cols = x.cols();
    let column_bytes = F::BYTES * TILE;
    debug_assert!(tile.len() >= cols * column_bytes, "the tile holds every column");
    let mut rows = [std::ptr::null::<f32>(); N];
    for (r, row) in rows.iter_mut().enumerate() {
        *row = x.floats(start + r).as_ptr();
    }
    let mut even = [_mm512_setzero_ps(); N];
    let mut odd = [_mm512_setzero_ps(); N];
    // SAFETY: columns 0..cols exist in the tile and in each row.
    unsafe {
        for column in (0..cols).step_by(2) {
            prefetch::ahead(tile.as_ptr().add(column * column_bytes), 2 * column_bytes);
            let a = F::load(tile.as_ptr().add(column * column_bytes));
            for r in 0..N {
                even[r] = _mm512_fmadd_ps(a, _mm512_set1_ps(*rows[r].add(column)), even[r]);
            }
            if column + 1 < cols {
                let b = F::load(tile.as_ptr().add((column + 1) * column_bytes));
                for r in 0..N {
                    odd[r] = _mm512_fmadd_ps(b, _mm512_set1_ps(*rows[r].add(column + 1)), odd[r]);
                }
            }
        }
        for r in 0..N {
            _mm512_storeu_ps(out[r].as_mut_ptr(), _mm512_add_ps(even[r], odd[r]));
        }
    }
}
