//! The left-hand side of products: rows of activations, and the 8-bit forms of them that quantized weights ask for.

use candle_core::quantized::GgmlType;
use candle_core::quantized::k_quants::{BlockQ8_0, BlockQ8_1, BlockQ8K};
use rayon::prelude::*;

/// Rows of activations `[rows, width]`, each quantized on its own, once for all the products that read them.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    rows: usize,
    width: usize,
    values: Vec<f32>,
    q8_0: Quantized<BlockQ8_0>,
    q8_1: Quantized<BlockQ8_1>,
    q8k: Quantized<BlockQ8K>,
}

#[derive(Debug)]
struct Quantized<T> {
    blocks: Vec<T>,
    /// Whether `blocks` are those of the present values.
    fresh: bool,
}

impl<T> Default for Quantized<T> {
    fn default() -> Self {
        Self { blocks: Vec::new(), fresh: false }
    }
}

/// A row that holds a NaN or an infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotFinite {
    /// Its index.
    pub(crate) row: usize,
}

impl Activations {
    /// Starts anew; returns the buffer to fill, `[rows, width]`, whose contents are unspecified.
    pub(crate) fn restart(&mut self, rows: usize, width: usize) -> &mut [f32] {
        (self.rows, self.width) = (rows, width);
        self.values.resize(rows * width, 0.0);
        self.q8_0.fresh = false;
        self.q8_1.fresh = false;
        self.q8k.fresh = false;
        &mut self.values
    }

    /// Checks what was filled in.
    ///
    /// Quantization to 8 bits turns a NaN into 0 and so would hide it.
    pub(crate) fn check(&self) -> Result<(), NotFinite> {
        check_finite(&self.values, self.width)
    }

    /// The number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }
}

/// Finds the first row of `values`, `[rows, width]`, that is not finite.
pub(crate) fn check_finite(values: &[f32], width: usize) -> Result<(), NotFinite> {
    let finite = |row: &[f32]| {
        // 0 times a finite number is 0, and NaN for all others, and a sum keeps a NaN.
        let (lanes, rest) = row.as_chunks::<8>();
        let mut poison = [0.0_f32; 8];
        for lane in lanes {
            for i in 0..8 {
                poison[i] += lane[i] * 0.0;
            }
        }
        poison.iter().chain(rest).all(|&value| value * 0.0 == 0.0)
    };
    match values.chunks_exact(width).position(|row| !finite(row)) {
        Some(row) => Err(NotFinite { row }),
        None => Ok(()),
    }
}

/// The types that candle's dot products take as their left-hand side.
pub(crate) trait Lhs: GgmlType + 'static {
    /// Quantizes the rows, if that is not yet done.
    fn prepare(activations: &mut Activations);

    /// The rows, each `width / BLCK_SIZE` blocks. Meaningful after [`prepare`](Self::prepare).
    fn blocks(activations: &Activations) -> &[Self];
}

impl Lhs for f32 {
    fn prepare(_: &mut Activations) {}

    fn blocks(activations: &Activations) -> &[Self] {
        &activations.values
    }
}

impl<T: GgmlType> Quantized<T> {
    fn prepare(&mut self, values: &[f32], width: usize) {
        if self.fresh {
            return;
        }
        let blocks = width / T::BLCK_SIZE;
        self.blocks.resize_with(values.len() / T::BLCK_SIZE, T::zeros);
        if values.len() == width {
            T::from_float(values, &mut self.blocks);
        } else {
            let rows = values.par_chunks_exact(width).zip(self.blocks.par_chunks_exact_mut(blocks));
            rows.with_min_len(4).for_each(|(values, blocks)| T::from_float(values, blocks));
        }
        self.fresh = true;
    }
}

macro_rules! quantized_lhs {
    ($($block:ty: $field:ident),*) => {$(
        impl Lhs for $block {
            fn prepare(activations: &mut Activations) {
                activations.$field.prepare(&activations.values, activations.width);
            }

            fn blocks(activations: &Activations) -> &[Self] {
                &activations.$field.blocks
            }
        }
    )*};
}

quantized_lhs!(BlockQ8_0: q8_0, BlockQ8_1: q8_1, BlockQ8K: q8k);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_not_finite_is_found_wherever_it_is() {
        for width in [1, 8, 13] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in 0..3 * width {
                    let mut activations = Activations::default();
                    activations.restart(3, width).fill(1.0);
                    assert_eq!(activations.check(), Ok(()));
                    activations.values[at] = bad;
                    assert_eq!(activations.check(), Err(NotFinite { row: at / width }));
                }
            }
        }
    }
}
