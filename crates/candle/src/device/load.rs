//! Bringing the tensors of a model onto a device.

use candle_core::{Device, Error, Tensor};
use upcycle_checkpoint::Source;
use upcycle_checkpoint::gguf::GgmlType;

use super::linear::blocks;
use super::{Layer, Resident};

use crate::load::{read_biases, read_head_norms};
use crate::model::Dimensions;
use crate::product::Stack;
use crate::rows::Rope;
use crate::tensors::Tensors;
use crate::{LoadError, Weights};

/// The most that a logit moves with the rows beside its own, where all weights are `f32`: the same sums in another order.
const FLOAT: f32 = 0.05;
/// And where products quantize activations, as candle's with blocks do for few rows: one that rounds the other way moves all
/// that follows, as in llama.cpp.
const QUANTIZED: f32 = 4.0;

/// With weights up to this, and vectors up to a hundred thousand wide in a thousand layers, no sum of a pass overflows: a
/// normalized row has at most 4e5, products of it 4e13, gate by up 2e27, what comes down 2e35.
const MODEST: f32 = 1e3;

/// Reads the model, tensor by tensor. The embedding stays on the host.
pub(crate) fn load(
    tensors: &mut Tensors<'_>,
    source: &Source,
    dimensions: &Dimensions,
    rope: Rope,
    (device, weights): (Device, Weights),
) -> Result<Resident, LoadError> {
    let &Dimensions { width, heads, kv, feed_forward, vocab, .. } = dimensions;
    let (queries, keys) = (heads * kv.width, kv.heads * kv.width);
    let failed = |source: Error| LoadError::OnDevice { source };
    let vector = |values: Vec<f32>| Tensor::new(values, &device).map_err(failed);
    let embedding = Stack::new(vec![tensors.table("token_embd.weight", width, vocab)?]);
    let mut windows: Vec<Option<usize>> = Vec::new();
    let mut layers = Vec::with_capacity(kv.layers);
    for layer in 0..kv.layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let biases = match read_biases(tensors, layer, source, dimensions)? {
            Some([query, key, value]) => Some([vector(query)?, vector(key)?, vector(value)?]),
            None => None,
        };
        let head_norms = match read_head_norms(tensors, layer, source, dimensions)? {
            Some([query, key]) => Some([vector(query)?, vector(key)?]),
            None => None,
        };
        let window = dimensions.windows[layer];
        let known = windows.iter().position(|&other| other == window);
        layers.push(Layer {
            window: known.unwrap_or(windows.len()),
            attention_norm: vector(tensors.vector(&name("attn_norm"), width)?)?,
            query: tensors.resident(&name("attn_q"), width, queries, &device)?,
            key: tensors.resident(&name("attn_k"), width, keys, &device)?,
            value: tensors.resident(&name("attn_v"), width, keys, &device)?,
            biases,
            head_norms,
            attention_output: tensors.resident(&name("attn_output"), queries, width, &device)?,
            feed_forward_norm: vector(tensors.vector(&name("ffn_norm"), width)?)?,
            gate: tensors.resident(&name("ffn_gate"), width, feed_forward, &device)?,
            up: tensors.resident(&name("ffn_up"), width, feed_forward, &device)?,
            down: tensors.resident(&name("ffn_down"), feed_forward, width, &device)?,
        });
        if known.is_none() {
            windows.push(window);
        }
    }
    let output_norm = vector(tensors.vector("output_norm.weight", width)?)?;
    let output = if source.tied { "token_embd.weight" } else { "output.weight" };
    let output = tensors.resident(output, width, vocab, &device)?;
    let quantized = |dtype: GgmlType| weights == Weights::File && blocks(dtype).is_some();
    let rounds =
        source.checkpoint.tensors().any(|(_, tensor)| tensor.shape.len() > 1 && quantized(tensor.dtype));
    let tolerance = if rounds { QUANTIZED } else { FLOAT };
    let wary = rounds && tensors.largest() > MODEST;
    Ok(Resident { device, tolerance, wary, rope, embedding, windows, layers, output_norm, output })
}
