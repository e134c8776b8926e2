//! How packed weights lie in memory.
//!
//! Sixteen output rows make a *tile*. A tile has eight *groups* of four columns for every 32 columns. A group is 64 bytes, four for each of
//! the sixteen rows: one 512-bit (or two 256-bit) dot-product instruction multiplies it with four activation bytes.
//!
//! ```text
//!           row 0         row 1               row 15
//! group 0   w0 w1 w2 w3   w0 w1 w2 w3   …     w0 w1 w2 w3      columns 0..4
//! group 1   w4 w5 w6 w7   …                                    columns 4..8
//! …                                                            …
//! group 7   w28 … w31     …                                    columns 28..32
//! ```
//!
//! Four-bit weights share bytes: group g has the low halves, group g + 4 the high halves. So the bytes are those of the GGUF block,
//! interleaved. The fifth bits of Q5 follow as a mask of 64 bits for each group; the fifth and sixth bits of Q6_K follow as 2-bit fields,
//! four groups to a byte. All quants of a tile come first, then the scales of its rows, interleaved too. A tile is a whole number of
//! cache lines and is read front to back.

use crate::format::Format;

/// Output rows of a tile.
pub const TILE: usize = 16;

/// Columns of a block of quants.
pub const BLOCK: usize = 32;

/// Sizes of the parts of a tile of one format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Bytes of quants for 32 columns, or of weights for one column if weights are floats.
    pub(crate) quants: usize,
    /// Columns of one record of scales; 0 without scales.
    pub(crate) unit: usize,
    /// Bytes of a record of scales.
    pub(crate) scales: usize,
}

impl Layout {
    pub(crate) const fn new(format: Format) -> Self {
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
    pub(crate) fn tile_bytes(self, cols: usize) -> (usize, usize) {
        let per = if self.unit > 0 { BLOCK } else { 1 };
        let quants = (cols / per * self.quants).next_multiple_of(64);
        let scales = cols.checked_div(self.unit).unwrap_or(0) * self.scales;
        (quants, (quants + scales).next_multiple_of(64))
    }
}

/// The results of one tile: 16 outputs for each activation row.
pub(crate) type TileOut = [[f32; TILE]];
