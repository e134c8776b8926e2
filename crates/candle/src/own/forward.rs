//! One pass over the rows of all sequences, on packed weights.

use upcycle_kernels::{Activations, Fresh, Kernels, Matrix, Product, Rope, Sight, Store};

use super::{Cache, Layer, Packed};
use crate::activations::{NotFinite, check_finite};
use crate::forward::Batch;
use crate::model::Dimensions;

/// Memory of a pass, kept from pass to pass; all of it `[rows, width]`, each with its own width.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    stream: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    wanted: Vec<f32>,
    narrow: Activations,
    wide: Activations,
    rope: Option<Rope>,
}

/// Runs the model over `batch`: keys and values go to their slots, the wanted rows' logits, `[wanted, vocab]`, to the front
/// of `logits`.
///
/// # Errors
/// [`NotFinite`] for the first row found with a NaN or an infinity. The slots that were written may then hold anything;
/// no others have changed.
pub(crate) fn forward(
    packed: &Packed,
    dimensions: &Dimensions,
    batch: &Batch,
    caches: &mut [&mut Cache],
    scratch: &mut Scratch,
    logits: &mut Vec<f32>,
) -> Result<(), NotFinite> {
    let Packed { kernels, .. } = packed;
    let &Dimensions { width, heads, kv, .. } = dimensions;
    let rows = batch.tokens.len();
    scratch.stream.resize(rows * width, 0.0);
    for (&token, row) in batch.tokens.iter().zip(scratch.stream.chunks_exact_mut(width)) {
        packed.embedding.gather(token as usize, row);
    }
    let rope = scratch.rope.get_or_insert_with(|| packed.rope.clone());
    rope.place(&batch.positions);
    let (queries, keys) = (heads * kv.width, kv.heads * kv.width);
    scratch.queries.resize(rows * queries, 0.0);
    scratch.keys.resize(rows * keys, 0.0);
    scratch.values.resize(rows * keys, 0.0);
    for (index, layer) in packed.layers.iter().enumerate() {
        attention(kernels, dimensions, (index, layer), batch, caches, scratch);
        feed_forward(kernels, dimensions, layer, scratch);
    }
    check_finite(&scratch.stream, width)?;
    let logits = head(packed, dimensions, &batch.wanted, scratch, logits);
    check_finite(logits, dimensions.vocab).map_err(|NotFinite { row }| NotFinite { row: batch.wanted[row] })
}

fn quantized(matrix: &Matrix) -> bool {
    matrix.format().is_quantized()
}

/// Writes `row` into every row of `rows`.
fn repeat(row: &[f32], rows: &mut [f32]) {
    rows.chunks_exact_mut(row.len()).for_each(|out| out.copy_from_slice(row));
}

/// Normalization, queries, keys, values, attention, output product, residual.
fn attention(
    kernels: &Kernels,
    dimensions: &Dimensions,
    (index, layer): (usize, &Layer),
    batch: &Batch,
    caches: &mut [&mut Cache],
    scratch: &mut Scratch,
) {
    let &Dimensions { heads, kv, epsilon, ref windows, .. } = dimensions;
    let Scratch { stream, queries, keys, values, narrow, rope, .. } = scratch;
    let Layer { attention_norm, query, key, value, biases, head_norms, attention_output, .. } = layer;
    let quantize = [query, key, value].into_iter().any(quantized);
    kernels.rms_norm(stream, attention_norm, epsilon, narrow, quantize);
    // A bias is what the product is added to.
    let store = if biases.is_some() { Store::Add } else { Store::Set };
    if let Some([query, key, value]) = biases {
        repeat(query, queries);
        repeat(key, keys);
        repeat(value, values);
    }
    let product = |matrix, out| Product { matrix, out, store };
    kernels.multiply(narrow, &mut [product(query, queries), product(key, keys), product(value, values)]);
    if let Some([query, key]) = head_norms {
        kernels.rms_norm_heads(queries, query, epsilon);
        kernels.rms_norm_heads(keys, key, epsilon);
    }
    if let Some(rope) = rope {
        kernels.rope(rope, queries, kv.width);
        kernels.rope(rope, keys, kv.width);
    }
    let width = kv.heads * kv.width;
    let rows = keys.chunks_exact(width).zip(values.chunks_exact(width));
    for (&(cache, slot), (keys, values)) in batch.slots.iter().zip(rows) {
        caches[cache].write(index, slot, keys, values);
    }
    let sights: Vec<Sight<'_, f32>> = (0..batch.tokens.len())
        .map(|row| {
            let (prefix, tail) = batch.sight(row);
            let unseen = batch.unseen(row, windows[index]);
            Sight { cache: &*caches[batch.slots[row].0], prefix, tail, unseen }
        })
        .collect();
    let fresh = Fresh { keys, values };
    kernels.attention_into(index, heads, queries, &sights, fresh, narrow, quantized(attention_output));
    kernels.multiply(narrow, &mut [Product { matrix: attention_output, out: stream, store: Store::Add }]);
}

/// Normalization, gates and ups, SwiGLU, down product, residual.
fn feed_forward(kernels: &Kernels, dimensions: &Dimensions, layer: &Layer, scratch: &mut Scratch) {
    let Scratch { stream, narrow, wide, .. } = scratch;
    let Layer { feed_forward_norm, gate, up, down, .. } = layer;
    let quantize = quantized(gate) || quantized(up);
    kernels.rms_norm(stream, feed_forward_norm, dimensions.epsilon, narrow, quantize);
    kernels.swiglu(gate, up, narrow, wide, quantized(down));
    kernels.multiply(wide, &mut [Product { matrix: down, out: stream, store: Store::Add }]);
}

/// The wanted rows' logits, `[wanted, vocab]`.
fn head<'a>(
    packed: &Packed,
    dimensions: &Dimensions,
    wanted: &[usize],
    scratch: &mut Scratch,
    logits: &'a mut Vec<f32>,
) -> &'a [f32] {
    let &Dimensions { width, vocab, epsilon, .. } = dimensions;
    let Scratch { stream, wanted: chosen, narrow, .. } = scratch;
    chosen.clear();
    for &row in wanted {
        chosen.extend_from_slice(&stream[row * width..][..width]);
    }
    // Never shorter again: growing would fill it anew, 200 kB a row, and drafts are now longer, now shorter.
    let len = wanted.len() * vocab;
    if logits.len() < len {
        logits.resize(len, 0.0);
    }
    let logits = &mut logits[..len];
    let (kernels, head) = (&packed.kernels, packed.head());
    kernels.rms_norm(chosen, &packed.output_norm, epsilon, narrow, quantized(head));
    kernels.multiply(narrow, &mut [Product { matrix: head, out: logits, store: Store::Set }]);
    logits
}
