//! Why a model was not exported.

use std::io;
use std::path::{Path, PathBuf};

use upcycle_gguf::{GgufError, HyperparameterError};
use upcycle_kernels::PackError;
use upcycle_text::TextError;

/// Why a model was not exported; nothing is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The model cannot be read.
    #[error("cannot read the model {path}: {source}; check that the path is right and readable", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The model is not a sound GGUF file, or lacks a key or a tensor.
    #[error("the model {path} cannot be exported", path = path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: GgufError,
    },
    /// An architecture that is not known.
    #[error("`general.architecture`: expected one of [{known}], found `{found}`", known = known.join(", "))]
    UnknownArchitecture {
        /// The architecture of the file.
        found: String,
        /// Those that are known.
        known: &'static [&'static str],
    },
    /// Metadata that cannot be, or that ask for something that is not exported.
    #[error("metadata key `{key}`: expected {expected}, found {found}")]
    Metadata {
        /// The key.
        key: String,
        /// What would be right.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// A tensor of another shape than the metadata say.
    #[error("tensor `{tensor}`: expected shape {expected:?} (outermost dimension first), found {found:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// The shape that follows from the metadata.
        expected: Vec<u64>,
        /// The shape in the file.
        found: Vec<u64>,
    },
    /// A tensor of a type that is not read.
    #[error("tensor `{tensor}` is {found}; expected one of [{known}]: convert the model to one of these")]
    Type {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: String,
        /// The types that are read, as a list.
        known: String,
    },
    /// A tensor that the graph has no place for.
    #[error(
        "tensor `{tensor}` is not part of a plain {architecture} model; its effect is not exported, and without it the \
         text would be wrong"
    )]
    UnknownTensor {
        /// The tensor.
        tensor: String,
        /// The architecture.
        architecture: &'static str,
    },
    /// A tensor that cannot be read.
    #[error("a tensor cannot be read")]
    Tensor(#[from] PackError),
    /// Rows that blocks do not divide.
    #[error(
        "tensor `{tensor}` has rows of {width}, which blocks of {block} do not divide; choose a smaller --block"
    )]
    Block {
        /// The tensor.
        tensor: String,
        /// Elements of a row.
        width: usize,
        /// Elements of a block.
        block: usize,
    },
    /// Options that cannot be.
    #[error("`{option}` is {found}; expected {expected}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
    /// The tokenizer or the chat template cannot be used.
    #[error("the model's tokenizer or chat template cannot be exported")]
    Text(#[from] TextError),
    /// The folder is there already.
    #[error("{path} is there already; remove it, or choose another folder", path = path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be written.
    #[error("cannot write {path}: {source}; check that there is room and that the folder may be written", path = path.display())]
    Write {
        /// What was being written.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

impl ExportError {
    /// What is wrong with the metadata of the file `path`.
    pub(crate) fn of_metadata(path: &Path, error: HyperparameterError) -> Self {
        match error {
            HyperparameterError::Gguf(source) => Self::Gguf { path: path.to_owned(), source },
            HyperparameterError::UnknownArchitecture { found, known, .. } => {
                Self::UnknownArchitecture { found, known }
            }
            HyperparameterError::Metadata { key, expected, found } => Self::Metadata { key, expected, found },
            HyperparameterError::Shape { tensor, mut expected, mut found } => {
                expected.reverse();
                found.reverse();
                Self::Shape { tensor, expected, found }
            }
        }
    }
}
