//! Why a model cannot be loaded.

use upcycle_checkpoint::CheckpointError;
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_kernels::{IsaError, PackError};

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
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
    /// The files cannot be read, are not sound, or are of a model that is not known.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
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
