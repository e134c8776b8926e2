//! Products of activations and weights, over candle's dot products.
//!
//! Each number of a product is one dot product of a row of activations and a row of weights, by one function for
//! all sizes: candle's own matrix products choose another kernel for one row than for many (packed Q6_K, AMX,
//! aarch64's tiles, every `f32` product), and then a row's result depends on how many rows stand beside it.
//! Here it does not, for any type, and so a tree and the same tokens one by one agree to the last bit.

use std::ops::Range;

use candle_core::quantized::GgmlType;
use rayon::prelude::*;

use crate::activations::{Activations, Lhs};
use crate::mapped::{MappedSlice, Plain};

/// Outputs that one task computes; a multiple of the four dot products that candle computes together.
const OUTPUTS: usize = 16;
/// Rows of activations that stay in the cache while weights pass by.
const ROWS: usize = 32;

/// Where blocks lie.
#[derive(Debug)]
pub(crate) enum Storage<T> {
    /// In the mapped file.
    File(MappedSlice<T>),
    /// In memory of their own.
    Memory(Vec<T>),
}

impl<T: Plain> Storage<T> {
    pub(crate) fn get(&self) -> &[T] {
        match self {
            Self::File(blocks) => blocks.get(),
            Self::Memory(blocks) => blocks,
        }
    }
}

/// A matrix of weights, `[outputs, inputs]`, of any type.
pub(crate) trait Matrix: Send + Sync + std::fmt::Debug {
    /// The number of rows of weights.
    fn outputs(&self) -> usize;

    /// Brings the activations into the form that the dot products take.
    fn prepare(&self, activations: &mut Activations);

    /// The products of `outputs` with all rows of activations, into `out`, `[outputs.len(), rows]`.
    fn multiply(&self, activations: &Activations, outputs: Range<usize>, out: &mut [f32]);

    /// Row `index` of the weights as `f32`, `[inputs]`.
    fn row(&self, index: usize, out: &mut [f32]);
}

/// A matrix of one of candle's quantized block types.
#[derive(Debug)]
pub(crate) struct Blocks<T> {
    outputs: usize,
    inputs: usize,
    storage: Storage<T>,
}

impl<T: GgmlType> Blocks<T> {
    /// The matrix `[outputs, inputs]` whose blocks are `storage`.
    pub(crate) fn new(outputs: usize, inputs: usize, storage: Storage<T>) -> Self {
        Self { outputs, inputs, storage }
    }
}

impl<T> Matrix for Blocks<T>
where
    T: GgmlType + Plain + std::fmt::Debug,
    T::VecDotType: Lhs,
{
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn prepare(&self, activations: &mut Activations) {
        T::VecDotType::prepare(activations);
    }

    fn multiply(&self, activations: &Activations, outputs: Range<usize>, out: &mut [f32]) {
        let inputs = self.inputs;
        let (row_blocks, lhs_blocks) = (inputs / T::BLCK_SIZE, inputs / T::VecDotType::BLCK_SIZE);
        let lhs = T::VecDotType::blocks(activations);
        let weights = &self.storage.get()[outputs.start * row_blocks..outputs.end * row_blocks];
        let rows = activations.rows();
        for first in (0..rows).step_by(ROWS) {
            let tile = first..rows.min(first + ROWS);
            let fours = weights.chunks(4 * row_blocks).zip(out.chunks_mut(4 * rows));
            for (weights, out) in fours {
                let row = |row: usize| &lhs[row * lhs_blocks..][..lhs_blocks];
                if weights.len() == 4 * row_blocks {
                    let (a, b) = weights.split_at(2 * row_blocks);
                    let ((a, b), (c, d)) = (a.split_at(row_blocks), b.split_at(row_blocks));
                    for r in tile.clone() {
                        let (a, b, c, d) = T::vec_dot_4(inputs, a, b, c, d, row(r));
                        (out[r], out[rows + r], out[2 * rows + r], out[3 * rows + r]) = (a, b, c, d);
                    }
                } else {
                    for (weights, out) in weights.chunks_exact(row_blocks).zip(out.chunks_exact_mut(rows)) {
                        for r in tile.clone() {
                            out[r] = T::vec_dot(inputs, weights, row(r));
                        }
                    }
                }
            }
        }
    }

    fn row(&self, index: usize, out: &mut [f32]) {
        let blocks = self.inputs / T::BLCK_SIZE;
        T::to_float(&self.storage.get()[index * blocks..][..blocks], out);
    }
}

/// Matrices over the same inputs, whose outputs stand one after the other: one parallel pass for all.
#[derive(Debug)]
pub(crate) struct Stack {
    matrices: Vec<Box<dyn Matrix>>,
    outputs: usize,
}

impl Stack {
    /// Stacks matrices that have the same inputs.
    pub(crate) fn new(matrices: Vec<Box<dyn Matrix>>) -> Self {
        let outputs = matrices.iter().map(|matrix| matrix.outputs()).sum();
        Self { matrices, outputs }
    }

    /// Row `index` of the first matrix as `f32`.
    pub(crate) fn row(&self, index: usize, out: &mut [f32]) {
        if let Some(matrix) = self.matrices.first() {
            matrix.row(index, out);
        }
    }

    /// The products of all outputs with all rows, into `out`, `[outputs, rows]`: an output's numbers are neighbours,
    /// so that tasks write apart. Runs on the present thread pool.
    pub(crate) fn multiply(&self, activations: &mut Activations, out: &mut Vec<f32>) {
        for matrix in &self.matrices {
            matrix.prepare(activations);
        }
        let rows = activations.rows();
        let activations = &*activations;
        out.resize(self.outputs * rows, 0.0);
        out.par_chunks_mut(OUTPUTS * rows).enumerate().for_each(|(task, mut out)| {
            let mut wanted = task * OUTPUTS..task * OUTPUTS + out.len() / rows;
            let mut first = 0;
            for matrix in &self.matrices {
                let end = first + matrix.outputs();
                if wanted.start < end && !wanted.is_empty() {
                    let part = wanted.start - first..wanted.end.min(end) - first;
                    wanted.start += part.len();
                    let here;
                    (here, out) = out.split_at_mut(part.len() * rows);
                    matrix.multiply(activations, part, here);
                }
                first = end;
            }
        });
    }
}
