use std::path::PathBuf;

use crate::gguf::{GgmlType, GgufError};
use crate::hyperparameters::HyperparameterError;

/// Why a model's files cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file was written to while it was read.
    #[error("{} changed while it was loaded; load it again once it is complete", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be opened or read.
    #[error("cannot read the model {path}: {source}; check that the path is right and readable", path = path.display())]
    File {
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// A GGUF file is invalid or lacks a metadata key.
    #[error("cannot use the model {path}", path = path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// The problem.
        source: GgufError,
    },
    /// A JSON file beside safetensors is invalid.
    #[error("cannot use {path}", path = path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The problem.
        source: serde_json::Error,
    },
    /// A safetensors file is invalid.
    #[error("{path} is not a valid safetensors file; fetch it again, itself and not a pointer of Git LFS", path = path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// The problem.
        source: safetensors::SafeTensorError,
    },
    /// The index of safetensors does not match its files.
    #[error("{path}: `{entry}`: {problem}", path = path.display())]
    Index {
        /// The index, or the file.
        path: PathBuf,
        /// The file or tensor at fault.
        entry: String,
        /// The problem, and what was expected.
        problem: &'static str,
    },
    /// The type of a tensor in safetensors is not supported.
    #[error("tensor `{tensor}` is {found:?}; expected F32, F16 or BF16: convert the model to one of these")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: safetensors::Dtype,
    },
    /// A tensor of the model is missing.
    #[error(
        "cannot use the model {path}: tensor `{tensor}` is missing among its {count} tensors; \
         fetch or convert the model again",
        path = path.display()
    )]
    MissingTensor {
        /// The file or folder.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The number of tensors.
        count: usize,
    },
    /// Hyperparameters are invalid or unsupported, or a tensor does not have the shape that they imply.
    #[error(transparent)]
    Hyperparameters(HyperparameterError),
    /// The architecture has no such tensor. Ignoring it would give wrong text.
    #[error(
        "tensor `{tensor}` is not part of a plain {architecture} model; its effect is not implemented, and without it \
         the text would be wrong: use another model, or the backend `llama-cpp`"
    )]
    UnknownTensor {
        /// The tensor.
        tensor: String,
        /// The architecture.
        architecture: &'static str,
    },
    /// A vector has a quantized type.
    #[error("vector `{tensor}` is {found}; expected F32, F16 or BF16: convert the model again")]
    VectorType {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: GgmlType,
    },
    /// There is not enough memory to read a tensor.
    #[error("no memory for the {bytes} bytes of tensor `{tensor}`; free memory, or choose a smaller model")]
    Memory {
        /// The tensor.
        tensor: String,
        /// Its size in the file.
        bytes: u64,
    },
    /// A tensor contains NaN or infinity.
    #[error("tensor `{tensor}` contains a number that is not finite; the file is corrupted: fetch it again")]
    NotFinite {
        /// The tensor.
        tensor: String,
    },
}
