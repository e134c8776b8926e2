//! Why a model was not exported.

use std::io;
use std::path::PathBuf;

use upcycle_checkpoint::CheckpointError;
use upcycle_kernels::PackError;
use upcycle_text::TextError;

/// Why a model was not exported; nothing is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The model's files cannot be read, are not sound, or are of a model that is not known.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A context that the graph cannot hold the angles of.
    #[error(
        "the model's context is {found} tokens; expected at most {expected}, since the graph holds angles for each"
    )]
    Context {
        /// The longest that is exported.
        expected: usize,
        /// The model's.
        found: usize,
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
    /// A tensor that cannot be read.
    #[error("a tensor cannot be read")]
    Tensor(#[from] PackError),
    /// A weight that half precision has no number for.
    #[error(
        "tensor `{tensor}` holds {found}, and half precision ends at 65504; export it with --weights f32"
    )]
    Half {
        /// The tensor.
        tensor: String,
        /// The weight.
        found: f32,
    },
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
    /// A tokenizer with more tokens than the model has.
    #[error("the tokenizer has {tokenizer} tokens and the model {model}: it belongs to another model")]
    Vocabulary {
        /// Tokens of the tokenizer.
        tokenizer: usize,
        /// Tokens of the model.
        model: usize,
    },
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
