//! Kernels for NEON with the dot products of Armv8.2. A quarter of a group of a tile (4 output rows) is one register.

use std::arch::aarch64::*;
use std::arch::asm;

use crate::activations::{Activations, PackedRows};
use crate::format::Format;
use crate::layout::{BLOCK, TILE, TileOut};
use crate::matmul::by_format::tile_by_format;
use crate::matmul::formats::{BF16, F16, F32, Float, Quantized, has_head};
use crate::matrix::Matrix;
use crate::prefetch;

/// Registers that hold one number for each row of a tile.
const QUARTERS: usize = TILE / 4;

type Integers = [int32x4_t; QUARTERS];
type Singles = [float32x4_t; QUARTERS];

/// # Safety
/// The processor has NEON and its dot products.
#[target_feature(enable = "neon,dotprod")]
pub(super) unsafe fn tile(matrix: &Matrix, x: &Activations, tile: usize, first: usize, out: &mut TileOut) {
    // Four rows share one decoding of the weights: their sums are half of the 32 registers.
    tile_by_format!((matrix, x, tile, first, out), quantized, floats, [1, 2, 3], 4);
}

/// Group `GROUP` (of eight) of a block, as signed bytes; a quarter has four rows of four columns. The first four groups have the low halves
/// of bytes, the others the high halves.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn group<F: Quantized, const GROUP: usize>(block: *const u8) -> [int8x16_t; QUARTERS] {
    // SAFETY: a block of F has `F::QUANTS` bytes at `block`, and the offsets below stay within them.
    std::array::from_fn(|quarter| unsafe {
        let at = GROUP % 4 * 64 + quarter * 16;
        if F::IS_BYTES {
            // 128 was added, which flips the highest bit.
            let bytes = vld1q_u8(block.add(GROUP / 4 * 256 + at));
            return vreinterpretq_s8_u8(veorq_u8(bytes, vdupq_n_u8(0x80)));
        }
        let field = |fields: *const u8| {
            let bits = vld1q_u8(fields.add(GROUP / 4 * 64 + quarter * 16));
            vandq_u8(vshlq_u8(bits, vdupq_n_s8(-((GROUP % 4) as i8 * 2))), vdupq_n_u8(3))
        };
        let mut quants = if F::HAS_FIELDS {
            field(block)
        } else {
            let raw = vld1q_u8(block.add(at));
            if GROUP < 4 { vandq_u8(raw, vdupq_n_u8(15)) } else { vshrq_n_u8::<4>(raw) }
        };
        if F::HAS_TABLE {
            quants = vqtbl1q_u8(vld1q_u8(F::TABLE.as_ptr()), quants);
            if F::IS_SIGNED {
                quants = veorq_u8(quants, vdupq_n_u8(0x80));
            }
        }
        if F::TOP > 0 {
            let mask = block.add(F::MASKS + GROUP * 8 + quarter * 2);
            quants = vorrq_u8(quants, top::<F>(mask.cast::<u16>().read_unaligned()));
        }
        if matches!(F::FORMAT, Format::Q6K) {
            quants = vorrq_u8(quants, vshlq_n_u8::<4>(field(block.add(256))));
        }
        vreinterpretq_s8_u8(quants)
    })
}

/// The highest bit of a quant, in the bytes whose bit in `mask` is set.
#[inline]
#[target_feature(enable = "neon")]
fn top<F: Quantized>(mask: u16) -> uint8x16_t {
    let [low, high] = mask.to_le_bytes();
    let bytes = vcombine_u8(vdup_n_u8(low), vdup_n_u8(high));
    let bits = vreinterpretq_u8_u64(vdupq_n_u64(0x8040_2010_0804_0201));
    vandq_u8(vtstq_u8(bytes, bits), vdupq_n_u8(F::TOP))
}

/// Adds to each number of `sum` the product of its four weights with the four activations of lane `LANE`.
///
/// In assembly, because the intrinsic is not stable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn dot<const LANE: usize>(mut sum: int32x4_t, weights: int8x16_t, activations: int8x16_t) -> int32x4_t {
    const { assert!(LANE < 4, "four lanes of four activations") }
    // SAFETY: the instruction reads and writes registers alone, and the processor has it: the caller's promise.
    unsafe {
        asm!(
            "sdot {sum:v}.4s, {weights:v}.16b, {activations:v}.4b[{lane}]",
            sum = inout(vreg) sum,
            weights = in(vreg) weights,
            activations = in(vreg) activations,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sum
}

/// Four half-precision numbers at `at`.
///
/// # Safety
/// They exist.
#[inline]
#[target_feature(enable = "neon")]
pub(crate) unsafe fn halves(at: *const u8) -> float32x4_t {
    let wide: float32x4_t;
    // SAFETY: the caller gives four numbers at `at`. Every AArch64 has the instruction; its intrinsic is not stable.
    unsafe {
        let narrow = at.cast::<u64>().read_unaligned();
        asm!(
            "fcvtl {wide:v}.4s, {narrow:v}.4h",
            wide = lateout(vreg) wide,
            narrow = in(vreg) narrow,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    wide
}

/// Four bytes at `at`, signed if `SIGNED`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn bytes<const SIGNED: bool>(at: *const u8) -> int32x4_t {
    // SAFETY: the caller gives four bytes at `at`.
    let four = vcreate_u8(u64::from(unsafe { at.cast::<u32>().read_unaligned() }));
    if SIGNED {
        vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(four))))
    } else {
        vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(four))))
    }
}

/// Sixteen half-precision numbers at `at`.
///
/// # Safety
/// They exist.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn sixteen(at: *const u8) -> Singles {
    // SAFETY: the caller's promise.
    std::array::from_fn(|quarter| unsafe { halves(at.add(quarter * 8)) })
}

/// The scales and minima of the rows for 256 columns.
#[derive(Clone, Copy)]
struct Head {
    d: Singles,
    min: Singles,
}

/// The head at `at`.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn head_of<F: Quantized>(at: *const u8) -> Head {
    // SAFETY: the caller gives `F::HEAD` bytes at `at`: 16 half-precision numbers, or twice as many if the format has minima.
    unsafe {
        let min = if F::HEAD_HAS_MIN { sixteen(at.add(32)) } else { [vdupq_n_f32(0.0); QUARTERS] };
        Head { d: sixteen(at), min }
    }
}

/// Scales and minima of the rows, from the scales of a block and its head.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn scales_of<F: Quantized>(scales: *const u8, head: Head) -> (Singles, Singles) {
    let none = [vdupq_n_f32(0.0); QUARTERS];
    // SAFETY: the caller's block has its scales there.
    unsafe {
        match F::FORMAT {
            Format::Q4K | Format::Q5K => {
                let times = |halves: Singles, at: *const u8| -> Singles {
                    std::array::from_fn(|quarter| {
                        vmulq_f32(halves[quarter], vcvtq_f32_s32(bytes::<false>(at.add(quarter * 4))))
                    })
                };
                let min = times(head.min, scales.add(16));
                (times(head.d, scales), min.map(|min| vsubq_f32(vdupq_n_f32(0.0), min)))
            }
            Format::Q2K | Format::Q3K | Format::Q6K => (head.d, none),
            Format::Iq4Xs => {
                let scale = |quarter: usize| vcvtq_f32_s32(bytes::<true>(scales.add(quarter * 4)));
                (std::array::from_fn(|quarter| vmulq_f32(head.d[quarter], scale(quarter))), none)
            }
            Format::Mxfp4 => {
                (std::array::from_fn(|quarter| <BF16 as Floats>::load(scales.add(quarter * 8))), none)
            }
            _ => (sixteen(scales), if F::HAS_MIN { sixteen(scales.add(32)) } else { none }),
        }
    }
}

/// The scales of both halves of the columns, of four rows.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn half_scales_of<F: Quantized>(scales: *const u8, quarter: usize) -> [int32x4_t; 2] {
    // SAFETY: the caller's block has its scales there: two bytes of each row.
    [0, 16].map(|half| unsafe {
        let at = scales.add(half + quarter * 4);
        // With minima, a scale is the low half of its byte.
        if F::HAS_HALF_MINS { vandq_s32(bytes::<false>(at), vdupq_n_s32(15)) } else { bytes::<true>(at) }
    })
}

/// The dot product of a row's minima of both halves with minus the sums of the activations, for four rows of the tile.
#[inline]
#[target_feature(enable = "neon")]
unsafe fn half_mins_dot(scales: *const u8, quarter: usize, minus_sums: [i32; 2]) -> int32x4_t {
    // SAFETY: the caller's block has its scales there: two bytes of each row, with a minimum in the high half.
    let [low, high] =
        [0, 16].map(|half| unsafe { vshrq_n_s32::<4>(bytes::<false>(scales.add(half + quarter * 4))) });
    vmlaq_n_s32(vmulq_n_s32(low, minus_sums[0]), high, minus_sums[1])
}

/// Adds the dot products of the first or (`UPPER`) the last 16 columns of a block to `dots`.
#[inline]
#[target_feature(enable = "neon,dotprod")]
unsafe fn half_dots<F: Quantized, const UPPER: bool, const N: usize>(
    block: *const u8,
    activations: [*const i8; N],
    dots: &mut [Integers; N],
) {
    // SAFETY: the caller's block is one of F, and each row has 16 quants at its place.
    unsafe {
        let activations = activations.map(|at| vld1q_s8(at));
        macro_rules! group {
            ($group:literal) => {
                let weights =
                    if UPPER { group::<F, { $group + 4 }>(block) } else { group::<F, $group>(block) };
                for (dots, activations) in dots.iter_mut().zip(activations) {
                    for (dot_of, weights) in dots.iter_mut().zip(weights) {
                        *dot_of = dot::<$group>(*dot_of, weights, activations);
                    }
                }
            };
        }
        group!(0);
        group!(1);
        group!(2);
        group!(3);
    }
}

/// # Safety
/// The features; the tile is of format F and `x.cols()` columns; rows `start..start + N` exist.
#[target_feature(enable = "neon,dotprod")]
unsafe fn quantized<F: Quantized, const N: usize>(
    tile: &[u8],
    x: &Activations,
    start: usize,
    out: &mut TileOut,
) {
    let blocks = x.cols() / BLOCK;
    debug_assert!(tile.len() >= blocks * F::BLOCK, "the tile holds every block");
    let PackedRows { mut quants, blocks: mut metas, group } = x.packed(start, N);
    let halved = F::HAS_HALF_SCALES;
    let mut sums = [[vdupq_n_f32(0.0); QUARTERS]; N];
    let mut block = tile.as_ptr();
    let mut head = Head { d: [vdupq_n_f32(0.0); QUARTERS], min: [vdupq_n_f32(0.0); QUARTERS] };
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
            let scales = block.add(F::QUANTS);
            // Minus the offset of the quants times the sum of the activations. Signed bytes have no offset.
            let offset = if F::IS_SIGNED { 0 } else { F::OFFSET };
            let started = |half: usize| -> [Integers; N] {
                std::array::from_fn(|r| {
                    let meta = &*metas.add(r);
                    let minus_sum = if halved { meta.minus_sums()[half] } else { meta.minus_sum };
                    [vdupq_n_s32(offset * minus_sum); QUARTERS]
                })
            };
            let lower: [*const i8; N] = std::array::from_fn(|r| quants.add(r).cast());
            let upper = lower.map(|at| at.add(16));
            let mut dots = started(0);
            half_dots::<F, false, N>(block, lower, &mut dots);
            if halved {
                // Each half of the columns has its own scale.
                let mut more = started(1);
                half_dots::<F, true, N>(block, upper, &mut more);
                for quarter in 0..QUARTERS {
                    let [low, high] = half_scales_of::<F>(scales, quarter);
                    for (dots, more) in dots.iter_mut().zip(&more) {
                        dots[quarter] = vmlaq_s32(vmulq_s32(dots[quarter], low), more[quarter], high);
                    }
                }
            } else {
                half_dots::<F, true, N>(block, upper, &mut dots);
            }
            let (scale, min) = scales_of::<F>(scales, head);
            for r in 0..N {
                let meta = &*metas.add(r);
                for quarter in 0..QUARTERS {
                    let scaled = vmulq_f32(vcvtq_f32_s32(dots[r][quarter]), scale[quarter]);
                    let sum = vfmaq_n_f32(sums[r][quarter], scaled, meta.scale);
                    sums[r][quarter] = if F::HAS_MIN {
                        vfmaq_n_f32(sum, min[quarter], meta.scaled_sum)
                    } else if F::HAS_HALF_MINS {
                        let dot = vcvtq_f32_s32(half_mins_dot(scales, quarter, meta.minus_sums()));
                        vfmaq_n_f32(sum, vmulq_f32(dot, head.min[quarter]), meta.scale)
                    } else {
                        sum
                    };
                }
            }
            block = block.add(F::BLOCK);
            // Behind the last block they point past the group, or into what follows it, and are not read.
            (quants, metas) = (quants.wrapping_add(group), metas.wrapping_add(group));
        }
    }
    store(out, &sums);
}

/// Writes each row's sums.
#[inline]
#[target_feature(enable = "neon")]
fn store(out: &mut TileOut, sums: &[Singles]) {
    for (out, sums) in out.iter_mut().zip(sums) {
        for (out, sum) in out.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
            // SAFETY: four numbers.
            unsafe { vst1q_f32(out.as_mut_ptr(), *sum) };
        }
    }
}

/// A format whose weights are floats: four rows of a column.
trait Floats: Float {
    unsafe fn load(at: *const u8) -> float32x4_t;
}
impl Floats for F16 {
    #[inline(always)]
    unsafe fn load(at: *const u8) -> float32x4_t {
        // SAFETY: 4 half-precision numbers at `at`: the caller's promise.
        unsafe { halves(at) }
    }
}
impl Floats for BF16 {
    #[inline(always)]
    unsafe fn load(at: *const u8) -> float32x4_t {
        // SAFETY: as above.
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(at.cast()))) }
    }
}
impl Floats for F32 {
    #[inline(always)]
    unsafe fn load(at: *const u8) -> float32x4_t {
        // SAFETY: as above.
        unsafe { vld1q_f32(at.cast()) }
    }
}

/// # Safety
/// `tile` is of format F and `x.cols()` columns; rows `start..start + N` exist.
#[target_feature(enable = "neon")]
unsafe fn floats<F: Floats, const N: usize>(tile: &[u8], x: &Activations, start: usize, out: &mut TileOut) {
    let cols = x.cols();
    let column_bytes = F::BYTES * TILE;
    debug_assert!(tile.len() >= cols * column_bytes, "the tile holds every column");
    let rows: [*const f32; N] = std::array::from_fn(|r| x.floats(start + r).as_ptr());
    let mut even = [[vdupq_n_f32(0.0); QUARTERS]; N];
    let mut odd = even;
    // SAFETY: columns 0..cols exist in the tile and in each row.
    unsafe {
        for column in (0..cols).step_by(2) {
            let at = tile.as_ptr().add(column * column_bytes);
            prefetch::ahead(at, 2 * column_bytes);
            for quarter in 0..QUARTERS {
                let place = at.add(quarter * 4 * F::BYTES);
                let a = F::load(place);
                for r in 0..N {
                    even[r][quarter] = vfmaq_n_f32(even[r][quarter], a, *rows[r].add(column));
                }
                if column + 1 < cols {
                    let b = F::load(place.add(column_bytes));
                    for r in 0..N {
                        odd[r][quarter] = vfmaq_n_f32(odd[r][quarter], b, *rows[r].add(column + 1));
                    }
                }
            }
        }
    }
    for (even, odd) in even.iter_mut().zip(odd) {
        for (even, odd) in even.iter_mut().zip(odd) {
            *even = vaddq_f32(*even, odd);
        }
    }
    store(out, &even);
}
