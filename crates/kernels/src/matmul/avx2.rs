//! Kernels for AVX2, with or without the dot products of AVX-VNNI. Half a group of a tile (8 output rows) is one register.

use std::arch::x86_64::*;

use crate::activations::{Activations, BlockMeta, PackedRows};
use crate::format::Format;
use crate::layout::{BLOCK, TileOut};
use crate::matmul::by_format::tile_by_format;
use crate::matmul::formats::{BF16, F16, F32, Float, Quantized, has_head};
use crate::matrix::Matrix;
use crate::prefetch;

/// Output rows in a register.
const HALF: usize = 8;

macro_rules! tile_kernel {
    ($name:ident, $features:literal, $run:ident) => {
        /// # Safety
        #[doc = concat!("The processor has ", $features, ".")]
        #[target_feature(enable = $features)]
        pub(super) unsafe fn $name(
            matrix: &Matrix,
            x: &Activations,
            tile: usize,
            first: usize,
            out: &mut TileOut,
        ) {
            tile_by_format!((matrix, x, tile, first, out), $run, floats, [1, 2, 3], 4);
        }
    };
}

tile_kernel!(tile, "avx2,fma,f16c", quantized_maddubs);
tile_kernel!(tile_vnni, "avx2,fma,f16c,avxvnni", quantized_vnni);

/// Half `half` of both groups of a 64-byte vector of nibbles (g and g + 4), as unsigned bytes.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn pair<F: Quantized>(block: *const u8, group: usize, half: usize) -> (__m256i, __m256i) {
    // SAFETY: a block of F has `F::QUANTS` bytes at `block`, and the offsets below stay within them.
    unsafe {
        let at = group * 64 + half * 32;
        if F::IS_BYTES {
            return (
                _mm256_loadu_si256(block.add(at).cast()),
                _mm256_loadu_si256(block.add(at + 4 * 64).cast()),
            );
        }
        let field = |plane: *const u8| {
            let bits = _mm256_loadu_si256(plane.add(half * 32).cast());
            let shifted = _mm256_srl_epi16(bits, _mm_cvtsi32_si128(group as i32 * 2));
            _mm256_and_si256(shifted, _mm256_set1_epi8(3))
        };
        let (mut a, mut b) = if F::HAS_FIELDS {
            (field(block), field(block.add(64)))
        } else {
            let raw = _mm256_loadu_si256(block.add(at).cast());
            let low = _mm256_set1_epi8(15);
            (_mm256_and_si256(raw, low), _mm256_and_si256(_mm256_srli_epi16::<4>(raw), low))
        };
        if F::HAS_TABLE {
            let table = _mm256_broadcastsi128_si256(_mm_loadu_si128(F::TABLE.as_ptr().cast()));
            (a, b) = (_mm256_shuffle_epi8(table, a), _mm256_shuffle_epi8(table, b));
        }
        if F::TOP > 0 {
            let masks = block.add(F::MASKS + half * 4);
            a = _mm256_or_si256(a, top::<F>(masks.add(group * 8).cast::<u32>().read_unaligned()));
            b = _mm256_or_si256(b, top::<F>(masks.add((group + 4) * 8).cast::<u32>().read_unaligned()));
        }
        if matches!(F::FORMAT, Format::Q6K) {
            a = _mm256_or_si256(a, _mm256_slli_epi16::<4>(field(block.add(256))));
            b = _mm256_or_si256(b, _mm256_slli_epi16::<4>(field(block.add(256 + 64))));
        }
        (a, b)
    }
}

/// The highest bit of a quant, in the bytes whose bit in `mask` is set.
#[inline]
#[target_feature(enable = "avx2")]
fn top<F: Quantized>(mask: u32) -> __m256i {
    // Byte i of the result tests bit i % 8 of byte i / 8 of the mask.
    let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let bytes = _mm256_shuffle_epi8(_mm256_set1_epi32(mask as i32), spread);
    let set = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bits), bits);
    _mm256_and_si256(set, _mm256_set1_epi8(F::TOP as i8))
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn halves(at: *const u8) -> __m256 {
    // SAFETY: the caller gives a record with 8 half-precision numbers at `at`.
    unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
}

#[inline]
#[target_feature(enable = "avx2")]
unsafe fn bytes(at: *const u8) -> __m256 {
    // SAFETY: the caller gives a record with 8 bytes at `at`.
    unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast()))) }
}

/// The scales and minima of half of the rows for 256 columns.
#[derive(Clone, Copy)]
struct Head {
    d: __m256,
    min: __m256,
}

/// Half `half` of the head at `at`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn head_of<F: Quantized>(at: *const u8, half: usize) -> Head {
    // SAFETY: the caller gives `F::HEAD` bytes at `at`: 16 half-precision numbers, or twice as many if the format has minima.
    unsafe {
        let at = at.add(half * 16);
        let min = if F::HEAD_HAS_MIN { halves(at.add(32)) } else { _mm256_setzero_ps() };
        Head { d: halves(at), min }
    }
}

/// The minima of both halves of the columns, of half `half` of the rows, as pairs of 16 bits.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn half_mins_of<F: Quantized>(scales: *const u8, half: usize) -> __m256i {
    if !F::HAS_HALF_MINS {
        return _mm256_setzero_si256();
    }
    // SAFETY: the caller's block has its scales there: two bytes of each row, with a minimum in the high half.
    unsafe {
        let scales = scales.add(half * 8);
        let min = |at: *const u8| _mm256_srli_epi32::<4>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast())));
        _mm256_or_si256(min(scales), _mm256_slli_epi32::<16>(min(scales.add(16))))
    }
}

/// Scales, minima and (Q2_K, Q3_K, Q6_K) the scales of both halves of the columns, of half `half` of the rows, from the scales of a block and its
/// head.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn scales_of<F: Quantized>(
    scales: *const u8,
    head: Head,
    half: usize,
) -> (__m256, __m256, (__m256i, __m256i)) {
    let none = (_mm256_setzero_si256(), _mm256_setzero_si256());
    // SAFETY: the caller's block has its scales there.
    unsafe {
        match F::FORMAT {
            Format::Q4K | Format::Q5K => {
                let scales = scales.add(half * 8);
                let scale = _mm256_mul_ps(head.d, bytes(scales));
                let min = _mm256_mul_ps(head.min, bytes(scales.add(16)));
                (scale, _mm256_sub_ps(_mm256_setzero_ps(), min), none)
            }
            Format::Q2K => {
                let scales = scales.add(half * 8);
                let low = |at: *const u8| {
                    _mm256_and_si256(_mm256_cvtepu8_epi32(_mm_loadl_epi64(at.cast())), _mm256_set1_epi32(15))
                };
                (head.d, _mm256_setzero_ps(), (low(scales), low(scales.add(16))))
            }
            Format::Q3K | Format::Q6K => {
                let scales = scales.add(half * 8);
                let signed = |at: *const u8| _mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast()));
                (head.d, _mm256_setzero_ps(), (signed(scales), signed(scales.add(16))))
            }
            Format::Iq4Xs => {
                let bytes = _mm_loadl_epi64(scales.add(half * 8).cast());
                let scale = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
                (_mm256_mul_ps(head.d, scale), _mm256_setzero_ps(), none)
            }
            Format::Mxfp4 => (<BF16 as Floats>::load(scales.add(half * 16)), _mm256_setzero_ps(), none),
            _ => {
                let scales = scales.add(half * 16);
                let min = if F::HAS_MIN { halves(scales.add(32)) } else { _mm256_setzero_ps() };
                (halves(scales), min, none)
            }
        }
    }
}

/// How many pairs of products of quants and int8 activations fit a 16-bit sum: 2 * 127 times the largest quant each. Signed bytes are
/// multiplied as absolute values instead. With scales for halves of the columns, sums of both halves stay apart.
const fn pair_sums(format: Format) -> usize {
    match format {
        Format::Q4_0 | Format::Q4_1 | Format::Q4K => 8, // 8 * 2 * 15 * 127 = 30480
        Format::Q5_0 | Format::Q5_1 | Format::Q5K | Format::Mxfp4 => 4, // 4 * 2 * 31 * 127 = 31496
        Format::Q6K => 2,                               // 2 * 2 * 63 * 127 = 32004
        _ => 1,                                         // 2 * 128 * 127 = 32512
    }
}

/// Activations of columns `4 * group` and on, in every lane.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn four(activations: *const i8) -> __m256i {
    // SAFETY: the caller's row has four quants there.
    unsafe { _mm256_set1_epi32(activations.cast::<i32>().read_unaligned()) }
}

/// One product of 32 unsigned weights with four activations in every lane, as sums of pairs.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs<F: Quantized>(weights: __m256i, activations: __m256i) -> __m256i {
    if F::IS_SIGNED {
        let signed = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
        // |w| fits an unsigned byte, even for -128. The activation takes the sign.
        _mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(activations, signed))
    } else {
        _mm256_maddubs_epi16(weights, activations)
    }
}

macro_rules! quantized_kernel {
    ($name:ident, $features:literal, $block:ident) => {
        /// # Safety
        /// The features; the tile is of format F and `x.cols()` columns; rows `start..start + N` exist.
        #[target_feature(enable = $features)]
        unsafe fn $name<F: Quantized, const N: usize>(
            tile: &[u8],
            x: &Activations,
            start: usize,
            out: &mut TileOut,
        ) {
            let blocks = x.cols() / BLOCK;
            debug_assert!(tile.len() >= blocks * F::BLOCK, "the tile holds every block");
            let rows = x.packed(start, N);
            for half in 0..2 {
                let mut sums = [_mm256_setzero_ps(); N];
                let mut block = tile.as_ptr();
                let mut head = Head { d: _mm256_setzero_ps(), min: _mm256_setzero_ps() };
                for index in 0..blocks {
                    // SAFETY: `block` is at block `index` of the tile, or at the head before it, and each row has its
                    // quants and its meta at `index`.
                    unsafe {
                        if has_head::<F>(index) {
                            if half == 0 {
                                prefetch::ahead(block, F::HEAD);
                            }
                            head = head_of::<F>(block, half);
                            block = block.add(F::HEAD);
                        }
                        if half == 0 {
                            prefetch::ahead(block, F::BLOCK);
                        }
                        let dots: [(__m256i, __m256i); N] = $block::<F, N>(block, half, index, rows);
                        let (scale, min, halves) = scales_of::<F>(block.add(F::QUANTS), head, half);
                        let half_mins = half_mins_of::<F>(block.add(F::QUANTS), half);
                        for r in 0..N {
                            let meta = &*rows.blocks.add(index * rows.group + r);
                            let (low, high) = dots[r];
                            let dot = if F::HAS_HALF_SCALES {
                                _mm256_add_epi32(
                                    _mm256_mullo_epi32(low, halves.0),
                                    _mm256_mullo_epi32(high, halves.1),
                                )
                            } else {
                                _mm256_add_epi32(low, high)
                            };
                            let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(dot), scale);
                            sums[r] = _mm256_fmadd_ps(scaled, _mm256_set1_ps(meta.scale), sums[r]);
                            if F::HAS_MIN {
                                sums[r] = _mm256_fmadd_ps(min, _mm256_set1_ps(meta.scaled_sum), sums[r]);
                            }
                            if F::HAS_HALF_MINS {
                                let dot = _mm256_madd_epi16(half_mins, _mm256_set1_epi32(meta.minus_pair()));
                                let scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(dot), head.min);
                                sums[r] = _mm256_fmadd_ps(scaled, _mm256_set1_ps(meta.scale), sums[r]);
                            }
                        }
                        block = block.add(F::BLOCK);
                    }
                }
                for (out, sum) in out.iter_mut().zip(sums) {
                    // SAFETY: `out` is 16 numbers, and this half is 8 of them.
                    unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(half * HALF), sum) };
                }
            }
        }
    };
}

quantized_kernel!(quantized_maddubs, "avx2,fma,f16c", maddubs_block);
quantized_kernel!(quantized_vnni, "avx2,fma,f16c,avxvnni", vnni_block);

/// The initial values of the integer sums: minus the offset of the quants times the sum of the activations.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn start_of<F: Quantized>(meta: *const BlockMeta) -> (__m256i, __m256i) {
    // SAFETY: the caller's row has its meta there.
    let meta = unsafe { &*meta };
    if F::HAS_HALF_SCALES {
        let [first, last] = meta.minus_sums();
        (_mm256_set1_epi32(F::OFFSET * first), _mm256_set1_epi32(F::OFFSET * last))
    } else {
        (_mm256_set1_epi32(F::OFFSET * meta.minus_sum), _mm256_setzero_si256())
    }
}

/// The integer dot products of one block: sums of columns 0..16 and of 16..32.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn vnni_block<F: Quantized, const N: usize>(
    block: *const u8,
    half: usize,
    index: usize,
    rows: PackedRows,
) -> [(__m256i, __m256i); N] {
    // SAFETY: the kernel's promise for this block and these rows.
    unsafe {
        let at = index * rows.group;
        let (quants, metas) = (rows.quants.add(at), rows.blocks.add(at));
        let mut dots: [(__m256i, __m256i); N] = std::array::from_fn(|r| start_of::<F>(metas.add(r)));
        for group in 0..4 {
            let (a, b) = pair::<F>(block, group, half);
            for (r, dot) in dots.iter_mut().enumerate() {
                let activations = quants.add(r).cast::<i8>().add(group * 4);
                dot.0 = _mm256_dpbusd_avx_epi32(dot.0, a, four(activations));
                dot.1 = _mm256_dpbusd_avx_epi32(dot.1, b, four(activations.add(16)));
            }
        }
        dots
    }
}

/// The integer dot products of one block: sums of columns 0..16 and of 16..32 for Q6_K. Other formats use only the total.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn maddubs_block<F: Quantized, const N: usize>(
    block: *const u8,
    half: usize,
    index: usize,
    rows: PackedRows,
) -> [(__m256i, __m256i); N] {
    let ones = _mm256_set1_epi16(1);
    let widen = |pairs: __m256i| _mm256_madd_epi16(pairs, ones);
    // SAFETY: the kernel's promise for this block and these rows.
    unsafe {
        let at = index * rows.group;
        let (quants, metas) = (rows.quants.add(at), rows.blocks.add(at));
        let mut dots: [(__m256i, __m256i); N] = std::array::from_fn(|r| {
            // Signed weights have no offset.
            let none = (_mm256_setzero_si256(), _mm256_setzero_si256());
            if F::IS_SIGNED { none } else { start_of::<F>(metas.add(r)) }
        });
        let mut short = [_mm256_setzero_si256(); N];
        for group in 0..4 {
            let (a, b) = pair::<F>(block, group, half);
            for r in 0..N {
                let activations = quants.add(r).cast::<i8>().add(group * 4);
                let (a, b) = (pairs::<F>(a, four(activations)), pairs::<F>(b, four(activations.add(16))));
                let dot = &mut dots[r];
                match pair_sums(F::FORMAT) {
                    // Both halves of the columns in one short sum.
                    8 => short[r] = _mm256_add_epi16(short[r], _mm256_add_epi16(a, b)),
                    4 => {
                        short[r] = _mm256_add_epi16(short[r], _mm256_add_epi16(a, b));
                        if group % 2 == 1 {
                            dot.0 = _mm256_add_epi32(dot.0, widen(short[r]));
                            short[r] = _mm256_setzero_si256();
                        }
                    }
                    _ => {
                        dot.0 = _mm256_add_epi32(dot.0, widen(a));
                        dot.1 = _mm256_add_epi32(dot.1, widen(b));
                    }
                }
            }
        }
        if pair_sums(F::FORMAT) == 8 {
            for (dot, short) in dots.iter_mut().zip(short) {
                dot.0 = _mm256_add_epi32(dot.0, widen(short));
            }
        }
        dots
    }
}

/// A format whose weights are floats: half a column of a tile.
trait Floats: Float {
    unsafe fn load(at: *const u8) -> __m256;
}
impl Floats for F16 {
    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: 8 half-precision numbers at `at`, and AVX2 with F16C: the caller's promise.
        unsafe { halves(at) }
    }
}
impl Floats for BF16 {
    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: as above.
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
}
impl Floats for F32 {
    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256 {
        // SAFETY: as above.
        unsafe { _mm256_loadu_ps(at.cast()) }
    }
}

/// # Safety
/// The features; `tile` is of format F and `x.cols()` columns; rows `start..start + N` exist.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn floats<F: Floats, const N: usize>(tile: &[u8], x: &Activations, start: usize, out: &mut TileOut) {
    let cols = x.cols();
    let column_bytes = F::BYTES * 2 * HALF;
    debug_assert!(tile.len() >= cols * column_bytes, "the tile holds every column");
    let rows: [*const f32; N] = std::array::from_fn(|r| x.floats(start + r).as_ptr());
    for half in 0..2 {
        let mut even = [_mm256_setzero_ps(); N];
        let mut odd = [_mm256_setzero_ps(); N];
        // SAFETY: columns 0..cols exist in the tile and in each row.
        unsafe {
            let base = tile.as_ptr().add(half * HALF * F::BYTES);
            for column in (0..cols).step_by(2) {
                if half == 0 {
                    prefetch::ahead(base.add(column * column_bytes), 2 * column_bytes);
                }
                let a = F::load(base.add(column * column_bytes));
                for r in 0..N {
                    even[r] = _mm256_fmadd_ps(a, _mm256_set1_ps(*rows[r].add(column)), even[r]);
                }
                if column + 1 < cols {
                    let b = F::load(base.add((column + 1) * column_bytes));
                    for r in 0..N {
                        odd[r] = _mm256_fmadd_ps(b, _mm256_set1_ps(*rows[r].add(column + 1)), odd[r]);
                    }
                }
            }
            for r in 0..N {
                _mm256_storeu_ps(out[r].as_mut_ptr().add(half * HALF), _mm256_add_ps(even[r], odd[r]));
            }
        }
    }
}
