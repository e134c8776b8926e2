//! Products with `f32` weights.
//!
//! candle multiplies `f32` matrices with the crate `gemm`, which is fast for many rows but sums in another order for
//! few; its `f32` dot products are the same for any number, but read all weights again for every row. This is the
//! same dot product, for several rows at once: each sum has its own lanes, and takes its terms in the same order
//! whatever is summed beside it.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::activations::{Activations, Lhs};
use crate::product::{Matrix, Storage};

/// A matrix of `f32`.
#[derive(Debug)]
pub(crate) struct Dense {
    outputs: usize,
    inputs: usize,
    storage: Storage<f32>,
}

impl Dense {
    /// The matrix `[outputs, inputs]` whose values are `storage`.
    pub(crate) fn new(outputs: usize, inputs: usize, storage: Storage<f32>) -> Self {
        Self { outputs, inputs, storage }
    }
}

impl Matrix for Dense {
    fn outputs(&self) -> usize {
        self.outputs
    }

    fn prepare(&self, _: &mut Activations) {}

    fn multiply(&self, activations: &Activations, outputs: Range<usize>, out: &mut [f32]) {
        let inputs = self.inputs;
        let weights = &self.storage.get()[outputs.start * inputs..outputs.end * inputs];
        let activations = f32::blocks(activations);
        Arch::new().dispatch(Multiply { inputs, weights, activations, out });
    }

    fn row(&self, index: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.storage.get()[index * self.inputs..][..self.inputs]);
    }
}

/// `weights`, `[outputs, inputs]`, times `activations`, `[rows, inputs]`, into `out`, `[outputs, rows]`.
struct Multiply<'a> {
    inputs: usize,
    weights: &'a [f32],
    activations: &'a [f32],
    out: &'a mut [f32],
}

/// Outputs and rows of a tile: twelve sums and what they read fit the sixteen registers of AVX2.
const OUTPUTS: usize = 4;
const ROWS: usize = 3;

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { inputs, weights, activations, out } = self;
        let rows = activations.len() / inputs;
        for (weights, out) in weights.chunks(OUTPUTS * inputs).zip(out.chunks_mut(OUTPUTS * rows)) {
            let mut first = 0;
            for activations in activations.chunks(ROWS * inputs) {
                let here = activations.len() / inputs;
                if here == ROWS && weights.len() == OUTPUTS * inputs {
                    tile::<S, OUTPUTS, ROWS>(simd, inputs, weights, activations, &mut out[first..], rows);
                } else {
                    for (row, activations) in activations.chunks_exact(inputs).enumerate() {
                        let out = &mut out[first + row..];
                        if weights.len() == OUTPUTS * inputs {
                            tile::<S, OUTPUTS, 1>(simd, inputs, weights, activations, out, rows);
                        } else {
                            for (output, weights) in weights.chunks_exact(inputs).enumerate() {
                                let out = &mut out[output * rows..];
                                tile::<S, 1, 1>(simd, inputs, weights, activations, out, rows);
                            }
                        }
                    }
                }
                first += here;
            }
        }
    }
}

/// `O` outputs of `R` rows, `out[output * stride + row]`.
#[inline(always)]
fn tile<S: Simd, const O: usize, const R: usize>(
    simd: S,
    inputs: usize,
    weights: &[f32],
    activations: &[f32],
    out: &mut [f32],
    stride: usize,
) {
    let weights: [_; O] = std::array::from_fn(|o| S::as_simd_f32s(&weights[o * inputs..][..inputs]));
    let activations: [_; R] = std::array::from_fn(|r| S::as_simd_f32s(&activations[r * inputs..][..inputs]));
    let mut sums = [[simd.splat_f32s(0.0); R]; O];
    let steps = weights[0].0.len();
    // Cut to one length, so that the loop has no bounds to check.
    let weight_lanes: [_; O] = std::array::from_fn(|o| &weights[o].0[..steps]);
    let activation_lanes: [_; R] = std::array::from_fn(|r| &activations[r].0[..steps]);
    for step in 0..steps {
        for o in 0..O {
            for r in 0..R {
                sums[o][r] =
                    simd.mul_add_e_f32s(weight_lanes[o][step], activation_lanes[r][step], sums[o][r]);
            }
        }
    }
    for o in 0..O {
        for r in 0..R {
            let rest = weights[o].1.iter().zip(activations[r].1).map(|(a, b)| a * b).sum::<f32>();
            out[o * stride + r] = simd.reduce_sum_f32s(sums[o][r]) + rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_right_and_do_not_depend_on_the_rows_beside_them() {
        for (outputs, inputs, rows) in [(1, 1, 1), (4, 8, 3), (5, 33, 7), (9, 100, 11), (16, 64, 4)] {
            let noise = |i: usize| ((i as f32 * 12.9898).sin() * 43_758.547).fract();
            let weights: Vec<f32> = (0..outputs * inputs).map(noise).collect();
            let values: Vec<f32> = (0..rows * inputs).map(|i| noise(i + 7777)).collect();
            let matrix = Dense::new(outputs, inputs, Storage::Memory(weights.clone()));
            let multiply = |values: &[f32]| {
                let rows = values.len() / inputs;
                let mut activations = Activations::default();
                activations.restart(rows, inputs).copy_from_slice(values);
                let mut out = vec![f32::NAN; outputs * rows];
                matrix.multiply(&activations, 0..outputs, &mut out);
                out
            };
            let all = multiply(&values);
            for (row, values) in values.chunks(inputs).enumerate() {
                let alone = multiply(values);
                for (output, weights) in weights.chunks(inputs).enumerate() {
                    assert_eq!(all[output * rows + row], alone[output], "{outputs} {inputs} {rows}");
                    let terms = weights.iter().zip(values).map(|(a, b)| f64::from(*a) * f64::from(*b));
                    assert!((f64::from(alone[output]) - terms.sum::<f64>()).abs() < 1e-4);
                }
            }
        }
    }
}
