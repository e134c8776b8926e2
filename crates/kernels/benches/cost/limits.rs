//! How near products come to the limits of the machine.

use std::time::{Duration, Instant};

use upcycle_kernels::{Activations, Format, Kernels, Matmul, Matrix, Store};

use crate::{matrix, median};

/// Bytes that no cache holds.
const LARGE: usize = 1 << 30;

/// Multiply-adds a second of a matrix that stays in the cache, many rows at a time: the most that these kernels do.
pub(super) fn peak(kernels: &Kernels, format: Format) -> f64 {
    let matrix = matrix(format, 256, 1024);
    let (mut x, mut out) = (Activations::new(), vec![0.0; 64 * 256]);
    kernels.load(&vec![0.5; 64 * 1024], 1024, &mut x, format.is_quantized());
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let start = Instant::now();
            kernels.multiply(&x, &mut [Matmul { matrix: &matrix, out: &mut out, store: Store::Set }]);
            start.elapsed()
        })
        .collect();
    (64 * 256 * 1024) as f64 / median(&mut times)
}

/// One row through matrices that together fit no cache: the share of the memory's bandwidth that a product reaches.
pub(super) fn one_row(kernels: &Kernels, memory: f64) {
    let one = matrix(Format::Q4_1, 8192, 2048);
    let count = LARGE / one.bytes();
    let matrices: Vec<Matrix> = (0..count).map(|_| matrix(Format::Q4_1, 8192, 2048)).collect();
    let (mut x, mut out) = (Activations::new(), vec![0.0; 8192]);
    kernels.load(&[0.5; 2048], 2048, &mut x, true);
    let mut times = Vec::new();
    for matrix in matrices.iter().chain(&matrices) {
        let start = Instant::now();
        kernels.multiply(&x, &mut [Matmul { matrix, out: &mut out, store: Store::Set }]);
        times.push(start.elapsed());
    }
    let rate = matrices[0].bytes() as f64 / median(&mut times);
    println!(
        "one row, 8192 x 2048 Q4_1: {:.1} GB/s, {:.0} % of the memory's",
        rate / 1e9,
        rate / memory * 100.0
    );
}
