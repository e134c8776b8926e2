//! The forward pass over the rows of all sequences.

use upcycle_checkpoint::Hyperparameters;
use upcycle_kernels::{Activations, AttentionSpan, KvCache, Matmul, Matrix, NewKv, Rope, Store};

use crate::batch::Batch;
use crate::model::{Layer, Model};

/// A row holds a NaN or an infinity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotFinite {
    /// Its index in the pass.
    pub(crate) row: usize,
}

/// Memory of a pass, kept from pass to pass. Each buffer is `[rows, width]`, with its own width.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The residual stream.
    hidden: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    /// The rows of `hidden` whose logits are computed.
    logits_rows: Vec<f32>,
    activations: Activations,
    /// Activations between the matrices of a feed-forward network.
    ffn_activations: Activations,
    rope: Option<Rope>,
}

/// Runs the model over `batch`. Keys and values go to their slots. The logits of the requested rows, `[logits_rows, vocab]`, go to the
/// front of `logits`.
///
/// # Errors
/// [`NotFinite`] for the first row with a NaN or an infinity. The slots of the batch may then hold anything; no others have changed.
pub(crate) fn forward(
    model: &Model,
    batch: &Batch,
    caches: &mut [&mut KvCache],
    scratch: &mut Scratch,
    logits: &mut Vec<f32>,
) -> Result<(), NotFinite> {
    let &Hyperparameters { hidden_size, heads, kv_heads, head_dim, vocab, .. } = &model.hyperparameters;
    let rows = batch.tokens.len();
    scratch.hidden.resize(rows * hidden_size, 0.0);
    for (&token, row) in batch.tokens.iter().zip(scratch.hidden.chunks_exact_mut(hidden_size)) {
        model.weights.embedding.gather(token as usize, row);
    }
    scratch.rope.get_or_insert_with(|| model.rope.clone()).set_positions(&batch.positions);
    scratch.queries.resize(rows * heads * head_dim, 0.0);
    scratch.keys.resize(rows * kv_heads * head_dim, 0.0);
    scratch.values.resize(rows * kv_heads * head_dim, 0.0);
    for index in 0..model.weights.layers.len() {
        attention(model, index, batch, caches, scratch);
        feed_forward(model, index, scratch);
    }
    check_finite(&scratch.hidden, hidden_size)?;
    let logits = compute_logits(model, &batch.logits_rows, scratch, logits);
    check_finite(logits, vocab).map_err(|NotFinite { row }| NotFinite { row: batch.logits_rows[row] })
}

/// Finds the first row of `values`, `[rows, width]`, with a NaN or an infinity.
fn check_finite(values: &[f32], width: usize) -> Result<(), NotFinite> {
    // Without an early exit, which would keep the loop from being vectorized.
    let finite = |row: &[f32]| row.iter().fold(true, |finite, value| finite & value.is_finite());
    match values.chunks_exact(width).position(|row| !finite(row)) {
        Some(row) => Err(NotFinite { row }),
        None => Ok(()),
    }
}

fn quantized(matrix: &Matrix) -> bool {
    matrix.format().is_quantized()
}

/// Copies `row` into every row of `rows`.
fn repeat(row: &[f32], rows: &mut [f32]) {
    rows.chunks_exact_mut(row.len()).for_each(|out| out.copy_from_slice(row));
}

/// Normalization, queries, keys and values, attention, output matrix, residual.
fn attention(model: &Model, index: usize, batch: &Batch, caches: &mut [&mut KvCache], scratch: &mut Scratch) {
    let Model { hyperparameters, kernels, weights, .. } = model;
    let &Hyperparameters { heads, kv_heads, head_dim, epsilon, .. } = hyperparameters;
    let Scratch { hidden, queries, keys, values, activations, rope, .. } = scratch;
    let Layer { attention_norm, query, key, value, biases, head_norms, attention_output, .. } =
        &weights.layers[index];
    let quantize = [query, key, value].into_iter().any(|matrix| quantized(matrix));
    kernels.rms_norm(hidden, attention_norm, epsilon, activations, quantize);
    // Biases go first; the matrix products are added to them.
    let store = if biases.is_some() { Store::Add } else { Store::Set };
    if let Some([query, key, value]) = biases {
        repeat(query, queries);
        repeat(key, keys);
        repeat(value, values);
    }
    let matmul = |matrix, out| Matmul { matrix, out, store };
    kernels.multiply(activations, &mut [matmul(query, queries), matmul(key, keys), matmul(value, values)]);
    if let Some([query, key]) = head_norms {
        kernels.rms_norm_heads(queries, query, epsilon);
        kernels.rms_norm_heads(keys, key, epsilon);
    }
    if let Some(rope) = rope {
        kernels.rope(rope, queries, head_dim);
        kernels.rope(rope, keys, head_dim);
    }
    model.kv_type.round(keys);
    model.kv_type.round(values);
    let rows = keys.chunks_exact(kv_heads * head_dim).zip(values.chunks_exact(kv_heads * head_dim));
    for (&(cache, slot), (keys, values)) in batch.slots.iter().zip(rows) {
        caches[cache].write(index, slot, keys, values);
    }
    let window = hyperparameters.window(index);
    let spans: Vec<AttentionSpan<'_>> = (0..batch.tokens.len())
        .map(|row| {
            let (prefix, new_rows) = batch.attention_range(row);
            let skip = batch.outside_window(row, window);
            AttentionSpan { cache: &*caches[batch.slots[row].0], prefix, new_rows, skip }
        })
        .collect();
    let new = NewKv { keys, values };
    kernels.attention_into(index, heads, queries, &spans, new, activations, quantized(attention_output));
    kernels.multiply(activations, &mut [Matmul { matrix: attention_output, out: hidden, store: Store::Add }]);
}

/// Normalization, gate and up, SwiGLU, down, residual.
fn feed_forward(model: &Model, index: usize, scratch: &mut Scratch) {
    let Model { hyperparameters, kernels, weights, .. } = model;
    let Scratch { hidden, activations, ffn_activations, .. } = scratch;
    let Layer { feed_forward_norm, gate, up, down, .. } = &weights.layers[index];
    let quantize = quantized(gate) || quantized(up);
    kernels.rms_norm(hidden, feed_forward_norm, hyperparameters.epsilon, activations, quantize);
    kernels.swiglu(gate, up, activations, ffn_activations, quantized(down));
    kernels.multiply(ffn_activations, &mut [Matmul { matrix: down, out: hidden, store: Store::Add }]);
}

/// The logits of the requested rows, `[logits_rows, vocab]`.
fn compute_logits<'a>(
    model: &Model,
    logits_rows: &[usize],
    scratch: &mut Scratch,
    logits: &'a mut Vec<f32>,
) -> &'a [f32] {
    let &Hyperparameters { hidden_size, vocab, epsilon, .. } = &model.hyperparameters;
    let Scratch { hidden, logits_rows: rows, activations, .. } = scratch;
    rows.clear();
    for &row in logits_rows {
        rows.extend_from_slice(&hidden[row * hidden_size..][..hidden_size]);
    }
    // The buffer never shrinks: drafts vary in size, and growing it again would zero 200 kB a row.
    let len = logits_rows.len() * vocab;
    if logits.len() < len {
        logits.resize(len, 0.0);
    }
    let logits = &mut logits[..len];
    let (kernels, head) = (&model.kernels, &model.weights.lm_head);
    kernels.rms_norm(rows, &model.weights.final_norm, epsilon, activations, quantized(head));
    kernels.multiply(activations, &mut [Matmul { matrix: head, out: logits, store: Store::Set }]);
    logits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_with_a_nan_or_an_infinity_is_found_wherever_it_is() {
        for width in [1, 8, 13] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                for at in 0..3 * width {
                    let mut values = vec![1.0; 3 * width];
                    assert_eq!(check_finite(&values, width), Ok(()));
                    values[at] = bad;
                    assert_eq!(check_finite(&values, width), Err(NotFinite { row: at / width }));
                }
            }
        }
    }
}
