//! Why a model cannot be loaded.

use upcycle_checkpoint::CheckpointError;
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_kernels::{IsaError, PackError};

/// Why a model cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The files cannot be read, are damaged, or hold an unsupported model.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A matrix of a type that the kernels lack.
    #[error(
        "tensor `{tensor}` is {found}; the backend `cpu` computes with [{known}]: use the backend `candle` or `llama-cpp`, or \
         convert the model to one of these types"
    )]
    Type {
        /// The tensor.
        tensor: String,
        /// Its type.
        found: GgmlType,
        /// The supported types, as a list.
        known: String,
    },
    /// Heads of a width that the kernels lack.
    #[error(
        "the model's heads have {found} dimensions; the backend `cpu` needs a multiple of 16: use the backend `candle` or \
         `llama-cpp`"
    )]
    HeadWidth {
        /// The width.
        found: usize,
    },
    /// A tensor cannot be packed for the kernels.
    #[error("the model cannot be packed for the kernels")]
    Pack {
        /// What is wrong with the tensor.
        #[from]
        source: PackError,
    },
    /// The instruction set that `UPCYCLE_KERNELS` names is not available.
    #[error("UPCYCLE_KERNELS names an instruction set that this processor lacks")]
    Isa {
        /// Why.
        #[from]
        source: IsaError,
    },
}
