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
        Format::Q5K => records.all(|(block, record)| q5_k(block, lane, record)),
        Format::Q6K => records.all(|(block, record)| q6_k(block, lane, record)),
        Format::Q2K => records.all(|(block, record)| q2_k(block, lane, record)),
        Format::Q3K => records.all(|(block, record)| q3_k(block, lane, record)),
        Format::Iq4Xs => records.all(|(block, record)| iq4_xs(block, lane, record)),
        Format::Mxfp4 => records.all(|(block, record)| {
            let (quants, scales) = record.split_at_mut(layout.quants);
            scales[lane * 2..][..2].copy_from_slice(&power_of_two(block[0]).to_le_bytes());
            pairs(&block[1..], lane, quants);
            true
        }),
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
        set_masks(&mut quants[NIBBLES..], lane, |group| (fifth >> (group * 4)) as u8 & 15);
    }
    if format == Format::Q8_0 {
        for group in 0..BLOCK / 4 {
            // The dot-product instructions take unsigned weights. The kernels subtract 128 times the sum of the activations.
            put_four(quants, group, lane, four(rest, group * 4) ^ 0x8080_8080);
        }
    } else {
        pairs(rest, lane, quants);
    }
    finite
}

/// Sets the highest bits of the quants of 32 columns in the masks; `four` gives those of a group, the first column's lowest.
fn set_masks(masks: &mut [u8], lane: usize, four: impl Fn(usize) -> u8) {
    for group in 0..BLOCK / 4 {
        masks[group * 8 + lane / 2] |= four(group) << (lane % 2 * 4);
    }
}

/// Bit `bit` of four bytes from `at` on, the first byte's lowest.
fn four_bits(bytes: &[u8], at: usize, bit: usize) -> u8 {
    let bits = four(bytes, at) >> bit & 0x0101_0101;
    // Each factor moves one byte's bit to its place in the highest byte.
    (bits.wrapping_mul(0x0102_0408) >> 24) as u8 & 15
}

/// Four bytes from `at` on.
fn four(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes a row's four bytes of a group.
fn put_four(quants: &mut [u8], group: usize, lane: usize, four: u32) {
    quants[group * 64 + place(lane, 0)..][..4].copy_from_slice(&four.to_le_bytes());
}

/// Sixteen bytes whose low halves are columns 0 to 15, and whose high halves are columns 16 to 31.
fn pairs(bytes: &[u8], lane: usize, quants: &mut [u8]) {
    for group in 0..4 {
        put_four(quants, group, lane, four(bytes, group * 4));
    }
}

/// The low (`upper`: high) halves of 32 bytes, as [`pairs`].
fn nibbles(bytes: &[u8], upper: bool, lane: usize, quants: &mut [u8]) {
    let nibbles = |at| four(bytes, at) >> (u32::from(upper) * 4) & 0x0f0f_0f0f;
    for group in 0..4 {
        put_four(quants, group, lane, nibbles(group * 4) | nibbles(16 + group * 4) << 4);
    }
}

/// Bits `2 * field` and the next of 32 bytes, as fields of four groups to a byte.
fn fields(bytes: &[u8], field: usize, lane: usize, quants: &mut [u8]) {
    let fields = |group| four(bytes, group * 4) >> (field * 2) & 0x0303_0303;
    for plane in 0..2 {
        let of = |group| fields(plane * 4 + group) << (group * 2);
        put_four(quants, plane, lane, of(0) | of(1) | of(2) | of(3));
    }
}

/// Half of 2 to the power of `exponent - 127`, as bfloat16: the table of MXFP4 has doubled numbers.
fn power_of_two(exponent: u8) -> u16 {
    match exponent {
        // Two are below the normal numbers.
        0 => 0x20,
        1 => 0x40,
        exponent => (u16::from(exponent) - 1) << 7,
    }
}

/// The numbers that four bits stand for, plus an offset that makes them positive.
pub(crate) const fn table(format: Format) -> [u8; 16] {
    match format {
        // -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89 and 113.
        Format::Iq4Nl | Format::Iq4Xs => {
            [1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241]
        }
        // 0, 1, 2, 3, 4, 6, 8 and 12, then the same with a minus.
        Format::Mxfp4 => [16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4],
        _ => [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    }
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
        nibbles(&block[16 + sub / 2 * 32..][..32], sub % 2 == 1, lane, quants);
    }
    finite
}

/// As [`q4_k`], with fifth bits: bit `sub` of byte `column`.
fn q5_k(block: &[u8], lane: usize, record: &mut [u8]) -> bool {
    let layout = const { Layout::new(Format::Q5K) };
    let (head, blocks) = record.split_at_mut(layout.head);
    let finite = put_half(&block[..2], lane, head) & put_half(&block[2..4], lane, &mut head[32..]);
    let (fifth, low) = (&block[16..48], &block[48..]);
    for (sub, out) in blocks.chunks_exact_mut(layout.block()).enumerate() {
        let (quants, scales) = out.split_at_mut(layout.quants);
        (scales[lane], scales[16 + lane]) = scale_min_k4(&block[4..16], sub);
        nibbles(&low[sub / 2 * 32..][..32], sub % 2 == 1, lane, quants);
        set_masks(&mut quants[NIBBLES..], lane, |group| four_bits(fifth, group * 4, sub));
    }
    finite
}

/// Bytes of a scale (low half) and a minimum (high half) for 16 columns, two bits of each quant, d and dmin.
fn q2_k(block: &[u8], lane: usize, record: &mut [u8]) -> bool {
    let layout = const { Layout::new(Format::Q2K) };
    let (sub_scales, low, d) = (&block[..16], &block[16..80], &block[80..]);
    let (head, blocks) = record.split_at_mut(layout.head);
    let finite = put_half(&d[..2], lane, head) & put_half(&d[2..4], lane, &mut head[32..]);
    for (sub, out) in blocks.chunks_exact_mut(layout.block()).enumerate() {
        let (quants, scales) = out.split_at_mut(layout.quants);
        (scales[lane], scales[16 + lane]) = (sub_scales[2 * sub], sub_scales[2 * sub + 1]);
        // 128 columns share 32 bytes.
        fields(&low[sub / 4 * 32..][..32], sub % 4, lane, quants);
    }
    finite
}

/// Two bits of each quant and, apart from them, the third. 6-bit scales minus 32 for 16 columns: four low bits, then pairs of upper bits.
fn q3_k(block: &[u8], lane: usize, record: &mut [u8]) -> bool {
    let layout = const { Layout::new(Format::Q3K) };
    let (third, low, sub_scales, d) = (&block[..32], &block[32..96], &block[96..108], &block[108..]);
    let (head, blocks) = record.split_at_mut(layout.head);
    let finite = put_half(d, lane, head);
    let scale = |index: usize| {
        let nibble = sub_scales[index % 8] >> (index / 8 * 4) & 15;
        (nibble | (sub_scales[8 + index % 4] >> (index / 4 * 2) & 3) << 4).wrapping_sub(32)
    };
    for (sub, out) in blocks.chunks_exact_mut(layout.block()).enumerate() {
        let (quants, scales) = out.split_at_mut(layout.quants);
        (scales[lane], scales[16 + lane]) = (scale(2 * sub), scale(2 * sub + 1));
        let (low_bits, masks) = quants.split_at_mut(low_bytes(Format::Q3K));
        // 128 columns share 32 bytes.
        fields(&low[sub / 4 * 32..][..32], sub % 4, lane, low_bits);
        set_masks(masks, lane, |group| four_bits(third, group * 4, sub));
    }
    finite
}

fn iq4_xs(block: &[u8], lane: usize, record: &mut [u8]) -> bool {
    let layout = const { Layout::new(Format::Iq4Xs) };
    let (head, blocks) = record.split_at_mut(layout.head);
    let finite = put_half(&block[..2], lane, head);
    let upper = u16::from_le_bytes([block[2], block[3]]);
    for (sub, out) in blocks.chunks_exact_mut(layout.block()).enumerate() {
        let (quants, scales) = out.split_at_mut(layout.quants);
        let low = block[4 + sub / 2] >> (sub % 2 * 4) & 15;
        scales[lane] = (low | ((upper >> (2 * sub) & 3) << 4) as u8).wrapping_sub(32);
        pairs(&block[8 + sub * 16..][..16], lane, quants);
    }
    finite
}

fn q6_k(block: &[u8], lane: usize, record: &mut [u8]) -> bool {
    let layout = const { Layout::new(Format::Q6K) };
    let (low, high, sub_scales, d) = (&block[..128], &block[128..192], &block[192..208], &block[208..]);
    let (head, blocks) = record.split_at_mut(layout.head);
    let finite = put_half(d, lane, head);
    for (sub, out) in blocks.chunks_exact_mut(layout.block()).enumerate() {
        let (quants, scales) = out.split_at_mut(layout.quants);
        (scales[lane], scales[16 + lane]) = (sub_scales[sub * 2], sub_scales[sub * 2 + 1]);
        // 128 columns share 64 bytes of low halves and 32 bytes of high pairs.
        let (half, quarter) = (sub / 4, sub % 4);
        nibbles(&low[half * 64 + quarter % 2 * 32..][..32], quarter >= 2, lane, quants);
        fields(&high[half * 32..][..32], quarter, lane, &mut quants[NIBBLES..]);
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
            let field = |fields: &[u8]| fields[group / 4 * 64 + bit] >> (group % 4 * 2) & 3;
            let low = if has_fields(format) {
                field(block)
            } else {
                table(format)[usize::from(block[group % 4 * 64 + bit] >> (group / 4 * 4) & 15)]
            };
            let more = match top(format) {
                0 if format == Format::Q6K => field(&block[NIBBLES..]) << 4,
                0 => 0,
                top => top * (block[low_bytes(format) + group * 8 + bit / 8] >> (bit % 8) & 1),
            };
            low | more
        }
    };
    i32::from(value)
}

/// Whether the low bits of quants are 2-bit fields.
pub(crate) const fn has_fields(format: Format) -> bool {
    matches!(format, Format::Q2K | Format::Q3K)
}

/// The bytes of the low bits of 32 columns.
pub(crate) const fn low_bytes(format: Format) -> usize {
    if has_fields(format) { 128 } else { NIBBLES }
}

/// The value of the bit that masks hold; 0 without masks.
pub(crate) const fn top(format: Format) -> u8 {
    match format {
        Format::Q5_0 | Format::Q5_1 | Format::Q5K => 16,
        Format::Q3K => 4,
        _ => 0,
    }
}

/// What is subtracted from an unsigned quant.
pub(crate) const fn offset(format: Format) -> i32 {
    match format {
        Format::Q4_0 => 8,
        Format::Q5_0 => 16,
        Format::Q6K => 32,
        Format::Q3K => 4,
        Format::Mxfp4 => 16,
        Format::Q8_0 | Format::Iq4Nl | Format::Iq4Xs => 128,
        _ => 0,
    }
}

pub(crate) fn half(bytes: &[u8], lane: usize) -> f32 {
    f16::from_le_bytes([bytes[lane * 2], bytes[lane * 2 + 1]]).to_f32()
}

/// Scale and minimum of a block of row `lane`. Q2_K, Q3_K and Q6_K have further scales for [halves](half_scales), and Q2_K has
/// [minima](half_mins) for them alone.
pub(crate) fn scale_min(format: Format, Block { head, scales, .. }: Block<'_>, lane: usize) -> (f32, f32) {
    match format {
        Format::Q4_1 | Format::Q5_1 => (half(scales, lane), half(&scales[32..], lane)),
        Format::Iq4Xs => (half(head, lane) * f32::from(scales[lane] as i8), 0.0),
        Format::Mxfp4 => (bf16::from_le_bytes([scales[lane * 2], scales[lane * 2 + 1]]).to_f32(), 0.0),
        Format::Q4K | Format::Q5K => {
            let (scale, min) = (f32::from(scales[lane]), f32::from(scales[16 + lane]));
            // Not a negation: the vector kernels subtract from 0 too, and the sign of a zero must be the same.
            (half(head, lane) * scale, 0.0 - half(&head[32..], lane) * min)
        }
        Format::Q2K | Format::Q3K | Format::Q6K => (half(head, lane), 0.0),
        _ => (half(scales, lane), 0.0),
    }
}

/// Whether each half of a block's columns has its own scale.
pub(crate) const fn has_half_scales(format: Format) -> bool {
    matches!(format, Format::Q2K | Format::Q3K | Format::Q6K)
}

/// Whether each half of a block's columns has its own minimum.
pub(crate) const fn has_half_mins(format: Format) -> bool {
    matches!(format, Format::Q2K)
}

/// The scales of the halves of a block of row `lane`, for formats that have them.
pub(crate) fn half_scales(format: Format, Block { scales, .. }: Block<'_>, lane: usize) -> [i32; 2] {
    [scales[lane], scales[16 + lane]].map(|byte| match format {
        Format::Q2K => i32::from(byte & 15),
        _ => i32::from(byte as i8),
    })
}

/// The minima of the halves of a block of row `lane`, and their scale, for formats that have them.
pub(crate) fn half_mins(Block { head, scales, .. }: Block<'_>, lane: usize) -> ([i32; 2], f32) {
    ([scales[lane], scales[16 + lane]].map(|byte| i32::from(byte >> 4)), half(&head[32..], lane))
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
        let halves = if has_half_scales(format) { half_scales(format, block, lane) } else { [1, 1] };
        let mins = match has_half_mins(format) {
            true => {
                let (mins, d) = half_mins(block, lane);
                mins.map(|min| -(min as f32 * d))
            }
            false => [min; 2],
        };
        for (column, value) in out.iter_mut().enumerate() {
            let quant = (quant(format, block, lane, column) - offset(format)) * halves[column / 16];
            *value = quant as f32 * d + mins[column / 16];
        }
    }
}
