//! A loaded model.

use candle_core::quantized::QTensor;
use candle_core::{Device, Error, Tensor};
use upcycle_checkpoint::{Hyperparameters, LayerWeights, ModelWeights};
use upcycle_core::TokenId;

use crate::cache::DeviceKvShape;
use crate::linear::{self, Linear};

/// A loaded model: weights on a device, immutable, and shared by verifiers through an `Arc`.
///
/// Loading is the expensive part. A [`CandleVerifier`](crate::CandleVerifier) costs next to nothing until it opens sequences.
#[derive(Debug)]
pub struct Model {
    pub(crate) hyperparameters: Hyperparameters,
    pub(crate) device: Device,
    /// The most that a logit changes with the rows beside it.
    pub(crate) tolerance: f32,
    /// Whether a pass checks rows before matrix products that could turn a NaN into a number: activations are rounded there, and
    /// weights are so large that sums may overflow.
    pub(crate) nan_checks: bool,
    pub(crate) weights: ModelWeights<Embedding, Linear, Tensor>,
}

/// The weights of one layer.
pub(crate) type Layer = LayerWeights<Linear, Tensor>;

/// The token embedding as the file stores it, in the host's memory: a pass needs one row for each of its tokens.
#[derive(Debug)]
pub(crate) struct Embedding(pub(crate) QTensor);

impl Embedding {
    /// The rows of `tokens`, `[tokens, width]`, in the host's memory.
    pub(crate) fn rows(&self, tokens: &[TokenId]) -> Result<Tensor, Error> {
        let (vocab, width) = self.0.shape().dims2()?;
        let blocks = self.0.data()?;
        let row_bytes = blocks.len() / vocab;
        let row = |&token| {
            let blocks = &blocks[token as usize * row_bytes..][..row_bytes];
            linear::qtensor_from_blocks(self.0.dtype(), blocks, (1, width), &Device::Cpu)?
                .dequantize(&Device::Cpu)
        };
        Tensor::cat(&tokens.iter().map(row).collect::<Result<Vec<_>, _>>()?, 0)
    }
}

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

    pub(crate) fn kv_shape(&self) -> DeviceKvShape {
        let &Hyperparameters { layers, kv_heads, head_dim, .. } = &self.hyperparameters;
        DeviceKvShape { layers, kv_heads, head_dim }
    }

    /// The device's name for reports. Costs of passes are saved under it.
    pub(crate) fn device_name(&self) -> String {
        match &self.device {
            Device::Cpu => "the CPU".to_owned(),
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => {
                let name = device.cuda_stream().context().name();
                name.map_or_else(|_| "CUDA".to_owned(), |name| format!("CUDA, {name}"))
            }
            #[cfg(not(feature = "cuda"))]
            Device::Cuda(_) => "CUDA".to_owned(),
            Device::Metal(_) => "Metal".to_owned(),
        }
    }
}
