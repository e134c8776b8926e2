use std::io;
use std::path::PathBuf;

use upcycle_checkpoint::CheckpointError;
use upcycle_kernels::PackError;
use upcycle_text::TextError;

/// Why a model was not exported. No files are left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The model's files cannot be read, are invalid, or hold an unsupported model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The context is too long for the tables of rotary embeddings.
    #[error(
        "the model's context is {found} tokens; expected at most {expected}, since the graph has a table row for each"
    )]
    Context {
        /// The longest context that can be exported.
        expected: usize,
        /// The model's context.
        found: usize,
    },
    /// The type of a tensor is not supported.
    #[error("tensor `{tensor}` is {found}; expected one of [{known}]: convert the model to one of these")]
    Type {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: String,
        /// The supported types.
        known: String,
    },
    /// A tensor cannot be read.
    #[error("cannot read a tensor of the model")]
    Tensor(#[from] PackError),
    /// A weight is too large for half precision.
    #[error(
        "tensor `{tensor}` contains {found}; expected at most 65504, the largest number in half precision: \
         export with --weights f32"
    )]
    Half {
        /// The tensor.
        tensor: String,
        /// The weight.
        found: f32,
    },
    /// The rows of a matrix are not a multiple of the block.
    #[error(
        "tensor `{tensor}` has rows of {width}; expected a multiple of the block, {block}: choose a smaller --block"
    )]
    Block {
        /// The tensor.
        tensor: String,
        /// Elements of a row.
        width: usize,
        /// Elements of a block.
        block: usize,
    },
    /// An option has an invalid value.
    #[error("`{option}` is {found}; expected {expected}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        found: String,
        /// The valid values.
        expected: &'static str,
    },
    /// The tokenizer or chat template cannot be exported.
    #[error("cannot export the model's tokenizer or chat template")]
    Text(#[from] TextError),
    /// The tokenizer has more tokens than the model.
    #[error(
        "the tokenizer has {tokenizer} tokens; expected at most the model's {model}: it belongs to another model"
    )]
    Vocabulary {
        /// Tokens of the tokenizer.
        tokenizer: usize,
        /// Tokens of the model.
        model: usize,
    },
    /// The folder exists.
    #[error("{path} already exists; remove it, or choose another folder", path = path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be written.
    #[error("cannot write {path}: {source}; check free space and permissions", path = path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}
