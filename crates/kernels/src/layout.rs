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
//! four groups to a byte. The low two bits of Q2_K and Q3_K are such fields too, and masks with the third bits of Q3_K follow.
//!
//! The scales of a block of 32 columns stand right behind its quants, interleaved by rows too. Formats with further scales for 256 columns
//! have them as a head before every eight blocks:
//!
//! ```text
//! Q4_0   quants scales | quants scales | …
//! Q4_K   head | quants scales | … (8 blocks) | head | …
//! ```
//!
//! A tile is a whole number of cache lines and is read front to back as one stream.

use crate::format::Format;

/// Output rows of a tile.
pub const TILE: usize = 16;

/// Columns of a block of quants.
pub const BLOCK: usize = 32;

/// Blocks behind a head.
pub(crate) const HEAD_BLOCKS: usize = 8;

/// Sizes of the parts of a tile of one format, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Quants of 32 columns, or weights of one column if weights are floats.
    pub(crate) quants: usize,
    /// Scales right behind the quants of 32 columns; 0 if weights are floats.
    pub(crate) scales: usize,
    /// Scales of 256 columns, before every eight blocks; 0 without.
    pub(crate) head: usize,
}

impl Layout {
    pub(crate) const fn new(format: Format) -> Self {
        let (quants, scales, head) = match format {
            Format::Q4_0 => (256, 32, 0),
            Format::Q4_1 => (256, 64, 0),
            Format::Q5_0 => (256 + 64, 32, 0),
            Format::Q5_1 => (256 + 64, 64, 0),
            Format::Q8_0 => (512, 32, 0),
            // The head is d and dmin of each row. A block has a scale and a minimum byte of each row.
            Format::Q4K => (256, 32, 64),
            // The head is d of each row. A block has two scale bytes of each row.
            Format::Q6K => (256 + 128, 32, 32),
            // Two bits of each quant. The head is d and dmin of each row. A block has two bytes of each row, with a scale and a minimum.
            Format::Q2K => (128, 32, 64),
            // Two bits of each quant, then the third. Scales as of Q6_K.
            Format::Q3K => (128 + 64, 32, 32),
            Format::Q5K => (256 + 64, 32, 64),
            Format::Iq4Nl => (256, 32, 0),
            // The head is d of each row. A block has a signed scale byte of each row.
            Format::Iq4Xs => (256, 16, 32),
            // A power of two of each row, as bfloat16.
            Format::Mxfp4 => (256, 32, 0),
            Format::F16 | Format::BF16 => (32, 0, 0),
            Format::F32 => (64, 0, 0),
        };
        Self { quants, scales, head }
    }

    /// The quants and scales of 32 columns.
    pub(crate) const fn block(self) -> usize {
        self.quants + self.scales
    }

    /// What a block of the GGUF file becomes: a block, or a head and eight blocks.
    pub(crate) const fn record(self) -> usize {
        if self.head > 0 { self.head + HEAD_BLOCKS * self.block() } else { self.block() }
    }

    /// A tile of `cols` columns, in whole cache lines.
    pub(crate) fn tile_bytes(self, cols: usize) -> usize {
        let per = match self {
            Self { head: 1.., .. } => HEAD_BLOCKS * BLOCK,
            Self { scales: 1.., .. } => BLOCK,
            _ => 1,
        };
        (cols / per * self.record()).next_multiple_of(64)
    }

    /// Block `index` of `tile`.
    pub(crate) fn block_of(self, tile: &[u8], index: usize) -> Block<'_> {
        let (head, at) = if self.head > 0 {
            let head = index / HEAD_BLOCKS * self.record();
            (&tile[head..][..self.head], head + self.head + index % HEAD_BLOCKS * self.block())
        } else {
            (&tile[..0], index * self.block())
        };
        let (quants, scales) = tile[at..][..self.block()].split_at(self.quants);
        Block { head, quants, scales }
    }
}

/// 32 columns of a tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    /// The scales of its 256 columns; empty without.
    pub(crate) head: &'a [u8],
    pub(crate) quants: &'a [u8],
    pub(crate) scales: &'a [u8],
}

/// The results of one tile: 16 outputs for each activation row.
pub(crate) type TileOut = [[f32; TILE]];
