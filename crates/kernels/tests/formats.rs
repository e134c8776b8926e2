//! Weights of GGUF blocks equal those of a plain reading of the blocks' definition.

use half::f16;
use proptest::prelude::*;
use upcycle_kernels::{Format, Matrix};

const CHOICES: [f32; 16] =
    [-127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.];
const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// Bits `at..at + count` of `bytes`, the lowest of each byte first.
fn field(bytes: &[u8], at: usize, count: usize) -> u32 {
    (0..count).map(|bit| u32::from(bytes[(at + bit) / 8] >> ((at + bit) % 8) & 1) << bit).sum()
}

/// The weight in column `column` of a block.
fn weight(format: Format, block: &[u8], column: usize) -> f32 {
    let (sub, within) = (column / 32, column % 32);
    match format {
        Format::Q5K => {
            // 6-bit scales and minima: the first four of each are whole bytes, the others are nibbles and pairs of bits.
            let (scale, min) = if sub < 4 {
                (field(&block[4..], sub * 8, 6), field(&block[8..], sub * 8, 6))
            } else {
                let upper = |byte: usize| field(&block[byte..], (sub - 4) * 8 + 6, 2) << 4;
                (
                    field(&block[12..], (sub - 4) * 8, 4) + upper(4),
                    field(&block[12..], (sub - 4) * 8 + 4, 4) + upper(8),
                )
            };
            let low = field(&block[48..], (sub / 2 * 32 + within) * 8 + sub % 2 * 4, 4);
            let quant = low + (field(&block[16..], within * 8 + sub, 1) << 4);
            half(block) * scale as f32 * quant as f32 - half(&block[2..]) * min as f32
        }
        Format::Q2K => {
            let scale = field(block, column / 16 * 8, 4) as f32;
            let min = field(block, column / 16 * 8 + 4, 4) as f32;
            let quant = field(&block[16..], (sub / 4 * 32 + within) * 8 + sub % 4 * 2, 2) as f32;
            half(&block[80..]) * scale * quant - half(&block[82..]) * min
        }
        Format::Q3K => {
            let index = column / 16;
            let scale = field(&block[96..], index % 8 * 8 + index / 8 * 4, 4)
                + (field(&block[104..], index % 4 * 8 + index / 4 * 2, 2) << 4);
            let low = field(&block[32..], (sub / 4 * 32 + within) * 8 + sub % 4 * 2, 2);
            let quant = low as f32 - if field(block, within * 8 + sub, 1) == 1 { 0.0 } else { 4.0 };
            half(&block[108..]) * (scale as f32 - 32.0) * quant
        }
        Format::Iq4Nl => {
            half(block) * CHOICES[field(&block[2..], within % 16 * 8 + within / 16 * 4, 4) as usize]
        }
        Format::Iq4Xs => {
            let scale = field(&block[4..], sub * 4, 4) + (field(&block[2..], sub * 2, 2) << 4);
            let choice = field(&block[8..], (sub * 16 + within % 16) * 8 + within / 16 * 4, 4);
            half(block) * (scale as f32 - 32.0) * CHOICES[choice as usize]
        }
        Format::Mxfp4 => {
            let number = field(&block[1..], within % 16 * 8 + within / 16 * 4, 4) as usize;
            let sign = if number >= 8 { -1.0 } else { 1.0 };
            sign * E2M1[number % 8] * (f32::from(block[0]) - 127.0).exp2()
        }
        _ => unreachable!("not tested here"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn weights_are_those_of_the_blocks(
        format in prop::sample::select(vec![Format::Q2K, Format::Q5K, Format::Q3K, Format::Iq4Nl, Format::Iq4Xs, Format::Mxfp4]),
        // Three rows of the largest blocks.
        bytes in prop::collection::vec(any::<u8>(), 3 * 2 * 176),
    ) {
        let blocks = 512 / format.block();
        let mut bytes: Vec<u8> =
            bytes.into_iter().cycle().take(3 * blocks * format.block_bytes()).collect();
        for block in bytes.chunks_exact_mut(format.block_bytes()) {
            let halves: &[usize] = match format {
                Format::Q5K => &[0, 2],
                Format::Q2K => &[80, 82],
                Format::Q3K => &[108],
                Format::Mxfp4 => &[],
                _ => &[0],
            };
            for &at in halves {
                block[at + 1] = block[at + 1] & 0x83 | 0x20;
            }
            if format == Format::Mxfp4 {
                block[0] = block[0] % 40 + 100;
            }
        }
        let matrix = Matrix::pack("w", format, (3, 512), &bytes, 1).unwrap();
        let mut row = vec![0.0; 512];
        for (index, row_bytes) in bytes.chunks_exact(blocks * format.block_bytes()).enumerate() {
            matrix.gather(index, &mut row);
            for (column, &found) in row.iter().enumerate() {
                let block = &row_bytes[column / format.block() * format.block_bytes()..];
                let expected = weight(format, block, column % format.block());
                prop_assert!(
                    (found - expected).abs() <= expected.abs() * 1e-5 + 1e-5,
                    "{} row {index} column {column}: {found} {expected}", format.name()
                );
            }
        }
    }
}
