//! Why a tensor was not packed.

use crate::format::Format;

/// Why a tensor cannot be packed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// An empty dimension.
    #[error("tensor {tensor} has the shape [{rows}, {cols}]; both must be at least 1")]
    Empty {
        /// The tensor.
        tensor: String,
        /// Outputs.
        rows: usize,
        /// Inputs.
        cols: usize,
    },
    /// More elements than a packed matrix takes.
    #[error("tensor {tensor} has {rows} x {cols} elements; a packed matrix takes fewer than 2^31")]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Outputs.
        rows: usize,
        /// Inputs.
        cols: usize,
    },
    /// A row that is not a whole number of blocks.
    #[error("tensor {tensor} has rows of {cols} elements; {} needs a multiple of {block}", format.name())]
    NotWholeBlocks {
        /// The tensor.
        tensor: String,
        /// Its format.
        format: Format,
        /// Inputs.
        cols: usize,
        /// Elements of a block.
        block: usize,
    },
    /// Too few or too many bytes.
    #[error("tensor {tensor} of shape [{rows}, {cols}] needs {expected} bytes as {}, and has {found}", format.name())]
    Length {
        /// The tensor.
        tensor: String,
        /// Its format.
        format: Format,
        /// Outputs.
        rows: usize,
        /// Inputs.
        cols: usize,
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// No memory for the packed matrix.
    #[error(
        "no memory for the {bytes} packed bytes of tensor {tensor}; choose a smaller model, or free memory"
    )]
    Memory {
        /// The tensor.
        tensor: String,
        /// Bytes needed.
        bytes: usize,
    },
    /// A scale or a weight that is NaN or infinite.
    #[error("tensor {tensor} has a value that is not finite in row {row}; the file is damaged")]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// The first such row.
        row: usize,
    },
}
