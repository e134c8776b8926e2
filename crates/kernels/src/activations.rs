//! The rows that a product multiplies: quantized to int8 by blocks of 32, or kept as f32.

use crate::Path;
use crate::lanes::{self, LANES};
use crate::matrix::BLOCK;
use crate::ops::Columns;

/// `n` activation rows of `cols` columns, kept in the form that the kernels read. Reused from product to product.
///
/// Each block of 32 is quantized on its own: scale = max |x| / 127, quant = x / scale rounded to even. A block with a
/// NaN or an infinity gets a NaN scale, so that whatever is computed from it is NaN and found.
#[derive(Clone, Debug, Default)]
pub struct Activations {
    n: usize,
    cols: usize,
    quantized: bool,
    floats: Vec<f32>,
    quants: Vec<i8>,
    blocks: Vec<BlockMeta>,
}

/// What a product needs of a block of 32 activations besides its quants.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub(crate) struct BlockMeta {
    pub(crate) scale: f32,
    /// The scale times the sum of the quants.
    pub(crate) scaled_sum: f32,
    /// The sums of the first and of the last 16 quants.
    pub(crate) sums: [i32; 2],
}

impl Activations {
    /// Room for rows; allocates when first used.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes room for `n` rows of `cols` columns; their contents are unspecified until written.
    pub(crate) fn resize(&mut self, n: usize, cols: usize) {
        (self.n, self.cols, self.quantized) = (n, cols, false);
        self.floats.resize(n * cols, 0.0);
        self.quants.resize(n * cols, 0);
        self.blocks.resize(n * (cols / BLOCK), BlockMeta::default());
    }

    /// The number of rows.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// The number of columns.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Whether the rows were quantized since they were written.
    #[must_use]
    pub fn is_quantized(&self) -> bool {
        self.quantized
    }

    /// All rows, `[n, cols]`, to be written; they count as not quantized from then on.
    pub(crate) fn all_mut(&mut self) -> &mut [f32] {
        self.quantized = false;
        &mut self.floats
    }

    /// The rows apart, for several threads to quantize. The caller quantizes every one of them.
    ///
    /// # Panics
    /// If the columns are no multiple of 32.
    pub(crate) fn split(&mut self) -> Rows<'_> {
        assert!(self.cols.is_multiple_of(BLOCK), "{} columns are not whole blocks of 32", self.cols);
        self.quantized = true;
        Rows {
            cols: self.cols,
            floats: &self.floats,
            quants: Columns::new(&mut self.quants, self.cols),
            blocks: Columns::new(&mut self.blocks, self.cols / BLOCK),
        }
    }

    pub(crate) fn floats(&self, row: usize) -> &[f32] {
        &self.floats[row * self.cols..][..self.cols]
    }

    pub(crate) fn quants(&self, row: usize) -> &[i8] {
        &self.quants[row * self.cols..][..self.cols]
    }

    pub(crate) fn blocks(&self, row: usize) -> &[BlockMeta] {
        let per = self.cols / BLOCK;
        &self.blocks[row * per..][..per]
    }
}

/// Rows that several threads quantize.
pub(crate) struct Rows<'a> {
    cols: usize,
    floats: &'a [f32],
    quants: Columns<'a, i8>,
    blocks: Columns<'a, BlockMeta>,
}

impl Rows<'_> {
    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    /// Quantizes row `row`; at most one thread at a time for each row.
    pub(crate) fn quantize(&self, path: Path, row: usize) {
        let x = &self.floats[row * self.cols..][..self.cols];
        // SAFETY: one thread at a time for each row, so the slices do not overlap; the two callers in `ops` see to it.
        let (quants, blocks) =
            unsafe { (self.quants.slice(row, 0, self.cols), self.blocks.slice(row, 0, self.cols / BLOCK)) };
        quantize(path, x, quants, blocks);
    }
}

lanes::dispatch! {
    /// Quantizes `x` by blocks of 32.
    fn quantize(x: &[f32], quants: &mut [i8], blocks: &mut [BlockMeta]) {
        let xs = x.as_chunks::<BLOCK>().0.iter();
        for ((x, quants), meta) in xs.zip(quants.as_chunks_mut::<BLOCK>().0).zip(blocks) {
            let mut highest = [0.0_f32; LANES];
            let mut poison = [0.0_f32; LANES];
            for half in x.as_chunks::<LANES>().0 {
                for lane in 0..LANES {
                    let size = half[lane].abs();
                    highest[lane] = if size > highest[lane] { size } else { highest[lane] };
                    poison[lane] += half[lane] * 0.0;
                }
            }
            let highest = lanes::max(highest);
            let inverse = if highest > 0.0 { 127.0 / highest } else { 0.0 };
            // An inverse of a denormal overflows; such a block is as good as zero.
            let inverse = if inverse < f32::INFINITY { inverse } else { 0.0 };
            let mut sums = [0_i32; 2];
            let halves = x.as_chunks::<LANES>().0.iter().zip(quants.as_chunks_mut::<LANES>().0);
            for ((x, quants), sum) in halves.zip(&mut sums) {
                // The sum with 1.5 * 2^23 leaves the rounded integer in the low bits. A NaN or an infinity leaves any.
                let rounded =
                    x.map(|x| i32::from(((x * inverse + 12_582_912.0).to_bits() as i32 - 0x4B40_0000) as i8));
                *quants = rounded.map(|quant| quant as i8);
                *sum = rounded.iter().sum();
            }
            let scale = highest / 127.0 + lanes::sum(poison);
            *meta = BlockMeta { scale, scaled_sum: scale * (sums[0] + sums[1]) as f32, sums };
        }
    }
}
