//! Packed weight matrices.
//!
//! Sixteen output rows make a *tile*. Of every 32 columns a tile holds eight *groups* of four columns; a group is 64
//! bytes, four for each of the sixteen rows, which is what one 512-bit (or two 256-bit) dot-product instruction eats
//! against four activation bytes:
//!
//! ```text
//!           row 0         row 1               row 15
//! group 0   w0 w1 w2 w3   w0 w1 w2 w3   …     w0 w1 w2 w3      columns 0..4
//! group 1   w4 w5 w6 w7   …                                    columns 4..8
//! …                                                            …
//! group 7   w28 … w31     …                                    columns 28..32
//! ```
//!
//! Four-bit weights share a byte: group g in the low halves, group g + 4 in the high ones, so that the bytes are those
//! of the GGUF block, only interleaved. The fifth bits of Q5 follow as one bit mask of 64 for each group, the fifth and
//! sixth of Q6_K as 2-bit fields of four groups a byte. All quants of a tile stand together, and behind them the scales
//! of its rows, side by side as well. A tile is a whole number of cache lines, and is read front to back.

use crate::buffer::Buffer;
use crate::{Format, PackError};

/// Output rows of a tile.
pub const TILE: usize = 16;

/// Columns of a block of quants.
pub const BLOCK: usize = 32;

/// Where things stand in a tile of one format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes of quants for 32 columns (for one column, where weights are floats).
    pub(crate) quants: usize,
    /// Columns that one record of scales serves; 0 where there are none.
    pub(crate) unit: usize,
    /// Bytes of such a record.
    pub(crate) scales: usize,
}

impl Layout {
    pub(crate) const fn of(format: Format) -> Self {
        let (quants, unit, scales) = match format {
            Format::Q4_0 => (256, 32, 32),
            Format::Q4_1 => (256, 32, 64),
            Format::Q5_0 => (256 + 64, 32, 32),
            Format::Q5_1 => (256 + 64, 32, 64),
            Format::Q8_0 => (512, 32, 32),
            // d and dmin of each row, then for each 32 columns a scale and a minimum byte of each row.
            Format::Q4K => (256, 256, 64 + 8 * 32),
            // d of each row, then for each 32 columns two scale bytes of each row.
            Format::Q6K => (256 + 128, 256, 32 + 8 * 32),
            Format::F16 | Format::BF16 => (32, 0, 0),
            Format::F32 => (64, 0, 0),
        };
        Self { quants, unit, scales }
    }

    /// Bytes of a tile of `cols` columns: of its quants alone, and with its scales, each a whole number of cache lines.
    fn tile_bytes(self, cols: usize) -> (usize, usize) {
        let per = if self.unit > 0 { BLOCK } else { 1 };
        let quants = (cols / per * self.quants).next_multiple_of(64);
        let scales = cols.checked_div(self.unit).unwrap_or(0) * self.scales;
        (quants, (quants + scales).next_multiple_of(64))
    }
}

/// A weight matrix `[rows, cols]` (output x input), packed once for the kernels.
#[derive(Debug)]
pub struct Matrix {
    format: Format,
    rows: usize,
    cols: usize,
    layout: Layout,
    /// Bytes of all quants of a tile: the scales follow.
    quants: usize,
    stride: usize,
    data: Buffer,
}

impl Matrix {
    /// Packs the GGUF blocks `bytes` of the tensor called `name`, of shape `[rows, cols]` with `cols` innermost, on
    /// `threads` threads (0 counts as 1).
    ///
    /// # Errors
    /// [`PackError`], which names the tensor: no memory, an empty or huge shape, rows that are not whole blocks, another number of
    /// bytes than the shape asks for, a scale (or float weight) that is not finite.
    pub fn pack(
        name: &str,
        format: Format,
        (rows, cols): (usize, usize),
        bytes: &[u8],
        threads: usize,
    ) -> Result<Self, PackError> {
        let row_bytes = check(name, format, (rows, cols), bytes)?;
        Self::build(name, format, (rows, cols), threads, |row, lane, quants, scales| {
            crate::pack::row(format, &bytes[row * row_bytes..][..row_bytes], lane, quants, scales)
        })
    }

    /// As [`pack`](Self::pack), but dequantizes the blocks, so that the matrix has [`Format::F32`].
    ///
    /// # Errors
    /// As [`pack`](Self::pack).
    pub fn pack_f32(
        name: &str,
        format: Format,
        (rows, cols): (usize, usize),
        bytes: &[u8],
        threads: usize,
    ) -> Result<Self, PackError> {
        let row_bytes = check(name, format, (rows, cols), bytes)?;
        let (quant_bytes, stride) = Layout::of(format).tile_bytes(cols);
        Self::build(name, Format::F32, (rows, cols), threads, |row, lane, out, _| {
            // The first row of a tile in the file's format, and from there to `f32`.
            let mut tile = vec![0; stride];
            let (quants, scales) = tile.split_at_mut(quant_bytes);
            let finite = crate::pack::row(format, &bytes[row * row_bytes..][..row_bytes], 0, quants, scales);
            let mut values = vec![0.0; cols];
            crate::pack::unpack(format, quants, scales, 0, &mut values);
            for (value, out) in values.iter().zip(out.chunks_exact_mut(4 * TILE)) {
                out[4 * lane..][..4].copy_from_slice(&value.to_le_bytes());
            }
            finite
        })
    }

    /// A matrix whose rows `pack_row` writes, given the row, its lane in its tile, and the tile's quants and scales. It returns
    /// false for a row that is not finite.
    fn build(
        name: &str,
        format: Format,
        (rows, cols): (usize, usize),
        threads: usize,
        pack_row: impl Fn(usize, usize, &mut [u8], &mut [u8]) -> bool + Sync,
    ) -> Result<Self, PackError> {
        let layout = Layout::of(format);
        let (quants, stride) = layout.tile_bytes(cols);
        let tiles = rows.div_ceil(TILE);
        let memory = |_| PackError::Memory { tensor: name.to_owned(), bytes: tiles * stride };
        let mut data = Buffer::zeroed(tiles * stride).map_err(memory)?;

        let each = tiles.div_ceil(threads.max(1));
        let pack_row = &pack_row;
        let pack = |first: usize, part: &mut [u8]| {
            for (index, tile) in part.chunks_mut(stride).enumerate() {
                let top = (first + index) * TILE;
                let (quants, scales) = tile.split_at_mut(quants);
                for lane in 0..TILE.min(rows - top) {
                    if !pack_row(top + lane, lane, quants, scales) {
                        return Err(PackError::NotFinite { tensor: name.to_owned(), row: top + lane });
                    }
                }
            }
            Ok(())
        };
        let parts = data.bytes_mut()[..tiles * stride].chunks_mut(each * stride).enumerate();
        std::thread::scope(|scope| {
            let workers: Vec<_> = parts.map(|(i, part)| scope.spawn(move || pack(i * each, part))).collect();
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
        })?;
        Ok(Self { format, rows, cols, layout, quants, stride, data })
    }

    /// The format.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Output width.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input width.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.bytes().len()
    }

    /// Tiles of 16 output rows; the last may have idle rows, whose weights are 0.
    #[must_use]
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE)
    }

    /// The quants and the scales of a tile.
    pub(crate) fn tile(&self, tile: usize) -> (&[u8], &[u8]) {
        self.data.bytes()[tile * self.stride..][..self.stride].split_at(self.quants)
    }

    /// Dequantizes row `row` into `out`, `[cols]`: what an embedding gathers.
    ///
    /// # Panics
    /// If `row` is not below `rows`, or `out` is not `cols` long.
    pub fn gather(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "a row has {} columns", self.cols);
        let (quants, scales) = self.tile(row / TILE);
        crate::pack::unpack(self.format, quants, scales, row % TILE, out);
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }
}

/// Checks shape and size of a tensor's blocks; the bytes of a row.
fn check(name: &str, format: Format, (rows, cols): (usize, usize), bytes: &[u8]) -> Result<usize, PackError> {
    let tensor = || name.to_owned();
    if rows == 0 || cols == 0 {
        return Err(PackError::Empty { tensor: tensor(), rows, cols });
    }
    if rows.checked_mul(cols).is_none_or(|elements| elements >= 1 << 31) {
        return Err(PackError::TooLarge { tensor: tensor(), rows, cols });
    }
    let block = format.block();
    if !cols.is_multiple_of(block) {
        return Err(PackError::NotWholeBlocks { tensor: tensor(), format, cols, block });
    }
    let row_bytes = cols / block * format.block_bytes();
    if bytes.len() != rows * row_bytes {
        let (expected, found) = (rows * row_bytes, bytes.len());
        return Err(PackError::Length { tensor: tensor(), format, rows, cols, expected, found });
    }
    Ok(row_bytes)
}
