//! Converts rows of GGUF blocks to tiles and back. GGML's `ggml-common.h` defines the blocks.

use half::{bf16, f16};

use crate::format::Format;
use crate::layout::{BLOCK, Block, Layout, TILE};

/// Bytes of the low four bits of 32 columns of a tile; more bits of the quants follow.
const NIBBLES: usize = 256;

/// Writes row `lane` of a tile from its GGUF blocks. Returns false if a scale or a weight is not finite.
pub(crate) fn row(format: Format, blocks: &[u8], lane: usize, tile: &mut [u8]) -> bool {
    let layout = Layout::new(format);
    let mut records = blocks.chunks_exact(format.block_bytes()).zip(tile.chunks_exact_mut(layout.record()));
    match format {
        Format::F16 => floats::<2>(blocks, lane, tile, |bytes| f16::from_le_bytes(bytes).is_finite()),
        Format::BF16 => floats::<2>(blocks, lane, tile, |bytes| bf16::from_le_bytes(bytes).is_finite()),
        Format::F32 => floats::<4>(blocks, lane, tile, |bytes| f32::from_le_bytes(bytes).is_finite()),
        Format::Q4K => records.all(|(block, record)| q4_k(block, lane, record)),
        Format::Q6K => records.all(|(block, record)| q6_k(block, lane, record)),
        _ => records.all(|(block, record)| {
            let (quants, scales) = record.split_at_mut(layout.quants);
            simple(format, block, lane, quants, scales)
        }),
    }
}

fn floats<const N: usize>(
    values: &[u8],
    lane: usize,
    out: &mut [u8],
    finite: impl Fn([u8; N]) -> bool,
) -> bool {
    values.as_chunks::<N>().0.iter().enumerate().all(|(column, value)| {
        out[(column * TILE + lane) * N..][..N].copy_from_slice(value);
        finite(*value)
    })
}

/// Copies a half-precision number to row `lane` of a record. Returns false if it is not finite.
fn put_half(value: &[u8], lane: usize, out: &mut [u8]) -> bool {
    out[lane * 2..][..2].copy_from_slice(value);
    f16::from_le_bytes([value[0], value[1]]).is_finite()
}

/// The byte of column `column` (of 4) of row `lane` in a group's 64 bytes.
fn place(lane: usize, column: usize) -> usize {
    lane * 4 + column
}

/// Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: a scale, a minimum if any, fifth bits if any, then the quants.
fn simple(format: Format, block: &[u8], lane: usize, quants: &mut [u8], scales: &mut [u8]) -> bool {
    let with_min = matches!(format, Format::Q4_1 | Format::Q5_1);
    let with_fifth = matches!(format, Format::Q5_0 | Format::Q5_1);
    let (d, mut rest) = block.split_at(2);
    let mut finite = put_half(d, lane, scales);
    if with_min {
        finite &= put_half(&rest[..2], lane, &mut scales[32..]);
        rest = &rest[2..];
    }
    if with_fifth {
        let fifth = u32::from_le_bytes([rest[0], rest[1], rest[2], rest[3]]);
        rest = &rest[4..];
        for column in (0..BLOCK).filter(|column| fifth >> column & 1 == 1) {
            let bit = place(lane, column % 4);
            quants[NIBBLES + column / 4 * 8 + bit / 8] |= 1 << (bit % 8);
        }
    }
    if format == Format::Q8_0 {
        for (column, &quant) in rest.iter().enumerate() {
            // The dot-product instructions take unsigned weights. The kernels subtract 128 times the sum of the activations.
            quants[column / 4 * 64 + place(lane, column % 4)] = quant ^ 0x80;
        }
    } else {
        for (byte, &pair) in rest.iter().enumerate() {
            quants[byte / 4 * 64 + place(lane, byte % 4)] = pair;
        }
    }
    finite
}

/// The 6-bit scale and minimum of sub-block `index`: GGML's `get_scale_min_k4`.
fn scale_min_k4(packed: &[u8], index: usize) -> (u8, u8) {
    if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        let high = packed[index + 4];
        (high & 15 | packed[index - 4] >> 6 << 4, high >> 4 | packed[index] >> 6 << 4)
    }
}

fn q4_k(block: &[u8], lane: usize, record: &mut [u8]) -> bool {
    let layout = const { Layout::new(Format::Q4K) };
    let (head, blocks) = record.split_at_mut(layout.head);
    let finite = put_half(&block[..2], lane, head) & put_half(&block[2..4], lane, &mut head[32..]);
    for (sub, out) in blocks.chunks_exact_mut(layout.block()).enumerate() {
        let (quants, scales) = out.split_at_mut(layout.quants);
        (scales[lane], scales[16 + lane]) = scale_min_k4(&block[4..16], sub);
        // 64 columns share 32 bytes: the first 32 columns have the low halves, the others the high halves.
        let bytes = &block[16 + sub / 2 * 32..][..32];
        let nibble = |column: usize| bytes[column] >> (sub % 2 * 4) & 15;
        for column in 0..16 {
            quants[column / 4 * 64 + place(lane, column % 4)] = nibble(column) | nibble(column + 16) << 4;
        }
    }
    finite
}

fn q6_k(block: &[u8], lane: usize, record: &mut [u8]) -> bool {
    let layout = const { Layout::new(Format::Q6K) };
    let (low, high, sub_scales, d) = (&block[..128], &block[128..192], &block[192..208], &block[208..]);
    let (head, blocks) = record.split_at_mut(layout.head);
    let finite = put_half(d, lane, head);
    // 128 columns share 64 bytes of low halves and 32 bytes of high pairs.
    let quant = |column: usize| {
        let (half, within) = (column / 128, column % 128);
        let (quarter, at) = (within / 32, within % 32);
        let nibble = low[half * 64 + quarter % 2 * 32 + at] >> (quarter / 2 * 4) & 15;
        nibble | (high[half * 32 + at] >> (quarter * 2) & 3) << 4
    };
    for (sub, out) in blocks.chunks_exact_mut(layout.block()).enumerate() {
        let (quants, scales) = out.split_at_mut(layout.quants);
        (scales[lane], scales[16 + lane]) = (sub_scales[sub * 2], sub_scales[sub * 2 + 1]);
        for column in 0..16 {
            let (a, b) = (quant(sub * 32 + column), quant(sub * 32 + column + 16));
            quants[column / 4 * 64 + place(lane, column % 4)] = a & 15 | b << 4;
        }
        for column in 0..BLOCK {
            let group = column / 4;
            quants[NIBBLES + group / 4 * 64 + place(lane, column % 4)] |=
                quant(sub * 32 + column) >> 4 << (group % 4 * 2);
        }
    }
    finite
}

/// The unsigned quant of column `column` of a block of 32 columns.
pub(crate) fn quant(
    format: Format,
    Block { quants: block, .. }: Block<'_>,
    lane: usize,
    column: usize,
) -> i32 {
    let (group, bit) = (column / 4, place(lane, column % 4));
    let value = match format {
        Format::Q8_0 => block[group * 64 + bit],
        _ => {
            let nibble = block[group % 4 * 64 + bit] >> (group / 4 * 4) & 15;
            let more = match format {
                Format::Q5_0 | Format::Q5_1 => block[NIBBLES + group * 8 + bit / 8] >> (bit % 8) & 1,
                Format::Q6K => block[NIBBLES + group / 4 * 64 + bit] >> (group % 4 * 2) & 3,
                _ => 0,
            };
            nibble | more << 4
        }
    };
    i32::from(value)
}

/// What is subtracted from an unsigned quant.
pub(crate) const fn offset(format: Format) -> i32 {
    match format {
        Format::Q4_0 => 8,
        Format::Q5_0 => 16,
        Format::Q6K => 32,
        Format::Q8_0 => 128,
        _ => 0,
    }
}

pub(crate) fn half(bytes: &[u8], lane: usize) -> f32 {
    f16::from_le_bytes([bytes[lane * 2], bytes[lane * 2 + 1]]).to_f32()
}

/// Scale and minimum of a block of row `lane`. Q6_K has further scales for [halves](half_scales).
pub(crate) fn scale_min(format: Format, Block { head, scales, .. }: Block<'_>, lane: usize) -> (f32, f32) {
    match format {
        Format::Q4_1 | Format::Q5_1 => (half(scales, lane), half(&scales[32..], lane)),
        Format::Q4K => {
            let (scale, min) = (f32::from(scales[lane]), f32::from(scales[16 + lane]));
            // Not a negation: the vector kernels subtract from 0 too, and the sign of a zero must be the same.
            (half(head, lane) * scale, 0.0 - half(&head[32..], lane) * min)
        }
        Format::Q6K => (half(head, lane), 0.0),
        _ => (half(scales, lane), 0.0),
    }
}

/// The two scale bytes of Q6_K for the halves of a block of row `lane`.
pub(crate) fn half_scales(Block { scales, .. }: Block<'_>, lane: usize) -> [i32; 2] {
    [scales[lane], scales[16 + lane]].map(|byte| i32::from(byte as i8))
}

/// The weight in column `column` of row `lane`, for formats whose weights are floats.
pub(crate) fn float(format: Format, tile: &[u8], lane: usize, column: usize) -> f32 {
    let at = column * TILE + lane;
    match format {
        Format::F16 => half(tile, at),
        Format::BF16 => bf16::from_le_bytes([tile[at * 2], tile[at * 2 + 1]]).to_f32(),
        _ => {
            let bytes = &tile[at * 4..];
            f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
        }
    }
}

/// Dequantizes row `lane` of a tile.
pub(crate) fn unpack(format: Format, tile: &[u8], lane: usize, out: &mut [f32]) {
    if !format.is_quantized() {
        for (column, value) in out.iter_mut().enumerate() {
            *value = float(format, tile, lane, column);
        }
        return;
    }
    let layout = Layout::new(format);
    for (index, out) in out.chunks_exact_mut(BLOCK).enumerate() {
        let block = layout.block_of(tile, index);
        let (d, min) = scale_min(format, block, lane);
        let halves = if format == Format::Q6K { half_scales(block, lane) } else { [1, 1] };
        for (column, value) in out.iter_mut().enumerate() {
            let quant = (quant(format, block, lane, column) - offset(format)) * halves[column / 16];
            *value = quant as f32 * d + min;
        }
    }
}
