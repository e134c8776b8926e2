//! Why a model cannot be loaded.

use std::path::{Path, PathBuf};

use upcycle_gguf::{GgmlType, GgufError, HyperparameterError};
use upcycle_kernels::{IsaError, PackError};

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file was written to while it was read.
    #[error("{} was changed while it was loaded; load it again once it is whole", path.display())]
    Changed {
        /// The file, or the folder that it is in.
        path: PathBuf,
    },
    /// A device that this program was built without.
    #[error(
        "`device` is {device:?}, which is not compiled in: build with the cargo feature `candle-{device}`, or take \"cpu\""
    )]
    NoDevice {
        /// The device.
        device: &'static str,
    },
    /// A device that is not there or does not answer.
    #[error(
        "`device` is {device:?}, which cannot be had; see that its driver is installed and a device is visible, or take \"cpu\""
    )]
    Device {
        /// The device.
        device: &'static str,
        /// What it said.
        source: candle_core::Error,
    },
    /// The device did not take a part of the model.
    #[error("the model could not be brought onto its device; has it memory enough?")]
    OnDevice {
        /// What it said.
        source: candle_core::Error,
    },
    /// The file cannot be opened or mapped.
    #[error("cannot read the model {path}: {source}; check that the path is right and readable", path = path.display())]
    File {
        /// The path that was tried.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The file is not a sound GGUF file, or lacks a tensor or a metadata key.
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
    /// An architecture that is not known.
    #[error("`{key}`: expected one of [{known}], found `{found}`", known = known.join(", "))]
    UnknownArchitecture {
        /// The key that names it: `general.architecture`, or `model_type` of a `config.json`.
        key: &'static str,
        /// The architecture of the file.
        found: String,
        /// Those that are known.
        known: &'static [&'static str],
    },
    /// A metadata value that cannot be, or that asks for something that is not supported.
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
    #[error("tensor `{tensor}`: expected shape {expected:?} (innermost dimension first), found {found:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// The shape that follows from the metadata.
        expected: Vec<u64>,
        /// The shape in the file.
        found: Vec<u64>,
    },
    /// A tensor of a type that candle cannot compute with.
    #[error(
        "tensor `{tensor}` is {found}, which candle cannot multiply; expected one of [{known}]: \
         convert the model to one of these"
    )]
    Type {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: GgmlType,
        /// The types that are known, as a list.
        known: String,
    },
    /// A row of a tensor with an odd number of blocks, of a type whose blocks candle multiplies in pairs.
    #[error(
        "tensor `{tensor}`: {dtype} rows must hold a multiple of {multiple} elements for candle, found {found}; \
         load it with weights = \"f32\", or convert the model to another type"
    )]
    OddBlocks {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: GgmlType,
        /// Elements of two blocks.
        multiple: u64,
        /// Elements of a row.
        found: u64,
    },
    /// A tensor whose bytes do not stand where its type can be read.
    #[error(
        "tensor `{tensor}` starts at byte {offset}, where {dtype} cannot be read in place; \
         expected a file with `general.alignment` of 4 or more: convert it again"
    )]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: GgmlType,
        /// Where it starts in the file.
        offset: u64,
    },
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
    /// A vector of weights with a NaN or an infinity.
    #[error("tensor `{tensor}` holds a number that is not finite; the file is damaged: fetch it again")]
    NotFinite {
        /// The tensor.
        tensor: String,
    },
    /// Memory for the weights cannot be had.
    #[error("{bytes} bytes for tensor `{tensor}` cannot be had; weights = \"file\" takes less memory")]
    Memory {
        /// The tensor.
        tensor: String,
        /// Its size as `f32`.
        bytes: u64,
    },
    /// The workspace's own kernels were asked for, and cannot run this model.
    #[error(
        "kernels = \"own\" cannot run this model: {reason}; leave `kernels` out, or set it to \"candle\""
    )]
    Kernels {
        /// What stands in the way.
        reason: String,
    },
    /// A tensor that cannot be packed for the kernels.
    #[error("the model cannot be packed for the kernels")]
    Pack {
        /// What is wrong with the tensor.
        source: PackError,
    },
    /// The kernel path that `UPCYCLE_KERNELS` asks for cannot be had.
    #[error("UPCYCLE_KERNELS cannot be followed")]
    KernelPath {
        /// Why.
        source: IsaError,
    },
    /// The threads cannot be started.
    #[error("cannot start the threads of the model: {source}; ask for fewer")]
    Threads {
        /// What rayon said.
        source: rayon::ThreadPoolBuildError,
    },
}

impl LoadError {
    /// What is wrong with the metadata of the file `path`.
    pub(crate) fn of_metadata(path: &Path, error: HyperparameterError) -> Self {
        match error {
            HyperparameterError::Gguf(source) => Self::Gguf { path: path.to_owned(), source },
            HyperparameterError::UnknownArchitecture { key, found, known } => {
                Self::UnknownArchitecture { key, found, known }
            }
            HyperparameterError::Metadata { key, expected, found } => Self::Metadata { key, expected, found },
            HyperparameterError::Shape { tensor, expected, found } => Self::Shape { tensor, expected, found },
        }
    }
}
