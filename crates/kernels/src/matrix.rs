//! Packed weight matrices.

use crate::buffer::Buffer;
use crate::error::PackError;
use crate::format::Format;
use crate::layout::{Layout, TILE};
use crate::pack;

/// A weight matrix, `[rows, cols]` (outputs, inputs), packed for the kernels.
#[derive(Debug)]
pub struct Matrix {
    format: Format,
    rows: usize,
    cols: usize,
    layout: Layout,
    /// Bytes of a tile.
    stride: usize,
    data: Buffer,
}

impl Matrix {
    /// Packs the GGUF blocks `bytes` of the tensor `name`, `[rows, cols]` with `cols` innermost, on `threads` threads (0 counts as 1).
    ///
    /// # Errors
    /// [`PackError`] names the tensor: there is no memory, the shape is empty or too large, rows are not whole blocks, the number of bytes
    /// does not match the shape, or a scale (or float weight) is not finite.
    pub fn pack(
        name: &str,
        format: Format,
        (rows, cols): (usize, usize),
        bytes: &[u8],
        threads: usize,
    ) -> Result<Self, PackError> {
        let row_bytes = check(name, format, (rows, cols), bytes)?;
        Self::build(name, format, (rows, cols), threads, |row, lane, tile| {
            pack::row(format, &bytes[row * row_bytes..][..row_bytes], lane, tile)
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
        let stride = Layout::new(format).tile_bytes(cols);
        Self::build(name, Format::F32, (rows, cols), threads, |row, lane, out| {
            // The first row of a tile in the file's format, and from there to `f32`.
            let mut tile = vec![0; stride];
            let finite = pack::row(format, &bytes[row * row_bytes..][..row_bytes], 0, &mut tile);
            let mut values = vec![0.0; cols];
            pack::unpack(format, &tile, 0, &mut values);
            for (value, out) in values.iter().zip(out.chunks_exact_mut(4 * TILE)) {
                out[4 * lane..][..4].copy_from_slice(&value.to_le_bytes());
            }
            finite
        })
    }

    /// A matrix whose rows `pack_row` writes, given the row, its lane in its tile, and the tile. It returns false for a row that is not
    /// finite.
    fn build(
        name: &str,
        format: Format,
        (rows, cols): (usize, usize),
        threads: usize,
        pack_row: impl Fn(usize, usize, &mut [u8]) -> bool + Sync,
    ) -> Result<Self, PackError> {
        let layout = Layout::new(format);
        let stride = layout.tile_bytes(cols);
        let tiles = rows.div_ceil(TILE);
        let memory = |_| PackError::Memory { tensor: name.to_owned(), bytes: tiles * stride };
        let mut data = Buffer::zeroed(tiles * stride).map_err(memory)?;

        let each = tiles.div_ceil(threads.max(1));
        let pack_row = &pack_row;
        let pack = |first: usize, part: &mut [u8]| {
            for (index, tile) in part.chunks_mut(stride).enumerate() {
                let top = (first + index) * TILE;
                for lane in 0..TILE.min(rows - top) {
                    if !pack_row(top + lane, lane, tile) {
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
        Ok(Self { format, rows, cols, layout, stride, data })
    }

    /// The format.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Outputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.bytes().len()
    }

    /// Tiles of 16 outputs. The last may have unused outputs, whose weights are 0.
    #[must_use]
    pub fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE)
    }

    /// A tile, as [`Layout`] says.
    pub(crate) fn tile(&self, tile: usize) -> &[u8] {
        &self.data.bytes()[tile * self.stride..][..self.stride]
    }

    /// Dequantizes row `row` into `out`, `[cols]`: the embedding of a token.
    ///
    /// # Panics
    /// If `row` is not below `rows`, or `out` is not `cols` long.
    pub fn gather(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(out.len(), self.cols, "a row has {} columns", self.cols);
        pack::unpack(self.format, self.tile(row / TILE), row % TILE, out);
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
