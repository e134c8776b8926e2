//! Why a tensor was not packed, or a kernel path not chosen.

use crate::{Format, Isa};

/// Why a tensor cannot be packed; nothing of it is kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// An empty dimension.
    #[error("tensor {tensor} has the shape [{rows}, {cols}]; both must be at least 1")]
    Empty {
        /// The tensor.
        tensor: String,
        /// Output width.
        rows: usize,
        /// Input width.
        cols: usize,
    },
    /// More elements than a packed matrix takes.
    #[error("tensor {tensor} has {rows} x {cols} elements; a packed matrix takes fewer than 2^31")]
    TooLarge {
        /// The tensor.
        tensor: String,
        /// Output width.
        rows: usize,
        /// Input width.
        cols: usize,
    },
    /// A row that is not a whole number of blocks.
    #[error("tensor {tensor} has rows of {cols}, which {} blocks of {block} do not divide", format.name())]
    NotWholeBlocks {
        /// The tensor.
        tensor: String,
        /// Its format.
        format: Format,
        /// Input width.
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
        /// Output width.
        rows: usize,
        /// Input width.
        cols: usize,
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// No memory for what is packed.
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

/// Why the kernel path asked for cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsaError {
    /// No path of that name.
    #[error("no kernels are called {name:?}; this machine has: {}", names(available))]
    Unknown {
        /// The name.
        name: String,
        /// What can be used here.
        available: Vec<Isa>,
    },
    /// A path that this processor lacks the instructions for.
    #[error("the kernels {} need instructions that this processor lacks; it has: {}", isa.name(), names(available))]
    Unavailable {
        /// The path.
        isa: Isa,
        /// What can be used here.
        available: Vec<Isa>,
    },
}

fn names(isas: &[Isa]) -> String {
    isas.iter().map(|isa| isa.name()).collect::<Vec<_>>().join(", ")
}
