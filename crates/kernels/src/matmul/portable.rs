//! Portable kernels: the definition that all others must equal, bit for bit.

use crate::activations::Activations;
use crate::format::Format;
use crate::layout::{BLOCK, TILE, TileOut};
use crate::matrix::Matrix;
use crate::pack;

pub(super) fn tile(matrix: &Matrix, x: &Activations, tile: usize, first: usize, out: &mut TileOut) {
    let tile = matrix.tile(tile);
    let format = matrix.format();
    for (row, out) in (first..).zip(out) {
        if format.is_quantized() {
            quantized(matrix, tile, x, row, out);
        } else {
            floats(format, tile, x.floats(row), out);
        }
    }
}

fn quantized(matrix: &Matrix, tile: &[u8], x: &Activations, row: usize, out: &mut [f32; TILE]) {
    let (format, layout) = (matrix.format(), matrix.layout());
    *out = [0.0; TILE];
    for index in 0..x.cols() / BLOCK {
        let (activations, meta) = x.block(row, index);
        let block = layout.block_of(tile, index);
        for (lane, out) in out.iter_mut().enumerate() {
            let mut dots = [0_i32; 2];
            for (column, &activation) in activations.iter().enumerate() {
                dots[column / 16] += pack::quant(format, block, lane, column) * i32::from(activation);
            }
            for (dot, minus_sum) in dots.iter_mut().zip(meta.minus_sums()) {
                *dot += pack::offset(format) * minus_sum;
            }
            let (scale, min) = pack::scale_min(format, block, lane);
            let dot = if pack::has_half_scales(format) {
                let halves = pack::half_scales(format, block, lane);
                dots[0] * halves[0] + dots[1] * halves[1]
            } else {
                dots[0] + dots[1]
            };
            *out = (dot as f32 * scale).mul_add(meta.scale, *out);
            if matches!(format, Format::Q4_1 | Format::Q5_1 | Format::Q4K | Format::Q5K) {
                *out = min.mul_add(meta.scaled_sum, *out);
            }
            if pack::has_half_mins(format) {
                let (mins, d) = pack::half_mins(block, lane);
                let minus = meta.minus_sums();
                *out = ((mins[0] * minus[0] + mins[1] * minus[1]) as f32 * d).mul_add(meta.scale, *out);
            }
        }
    }
}

/// Even and odd columns have separate sums, which are added at the end.
fn floats(format: Format, tile: &[u8], x: &[f32], out: &mut [f32; TILE]) {
    for (lane, out) in out.iter_mut().enumerate() {
        let mut sums = [0.0_f32; 2];
        for (column, &x) in x.iter().enumerate() {
            let sum = &mut sums[column % 2];
            *sum = pack::float(format, tile, lane, column).mul_add(x, *sum);
        }
        *out = sums[0] + sums[1];
    }
}
