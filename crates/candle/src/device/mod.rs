//! The forward pass over candle's tensors, on whatever device they lie: CUDA, Metal, or the processor.

mod cache;
mod forward;
mod host;
mod linear;
mod load;

use candle_core::{Device, Tensor};

use crate::product::Stack;
use crate::rows::Rope;

pub(crate) use cache::Cache;
pub(crate) use forward::{Failure, forward};
pub(crate) use linear::{Linear, blocks, largest, largest_of_blocks};
pub(crate) use load::load;

/// The weights of a model on a device.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) device: Device,
    /// The most that a logit may move with the rows beside its own.
    pub(crate) tolerance: f32,
    /// Whether rows are looked at before products that could hide a NaN: they quantize activations, and weights are large enough
    /// that sums may overflow.
    wary: bool,
    rope: Rope,
    /// On the host: a pass needs a row for each of its tokens, and no other.
    embedding: Stack,
    /// The windows of the layers, each once.
    windows: Vec<Option<usize>>,
    layers: Vec<Layer>,
    output_norm: Tensor,
    output: Linear,
}

#[derive(Debug)]
struct Layer {
    /// Which of the windows it has.
    window: usize,
    attention_norm: Tensor,
    query: Linear,
    key: Linear,
    value: Linear,
    /// Biases of queries, keys and values, where the model has them.
    biases: Option<[Tensor; 3]>,
    /// Weights of the normalization of each head's queries and of its keys, where the model has it.
    head_norms: Option<[Tensor; 2]>,
    attention_output: Linear,
    feed_forward_norm: Tensor,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Resident {
    /// What the device is called: passes cost something else on another.
    pub(crate) fn place(&self) -> String {
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
