//! Why a model's files cannot be used.

use std::path::{Path, PathBuf};

use crate::gguf::{GgmlType, GgufError, HyperparameterError};

/// Why a model's files cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The file was written to while it was read.
    #[error("{} was changed while it was loaded; load it again once it is whole", path.display())]
    Changed {
        /// The file, or the folder that it is in.
        path: PathBuf,
    },
    /// The file cannot be opened, read or mapped.
    #[error("cannot read the model {path}: {source}; check that the path is right and readable", path = path.display())]
    File {
        /// The path that was tried.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not a sound GGUF file, or lacks a metadata key.
    #[error("the model {path} cannot be used", path = path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: GgufError,
    },
    /// A file of JSON beside safetensors cannot be read as what it should be.
    #[error("{path} cannot be used", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A file of safetensors is not sound.
    #[error("{path} is no sound file of safetensors; fetch it again", path = path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: safetensors::SafeTensorError,
    },
    /// The index of safetensors and its files contradict each other.
    #[error("{path}: `{entry}`: {problem}", path = path.display())]
    Index {
        /// The index, or the file.
        path: PathBuf,
        /// The file or tensor that it names.
        entry: String,
        /// What is wrong, and what would be right.
        problem: &'static str,
    },
    /// A tensor of safetensors of a type that is not known.
    #[error("tensor `{tensor}` is {found:?}; expected F32, F16 or BF16: convert the model to one of these")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: safetensors::Dtype,
    },
    /// A tensor that the model needs is not there.
    #[error(
        "the model {path} cannot be used: tensor `{tensor}` is missing among its {count} tensors; \
         fetch or convert the model again",
        path = path.display()
    )]
    MissingTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// How many tensors there are.
        count: usize,
    },
    /// An architecture that is not known, a value of the metadata that cannot be or is not supported, or a tensor of another
    /// shape than they say.
    #[error(transparent)]
    Model(HyperparameterError),
    /// A tensor that this architecture does not have: leaving it out would give wrong text.
    #[error(
        "tensor `{tensor}` is not part of a plain {architecture} model; its effect is not implemented, and without it \
         the text would be wrong"
    )]
    UnknownTensor {
        /// The tensor.
        tensor: String,
        /// The architecture.
        architecture: &'static str,
    },
    /// A vector of a quantized type.
    #[error("vector `{tensor}` is {found}; expected F32, F16 or BF16: convert the model again")]
    VectorType {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: GgmlType,
    },
    /// No memory to read a tensor into.
    #[error("no memory for the {bytes} bytes of tensor `{tensor}`; free memory, or choose a smaller model")]
    Memory {
        /// The tensor.
        tensor: String,
        /// Its size in the file.
        bytes: u64,
    },
    /// A tensor with a NaN or an infinity.
    #[error("tensor `{tensor}` holds a number that is not finite; the file is damaged: fetch it again")]
    NotFinite {
        /// The tensor.
        tensor: String,
    },
}

impl CheckpointError {
    /// What is wrong with the metadata of the file `path`.
    pub(crate) fn of_metadata(path: &Path, error: HyperparameterError) -> Self {
        match error {
            HyperparameterError::Gguf(source) => Self::Gguf { path: path.to_owned(), source },
            other => Self::Model(other),
        }
    }
}
