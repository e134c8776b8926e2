//! The operations of a forward pass, over all rows and threads.

use crate::activations::{Activations, GROUP};
use crate::columns::Columns;
use crate::kernels::Kernels;
use crate::lanes::{self, LANES};
use crate::layout::{BLOCK, TILE};
use crate::matmul::{matmul_tile, parts};
use crate::matrix::Matrix;

/// What happens to a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// It replaces the old value.
    Set,
    /// It is added to the old value: a residual connection.
    Add,
}

/// One of several matrix products with the same activations.
#[derive(Debug)]
pub struct Matmul<'a> {
    /// The weights.
    pub matrix: &'a Matrix,
    /// The results, `[n, matrix.rows()]`.
    pub out: &'a mut [f32],
    /// What happens to the results.
    pub store: Store,
}

/// Tiles whose outputs are one block of activations.
const BLOCK_TILES: usize = BLOCK / TILE;

/// Blocks of the gate, then of the up matrix, that a thread takes at a time. Each is read as one stream, and the results of the gate are still
/// in the first-level cache when those of the up matrix follow.
const BLOCKS: usize = 4;

/// Elements of activations from which on all threads prepare rows: about five microseconds of work.
const PARALLEL: usize = 4 * 1024;

impl Kernels {
    /// Multiplies the rows of `x` with up to seven matrices in one operation.
    ///
    /// # Panics
    /// If a matrix and `x` differ in columns, an output has another length than `n * rows`, or a quantized matrix gets activations that are
    /// not quantized.
    pub fn multiply(&self, x: &Activations, matmuls: &mut [Matmul<'_>]) {
        let (n, count) = (x.n(), matmuls.len());
        let mut starts = [0; 8];
        assert!(count < starts.len(), "at most {} matrices share an operation", starts.len() - 1);
        let mut outs: [Option<(&Matrix, Columns<'_>, Store)>; 8] = [const { None }; 8];
        for (index, matmul) in matmuls.iter_mut().enumerate() {
            let rows = matmul.matrix.rows();
            assert_eq!(matmul.out.len(), n * rows, "the output is [n, rows]");
            starts[index + 1] = starts[index] + matmul.matrix.tiles();
            outs[index] = Some((matmul.matrix, Columns::new(matmul.out, rows), matmul.store));
        }
        self.pool().run(starts[count], |task| {
            let index = starts[1..=count].partition_point(|&start| start <= task);
            let Some((matrix, out, store)) = &outs[index] else { return };
            let tile = task - starts[index];
            self.tile(matrix, x, tile, |row, values| {
                let width = TILE.min(matrix.rows() - tile * TILE);
                // SAFETY: every tile is one task's, and its columns are no other tile's.
                let out = unsafe { out.slice(row, tile * TILE, width) };
                match store {
                    // Only a matrix's last tile can be partial; a copy of known size is two instructions.
                    Store::Set => match <&mut [f32; TILE]>::try_from(&mut *out) {
                        Ok(out) => *out = *values,
                        Err(_) => out.copy_from_slice(&values[..width]),
                    },
                    Store::Add => out.iter_mut().zip(values).for_each(|(out, value)| *out += value),
                }
            });
        });
    }

    /// SwiGLU: silu(x gateᵀ) * (x upᵀ), `[n, gate.rows()]`, into `out`; quantized if `quantize`.
    ///
    /// # Panics
    /// If the shapes do not match.
    pub fn swiglu(&self, gate: &Matrix, up: &Matrix, x: &Activations, out: &mut Activations, quantize: bool) {
        let (n, width) = (x.n(), gate.rows());
        assert_eq!(up.rows(), width, "gate and up are of one shape");
        out.resize(n, width);
        let rows = out.split(quantize);
        self.pool().run_ranges(gate.tiles().div_ceil(BLOCK_TILES), BLOCKS, |blocks| {
            let tiles = blocks.start * BLOCK_TILES..gate.tiles().min(blocks.end * BLOCK_TILES);
            let count = |tile| TILE.min(width - tile * TILE);
            for tile in tiles.clone() {
                self.tile(gate, x, tile, |row, values| {
                    let count = count(tile);
                    // SAFETY: every tile is one task's, and its columns are no other tile's.
                    unsafe { rows.slice(row, tile * TILE, count) }.copy_from_slice(&values[..count]);
                });
            }
            for tile in tiles {
                self.tile(up, x, tile, |row, values| {
                    let count = count(tile);
                    // SAFETY: as above.
                    let out = unsafe { rows.slice(row, tile * TILE, count) };
                    gated(self.path(), out, &values[..count]);
                });
            }
            let (from, to) = (blocks.start * BLOCK, width.min(blocks.end * BLOCK));
            // SAFETY: these columns are this task's.
            (0..n).for_each(|row| unsafe { rows.finish(self.path(), row, from, to - from) });
        });
    }

    /// RMSNorm of the rows of `x`, `[n, width]`, times `weight`, into `out`; quantized if `quantize`.
    ///
    /// # Panics
    /// If `x` is not whole rows of `weight.len()`.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], epsilon: f32, out: &mut Activations, quantize: bool) {
        let width = weight.len();
        assert!(width > 0 && x.len().is_multiple_of(width), "rows of {width}");
        out.resize(x.len() / width, width);
        self.rows(out, quantize, |row, out| {
            normalize(self.path(), &x[row * width..][..width], weight, epsilon, out);
        });
    }

    /// RMSNorm of each head of `x`, `[rows, heads * weight.len()]`, times `weight`, in place.
    ///
    /// # Panics
    /// If `x` is not whole heads of `weight.len()`.
    pub fn rms_norm_heads(&self, x: &mut [f32], weight: &[f32], epsilon: f32) {
        let width = weight.len();
        assert!(width > 0 && x.len().is_multiple_of(width), "heads of {width}");
        x.chunks_exact_mut(width).for_each(|head| normalize_in_place(self.path(), head, weight, epsilon));
    }

    /// Copies rows, `[n, width]`, into `out`; quantized if `quantize`.
    ///
    /// # Panics
    /// If `x` is not whole rows of `width`.
    pub fn load(&self, x: &[f32], width: usize, out: &mut Activations, quantize: bool) {
        assert!(width > 0 && x.len().is_multiple_of(width), "rows of {width}");
        out.resize(x.len() / width, width);
        self.rows(out, quantize, |row, out| out.copy_from_slice(&x[row * width..][..width]));
    }

    /// Lets `each` write every row of `out`, and then quantizes it if `quantize`.
    pub(crate) fn rows(
        &self,
        out: &mut Activations,
        quantize: bool,
        each: impl Fn(usize, &mut [f32]) + Sync,
    ) {
        let (n, width) = (out.n(), out.cols());
        let rows = out.split(quantize);
        // SAFETY: every row is one task's, and is written before it is quantized.
        let job = |row| unsafe {
            each(row, rows.slice(row, 0, width));
            rows.finish(self.path(), row, 0, width);
        };
        if n * width < PARALLEL { (0..n).for_each(job) } else { self.pool().run(n, job) }
    }

    /// Computes one tile for all rows of `x`, and calls `each` with every row and its 16 outputs.
    fn tile(&self, matrix: &Matrix, x: &Activations, tile: usize, mut each: impl FnMut(usize, &[f32; TILE])) {
        let mut stack = [[0.0; TILE]; GROUP];
        for (start, end) in parts(x.n(), GROUP) {
            let out = &mut stack[..end - start];
            matmul_tile(self.path(), matrix, x, tile, start, out);
            for (row, values) in out.iter().enumerate() {
                each(start + row, values);
            }
        }
    }
}

/// 1 / rms(x); the squares are summed in sixteen lanes.
#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    let mut sums = [0.0_f32; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            sums[lane] = block[lane].mul_add(block[lane], sums[lane]);
        }
    }
    for (sum, x) in sums.iter_mut().zip(rest) {
        *sum = x.mul_add(*x, *sum);
    }
    1.0 / (lanes::sum(sums) / x.len() as f32 + epsilon).sqrt()
}

lanes::dispatch! {
    /// `x / rms(x) * weight`.
    fn normalize(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
        let scale = inverse_rms(x, epsilon);
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * scale * weight;
        }
    }
}

lanes::dispatch! {
    /// As [`normalize`], in place.
    fn normalize_in_place(x: &mut [f32], weight: &[f32], epsilon: f32) {
        let scale = inverse_rms(x, epsilon);
        for (x, weight) in x.iter_mut().zip(weight) {
            *x = *x * scale * weight;
        }
    }
}

lanes::dispatch! {
    /// silu(gate) * up, into `gate`.
    fn gated(gate: &mut [f32], up: &[f32]) {
        for (gate, up) in gate.iter_mut().zip(up) {
            *gate = lanes::silu(*gate) * up;
        }
    }
}
