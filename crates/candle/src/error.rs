//! Why a model cannot be loaded.

use upcycle_checkpoint::CheckpointError;
use upcycle_checkpoint::gguf::GgmlType;

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The device is not compiled in.
    #[error(
        "`device` is {device:?}, which is not compiled in: build with the cargo feature `candle-{device}`, or set it to \"cpu\""
    )]
    NoDevice {
        /// The device.
        device: &'static str,
    },
    /// The device is missing or does not answer.
    #[error(
        "`device` is {device:?}, which cannot be opened; check that its driver is installed and a device is visible, or set it \
         to \"cpu\""
    )]
    Device {
        /// The device.
        device: &'static str,
        /// What candle said.
        source: candle_core::Error,
    },
    /// A part of the model could not be copied to the device.
    #[error("the model could not be copied to its device; check that the device has enough memory")]
    OnDevice {
        /// What candle said.
        #[from]
        source: candle_core::Error,
    },
    /// The files cannot be read, are damaged, or hold an unsupported model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A matrix of a type that candle does not read.
    #[error(
        "tensor `{tensor}` is {found}, which candle does not read; expected one of [{known}]: convert the model to one of these, \
         or use the backend `llama-cpp`"
    )]
    Type {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: GgmlType,
        /// The supported types, as a list.
        known: String,
    },
}
