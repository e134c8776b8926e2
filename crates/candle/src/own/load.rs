//! Packing the tensors of a model.

use upcycle_checkpoint::gguf::{GgmlType, TensorInfo};
use upcycle_checkpoint::{Checkpoint, Source};
use upcycle_kernels::{Format, Kernels, Matrix, RopeLayout};

use super::{Layer, Packed};
use crate::load::{read_biases, read_head_norms};
use crate::model::Dimensions;
use crate::rows;
use crate::tensors::Tensors;
use crate::{LoadError, Weights};

/// The packed format of a tensor type; none where the kernels have none.
fn format(dtype: GgmlType) -> Option<Format> {
    Some(match dtype {
        GgmlType::F32 => Format::F32,
        GgmlType::F16 => Format::F16,
        GgmlType::Bf16 => Format::BF16,
        GgmlType::Q4_0 => Format::Q4_0,
        GgmlType::Q4_1 => Format::Q4_1,
        GgmlType::Q5_0 => Format::Q5_0,
        GgmlType::Q5_1 => Format::Q5_1,
        GgmlType::Q8_0 => Format::Q8_0,
        GgmlType::Q4K => Format::Q4K,
        GgmlType::Q6K => Format::Q6K,
        _ => return None,
    })
}

/// Why the kernels cannot run this model; none if they can.
pub(crate) fn unsupported(
    checkpoint: &Checkpoint,
    dimensions: &Dimensions,
    weights: Weights,
) -> Option<String> {
    if !dimensions.kv.width.is_multiple_of(16) {
        return Some(format!("heads of {} dimensions, not a multiple of 16", dimensions.kv.width));
    }
    if weights == Weights::F32 {
        return None;
    }
    let mut tensors = checkpoint.tensors().map(|(_, tensor)| tensor);
    let missing = tensors.find(|tensor| tensor.shape.len() > 1 && format(tensor.dtype).is_none());
    missing
        .map(|TensorInfo { name, dtype, .. }| format!("tensor `{name}` is {dtype}, which they do not have"))
}

/// Packs the model, tensor by tensor; what is read of the file is given back as soon as it is packed.
pub(crate) fn load(
    tensors: &mut Tensors<'_>,
    source: &Source,
    dimensions: &Dimensions,
    rope: rows::Rope,
    kernels: Kernels,
) -> Result<Packed, LoadError> {
    let &Dimensions { width, heads, kv, feed_forward, vocab, .. } = dimensions;
    let threads = kernels.pool().threads();
    let (queries, keys) = (heads * kv.width, kv.heads * kv.width);
    let pack = |tensors: &mut Tensors<'_>, name: &str, inputs, outputs| -> Result<Matrix, LoadError> {
        tensors.packed(name, inputs, outputs, |dtype, bytes| {
            let format = format(dtype)?;
            Some(Matrix::pack(name, format, (outputs, inputs), bytes, threads))
        })
    };
    let embedding = pack(tensors, "token_embd.weight", width, vocab)?;
    let mut layers = Vec::with_capacity(kv.layers);
    for layer in 0..kv.layers {
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        layers.push(Layer {
            attention_norm: tensors.vector(&name("attn_norm"), width)?,
            query: pack(tensors, &name("attn_q"), width, queries)?,
            key: pack(tensors, &name("attn_k"), width, keys)?,
            value: pack(tensors, &name("attn_v"), width, keys)?,
            biases: read_biases(tensors, layer, source, dimensions)?,
            head_norms: read_head_norms(tensors, layer, source, dimensions)?,
            attention_output: pack(tensors, &name("attn_output"), queries, width)?,
            feed_forward_norm: tensors.vector(&name("ffn_norm"), width)?,
            gate: pack(tensors, &name("ffn_gate"), width, feed_forward)?,
            up: pack(tensors, &name("ffn_up"), width, feed_forward)?,
            down: pack(tensors, &name("ffn_down"), feed_forward, width)?,
        });
    }
    let output_norm = tensors.vector("output_norm.weight", width)?;
    let output = if source.tied { None } else { Some(pack(tensors, "output.weight", width, vocab)?) };
    let layout = match rope.layout {
        upcycle_checkpoint::gguf::RopeLayout::Interleaved => RopeLayout::Interleaved,
        upcycle_checkpoint::gguf::RopeLayout::Halves => RopeLayout::Halves,
    };
    let rope = upcycle_kernels::Rope::new(layout, rope.frequencies).scaled(rope.magnitude);
    Ok(Packed { kernels, rope, embedding, layers, output_norm, output })
}
