//! Weights in blocks of 4 or 8 bits for `MatMulNBits`.
//!
//! A weight is `(q - zero) * scale`, with one scale for each block and a zero of 8 (4 bits) or 128 (8 bits). Blocks of a file with
//! this form convert directly. A block with a minimum, `d * q + m`, equals `(q - 8) * d + (m + 8 * d)`. The operator computes the
//! first term. The second is the same for all 32 weights, so the graph multiplies it with the sum of the 32 activations. `Q4_1` and
//! `Q4_K` thus lose only rounding in `f32`. (Fractional zero points of the operator would do the same, but make it unpack the whole
//! matrix in each pass.)

use half::f16;
use upcycle_kernels::Format;

/// Bits of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bits {
    Four,
    Eight,
}

impl Bits {
    pub(crate) fn count(self) -> usize {
        match self {
            Bits::Four => 4,
            Bits::Eight => 8,
        }
    }
}

/// The blocks of a few rows.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    /// `[rows, blocks, block * bits / 8]`, with the first of two 4-bit weights in the low half of a byte.
    pub(crate) quants: Vec<u8>,
    /// `[rows, blocks]`.
    pub(crate) scales: Vec<f32>,
    /// The constant term of each block, `[rows, blocks]`; empty if all are 0.
    pub(crate) shifts: Vec<f32>,
}

/// The block size of formats that convert directly.
const FILE_BLOCK: usize = 32;

/// Whether blocks of this format convert without further loss.
pub(crate) fn converts_directly(format: Format, bits: Bits, block: usize) -> bool {
    let fits = match bits {
        Bits::Four => has_minimum(format) || format == Format::Q4_0,
        Bits::Eight => format == Format::Q8_0,
    };
    fits && block == FILE_BLOCK
}

/// Whether blocks of this format have a minimum.
pub(crate) fn has_minimum(format: Format) -> bool {
    matches!(format, Format::Q4_1 | Format::Q4K)
}

impl Blocks {
    /// Converts `bytes`, whole blocks of `format`.
    pub(crate) fn convert(&mut self, format: Format, bytes: &[u8]) {
        for block in bytes.chunks_exact(format.block_bytes()) {
            let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
            match format {
                Format::Q8_0 => {
                    self.scales.push(half(0));
                    self.quants.extend(block[2..].iter().map(|quant| quant ^ 0x80));
                }
                Format::Q4_0 => {
                    self.scales.push(half(0));
                    self.push_nibbles(&block[2..]);
                }
                Format::Q4_1 => {
                    self.scales.push(half(0));
                    self.shifts.push(half(2) + 8.0 * half(0));
                    self.push_nibbles(&block[4..]);
                }
                _ => self.q4_k(block, half(0), half(2)),
            }
        }
    }

    /// Reorders 16 bytes whose low halves are the first 16 weights of a block, and whose high halves are the others.
    fn push_nibbles(&mut self, bytes: &[u8]) {
        let low = bytes.as_chunks::<2>().0.iter().map(|[a, b]| a & 15 | b << 4);
        let high = bytes.as_chunks::<2>().0.iter().map(|[a, b]| a >> 4 | b & 0xf0);
        self.quants.extend(low.chain(high));
    }

    /// Converts a block of 256: eight blocks of 32 with 6-bit scales and minima.
    fn q4_k(&mut self, block: &[u8], d: f32, min: f32) {
        let (packed, quants) = block[4..].split_at(12);
        for part in 0..8 {
            let (scale, low) = match part {
                0..4 => (packed[part] & 63, packed[part + 4] & 63),
                _ => (
                    packed[part + 4] & 15 | packed[part - 4] >> 6 << 4,
                    packed[part + 4] >> 4 | packed[part] >> 6 << 4,
                ),
            };
            let scale = d * f32::from(scale);
            self.scales.push(scale);
            self.shifts.push(8.0 * scale - min * f32::from(low));
            let bytes = quants[part / 2 * 32..][..32].as_chunks::<2>().0;
            let shift = part % 2 * 4;
            self.quants.extend(bytes.iter().map(|[a, b]| a >> shift & 15 | (b >> shift & 15) << 4));
        }
    }

    /// Rounds weights. The weight of a block that is farthest from 0 is exact.
    pub(crate) fn round(&mut self, values: &[f32], bits: Bits, block: usize) {
        for values in values.chunks_exact(block) {
            let farthest =
                values.iter().fold(0.0_f32, |most, &x| if x.abs() > most.abs() { x } else { most });
            let zero = match bits {
                Bits::Four => 8.0,
                Bits::Eight => 128.0,
            };
            let scale = -farthest / zero;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            let quant = |x: f32| (x * inverse + zero).round().clamp(0.0, 2.0 * zero - 1.0) as u8;
            self.scales.push(scale);
            match bits {
                Bits::Four => self
                    .quants
                    .extend(values.as_chunks::<2>().0.iter().map(|&[a, b]| quant(a) | quant(b) << 4)),
                Bits::Eight => self.quants.extend(values.iter().map(|&x| quant(x))),
            }
        }
    }

    /// Adds zero shifts for rows without shifts.
    pub(crate) fn pad_shifts(&mut self) {
        self.shifts.resize(self.scales.len(), 0.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use upcycle_kernels::Matrix;

    use super::*;

    /// The weights that the blocks stand for.
    fn weights(blocks: &Blocks, bits: Bits, block: usize) -> Vec<f32> {
        let quants: Vec<f32> = match bits {
            Bits::Four => {
                blocks.quants.iter().flat_map(|byte| [byte & 15, byte >> 4]).map(f32::from).collect()
            }
            Bits::Eight => blocks.quants.iter().copied().map(f32::from).collect(),
        };
        let zero = if bits == Bits::Four { 8.0 } else { 128.0 };
        let shift = |index: usize| blocks.shifts.get(index).copied().unwrap_or(0.0);
        let at = |(index, quant): (usize, f32)| {
            (quant - zero) * blocks.scales[index / block] + shift(index / block)
        };
        quants.into_iter().enumerate().map(at).collect()
    }

    proptest! {
        #[test]
        fn direct_conversion_keeps_every_weight(
            bytes in prop::collection::vec(any::<u8>(), 144),
            d in 0.001_f32..0.1,
            min in -0.1_f32..0.1,
        ) {
            for (format, bits) in [
                (Format::Q4_0, Bits::Four),
                (Format::Q4_1, Bits::Four),
                (Format::Q4K, Bits::Four),
                (Format::Q8_0, Bits::Eight),
            ] {
                prop_assert!(converts_directly(format, bits, 32));
                let mut block = bytes[..format.block_bytes()].to_vec();
                block[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
                if has_minimum(format) {
                    block[2..4].copy_from_slice(&f16::from_f32(min).to_le_bytes());
                }
                let mut expected = vec![0.0; format.block()];
                let matrix = Matrix::pack("w", format, (1, format.block()), &block, 1).expect("a valid block");
                matrix.gather(0, &mut expected);
                let mut blocks = Blocks::default();
                blocks.convert(format, &block);
                prop_assert_eq!(blocks.shifts.is_empty(), !has_minimum(format));
                let largest = expected.iter().fold(d, |most, x| most.max(x.abs()));
                for (found, expected) in weights(&blocks, bits, 32).into_iter().zip(expected) {
                    // The tolerance covers a few roundings in `f32`.
                    prop_assert!((found - expected).abs() <= 4e-7 * largest, "{format:?}: {found} {expected}");
                }
            }
        }

        #[test]
        fn rounding_is_off_by_at_most_one_step(values in prop::collection::vec(-1.0_f32..1.0, 64)) {
            for bits in [Bits::Four, Bits::Eight] {
                let mut blocks = Blocks::default();
                blocks.round(&values, bits, 32);
                for (index, (found, &value)) in weights(&blocks, bits, 32).into_iter().zip(&values).enumerate() {
                    // Off by half a step, or by a whole one at the end with the other sign.
                    let step = blocks.scales[index / 32].abs();
                    prop_assert!((found - value).abs() <= 1.001 * step, "{bits:?}: {found} {value}");
                }
            }
        }
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        let mut blocks = Blocks::default();
        blocks.round(&[0.0; 32], Bits::Four, 32);
        assert_eq!(weights(&blocks, Bits::Four, 32), [0.0; 32]);
    }
}
