//! Products: every path equals the portable one to the bit, every row is invariant, and the portable path is close to
//! an oracle in double precision that is too simple to be wrong.

use std::sync::OnceLock;

use proptest::prelude::*;
use upcycle_kernels::{Activations, Format, Isa, KernelPath, Kernels, Matmul, Matrix, Store};

/// Random blocks of `format` for `[rows, cols]`, with sound scales.
fn blocks(format: Format, rows: usize, cols: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    let size = format.block_bytes();
    let mut bytes: Vec<u8> = (0..rows * cols / format.block() * size).map(|_| next()).collect();
    // A half-precision number between 2^-10 and 2^-6, either sign.
    let mut half = |at: &mut [u8]| {
        let bits = (u16::from(next() % 4) + 5) << 10 | u16::from(next()) << 2 | u16::from(next() & 1) << 15;
        at.copy_from_slice(&bits.to_le_bytes());
    };
    for block in bytes.chunks_exact_mut(size) {
        match format {
            Format::Q4_0 | Format::Q5_0 | Format::Q8_0 | Format::F16 => half(&mut block[..2]),
            Format::Q4_1 | Format::Q5_1 | Format::Q4K => {
                half(&mut block[..2]);
                half(&mut block[2..4]);
            }
            Format::Q6K => half(&mut block[208..]),
            Format::Q2K => {
                half(&mut block[80..82]);
                half(&mut block[82..]);
            }
            Format::Q3K => half(&mut block[108..]),
            Format::Q5K => {
                half(&mut block[..2]);
                half(&mut block[2..4]);
            }
            Format::Iq4Nl | Format::Iq4Xs => half(&mut block[..2]),
            Format::Mxfp4 => block[0] = 118 + block[0] % 5,
            Format::BF16 => block[1] = block[1] & 0x80 | 0x3c,
            Format::F32 => block[3] = block[3] & 0x80 | 0x3c,
        }
    }
    bytes
}

fn product(kernels: &Kernels, matrix: &Matrix, rows: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let mut x = Activations::new();
    kernels.load(&rows.concat(), matrix.cols(), &mut x, matrix.format().is_quantized());
    let mut out = vec![0.0; rows.len() * matrix.rows()];
    kernels.multiply(&x, &mut [Matmul { matrix, out: &mut out, store: Store::Set }]);
    out.chunks(matrix.rows()).map(<[f32]>::to_vec).collect()
}

fn bits(rows: &[Vec<f32>]) -> Vec<Vec<u32>> {
    rows.iter().map(|row| row.iter().map(|x| x.to_bits()).collect()).collect()
}

/// The paths of this machine, the portable one first, on one and on three threads.
fn kernels() -> &'static [Kernels] {
    static ALL: OnceLock<Vec<Kernels>> = OnceLock::new();
    ALL.get_or_init(|| {
        let paths = Isa::available().into_iter().map(|isa| KernelPath::new(isa).unwrap());
        paths.flat_map(|path| [1, 3].map(|threads| Kernels::with_path(path, threads))).collect()
    })
}

fn any_format() -> impl Strategy<Value = Format> {
    prop::sample::select(Format::ALL.to_vec())
}

fn any_rows(most: usize, cols: usize) -> impl Strategy<Value = Vec<Vec<f32>>> {
    prop::collection::vec(prop::collection::vec(-4.0_f32..4.0, cols), 1..=most)
}

#[test]
fn the_paths_of_this_machine() {
    for isa in Isa::ALL {
        println!(
            "{}: {}",
            isa.name(),
            if isa.is_available() { "tested" } else { "skipped, no such instructions" }
        );
    }
}

/// FNV-1a of 64 bits.
fn digest(bits: impl IntoIterator<Item = u32>) -> u64 {
    bits.into_iter()
        .flat_map(u32::to_le_bytes)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Paths are compared with each other where they are together; this compares machines that have no path in common but the
/// portable one.
#[test]
fn the_bits_are_the_same_on_every_machine() {
    let rows: Vec<Vec<f32>> = (0..3)
        .map(|row| (0..512).map(|column| ((row * 512 + column) * 37 % 1001) as f32 / 250.0 - 2.0).collect())
        .collect();
    for kernels in kernels() {
        let all = Format::ALL.into_iter().flat_map(|format| {
            let matrix = Matrix::pack("w", format, (20, 512), &blocks(format, 20, 512, 12345), 1).unwrap();
            bits(&product(kernels, &matrix, &rows)).concat()
        });
        assert_eq!(digest(all), 552_111_519_998_043_235, "{kernels:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn paths_agree_to_the_bit(format in any_format(), out in 1_usize..40, seed: u64, rows in any_rows(20, 512)) {
        let bytes = blocks(format, out, 512, seed);
        let matrix = Matrix::pack("w", format, (out, 512), &bytes, 2).unwrap();
        let expected = bits(&product(&kernels()[0], &matrix, &rows));
        for kernels in &kernels()[1..] {
            prop_assert_eq!(bits(&product(kernels, &matrix, &rows)), expected.clone(), "{:?} {}", kernels, format.name());
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours(format in any_format(), seed: u64, rows in any_rows(20, 256)) {
        let bytes = blocks(format, 20, 256, seed);
        let matrix = Matrix::pack("w", format, (20, 256), &bytes, 1).unwrap();
        for path in kernels() {
            let together = bits(&product(path, &matrix, &rows));
            for (row, together) in rows.iter().zip(&together) {
                prop_assert_eq!(&bits(&product(path, &matrix, std::slice::from_ref(row)))[0], together);
            }
        }
    }

    #[test]
    fn products_are_close_to_the_oracle(format in any_format(), out in 1_usize..20, seed: u64, rows in any_rows(3, 512)) {
        let bytes = blocks(format, out, 512, seed);
        let matrix = Matrix::pack("w", format, (out, 512), &bytes, 1).unwrap();
        let found = product(&kernels()[0], &matrix, &rows);
        let mut weights = vec![0.0; 512];
        for index in 0..out {
            matrix.gather(index, &mut weights);
            for (x, found) in rows.iter().zip(&found) {
                let exact: f64 = weights.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                // An activation is off by at most half a step of 1/127 of its block's largest; then rounding.
                let bound: f64 = weights.iter().zip(x).map(|(&w, _)| f64::from(w.abs()) * 4.0 / 254.0).sum();
                let bound = if format.is_quantized() { bound } else { bound * 1e-3 } + 1e-6;
                prop_assert!((exact - f64::from(found[index])).abs() <= bound, "{exact} {}", found[index]);
            }
        }
    }

    #[test]
    fn a_row_that_is_not_finite_makes_its_outputs_not_finite(
        format in any_format(),
        seed: u64,
        at in 0_usize..256,
        bad in prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY]),
    ) {
        let matrix = Matrix::pack("w", format, (16, 256), &blocks(format, 16, 256, seed), 1).unwrap();
        let mut row = vec![0.5; 256];
        row[at] = bad;
        for path in kernels() {
            let out = product(path, &matrix, &[vec![0.5; 256], row.clone()]);
            prop_assert!(out[0].iter().all(|x| x.is_finite()));
            prop_assert!(out[1].iter().any(|x| !x.is_finite()));
        }
    }
}
