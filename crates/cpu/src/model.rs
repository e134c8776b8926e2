//! A loaded model.

use std::sync::Arc;

use upcycle_checkpoint::{Hyperparameters, LayerWeights, ModelWeights};
use upcycle_kernels::{Kernels, KvShape, Matrix, Rope};

/// A loaded model: packed weights and the threads that multiply them. Immutable, and shared by verifiers through an `Arc`.
///
/// Loading is the expensive part. A [`CpuVerifier`](crate::CpuVerifier) costs next to nothing until it opens sequences.
#[derive(Debug)]
pub struct Model {
    pub(crate) hyperparameters: Hyperparameters,
    pub(crate) kernels: Kernels,
    pub(crate) rope: Rope,
    pub(crate) kv_type: upcycle_kernels::KvType,
    pub(crate) weights: ModelWeights<Arc<Matrix>, Arc<Matrix>, Vec<f32>>,
}

/// The weights of one layer.
pub(crate) type Layer = LayerWeights<Arc<Matrix>, Vec<f32>>;

impl Model {
    /// Tokens in the vocabulary.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.hyperparameters.vocab
    }

    /// The longest context that the model was trained for.
    #[must_use]
    pub fn max_context(&self) -> usize {
        self.hyperparameters.context
    }

    /// Threads of a pass.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.kernels.pool().threads()
    }

    /// The instruction set that the kernels use: `avx512-vnni`, for example.
    #[must_use]
    pub fn instruction_set(&self) -> &'static str {
        self.kernels.path().isa().name()
    }

    pub(crate) fn kv_shape(&self) -> KvShape {
        kv_shape(&self.hyperparameters)
    }
}

pub(crate) fn kv_shape(&Hyperparameters { layers, kv_heads, head_dim, .. }: &Hyperparameters) -> KvShape {
    KvShape { layers, kv_heads, head_dim }
}
