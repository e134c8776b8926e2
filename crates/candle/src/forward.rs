//! The forward pass over the rows of all sequences.

use std::ops::Range;

use candle_core::{D, Error, Tensor};
use candle_nn::ops::{rms_norm, softmax_last_dim};
use candle_nn::rotary_emb::{rope, rope_i};
use upcycle_checkpoint::{Hyperparameters, RopeLayout};
use upcycle_core::tree_masks::{self, AncestorSets};
use upcycle_core::{DraftTree, NodeId, TokenId};

use crate::cache::DeviceKvCache;
use crate::host;
use crate::model::{Layer, Model};

/// Rows whose attention scores are computed together. It bounds the memory of a long prefill.
const CHUNK_ROWS: usize = 256;

/// The tree of one sequence in a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PassInput<'a> {
    pub(crate) tree: &'a DraftTree,
    /// The index of the sequence's cache.
    pub(crate) cache: usize,
    /// Committed slots of the cache, which all nodes attend to.
    pub(crate) committed: usize,
    /// The slot of the root; node `i` goes to slot `first + i`.
    pub(crate) first: usize,
}

/// Why a pass failed. Only the slots of its rows have changed, and these are zeros.
#[derive(Debug)]
pub(crate) enum PassError {
    /// A row has a NaN or an infinity: its own, or one of another row of its sequence, which no mask hides from it.
    NotFinite { row: usize },
    /// The device failed.
    Device(Error),
}

impl From<Error> for PassError {
    fn from(error: Error) -> Self {
        Self::Device(error)
    }
}

/// Consecutive rows of one sequence, in consecutive slots.
struct AttentionChunk {
    first_row: usize,
    rows: usize,
    cache: usize,
    first_slot: usize,
    /// For each distinct window of the model, with the window: 0 where a row attends to a slot, minus infinity elsewhere,
    /// `[rows, slots]`. The slots end with the span's last.
    masks: Vec<(Option<usize>, Tensor)>,
}

/// Runs the model over `inputs`. Keys and values go to their slots. The logits of the rows `logits_rows`, `[logits_rows, vocab]`, go to `logits`.
///
/// Each row's embedding and a mask for each sequence are copied to the device; one number a row and the logits are copied back.
///
/// # Errors
/// [`PassError`].
pub(crate) fn forward(
    model: &Model,
    inputs: &[PassInput<'_>],
    caches: &[&DeviceKvCache],
    logits_rows: &[u32],
    logits: &mut Vec<f32>,
) -> Result<(), PassError> {
    let outcome = run(model, inputs, caches, logits_rows, logits);
    if outcome.is_err() {
        for &PassInput { tree, cache, first, .. } in inputs {
            caches[cache].clear(first..first + tree.len())?;
        }
    }
    outcome
}

/// As [`forward`], but a failed pass may leave anything in its slots.
fn run(
    model: &Model,
    inputs: &[PassInput<'_>],
    caches: &[&DeviceKvCache],
    logits_rows: &[u32],
    logits: &mut Vec<f32>,
) -> Result<(), PassError> {
    let &Hyperparameters { vocab, epsilon, .. } = &model.hyperparameters;
    let (mut tokens, mut positions): (Vec<TokenId>, Vec<u32>) = (Vec::new(), Vec::new());
    let (mut spans, mut own) = (Vec::new(), Vec::new());
    for input in inputs {
        tree_masks::positions(input.tree, input.committed, &mut own);
        push_spans(model, input, tokens.len(), &own, &mut spans)?;
        tokens.extend_from_slice(input.tree.tokens());
        positions.extend_from_slice(&own);
    }
    let mut hidden = model.weights.embedding.rows(&tokens)?.to_device(&model.device)?;
    let cos_sin = cos_sin(model, &positions)?;
    // 0 times a finite number is 0; 0 times a NaN or an infinity is a NaN.
    let zeros = |rows: &Tensor| (rows * 0.0)?.sum(D::Minus1);
    let mut checks = Vec::new();
    for (index, layer) in model.weights.layers.iter().enumerate() {
        let attended = attention(model, index, &cos_sin, &spans, caches, &hidden)?;
        if model.nan_checks {
            checks.push(zeros(&attended)?);
        }
        hidden = (hidden + layer.attention_output.multiply(&attended)?)?;
        let rows = rms_norm(&hidden, &layer.feed_forward_norm, epsilon)?;
        let wide = (layer.gate.multiply(&rows)?.silu()? * layer.up.multiply(&rows)?)?;
        if model.nan_checks {
            checks.push(zeros(&wide)?);
        }
        hidden = (hidden + layer.down.multiply(&wide)?)?;
    }
    let checks = checks.iter().try_fold(zeros(&hidden)?, |sum, zeros| sum + zeros)?.to_vec1::<f32>()?;
    if let Some(row) = checks.iter().position(|zero| !zero.is_finite()) {
        return Err(PassError::NotFinite { row });
    }
    if logits_rows.is_empty() {
        logits.clear();
        return Ok(());
    }
    let rows = hidden.index_select(&Tensor::new(logits_rows, &model.device)?, 0)?;
    let rows = rms_norm(&rows, &model.weights.final_norm, epsilon)?;
    host::read(&model.weights.lm_head.multiply(&rows)?, logits)?;
    let bad = logits.chunks_exact(vocab).position(|row| row.iter().any(|logit| !logit.is_finite()));
    bad.map_or(Ok(()), |index| Err(PassError::NotFinite { row: logits_rows[index] as usize }))
}

/// Cosines and sines of every pair at each row's position, `[rows, pairs]` each.
fn cos_sin(model: &Model, positions: &[u32]) -> Result<[Tensor; 2], Error> {
    let frequencies = &model.weights.frequencies;
    let magnitude = f64::from(model.hyperparameters.rope_scaling.magnitude());
    let angle = |&position: &u32| {
        frequencies.iter().map(move |frequency| {
            let (sin, cos) = (f64::from(position) * frequency).sin_cos();
            ((magnitude * cos) as f32, (magnitude * sin) as f32)
        })
    };
    let (cosines, sines): (Vec<f32>, Vec<f32>) = positions.iter().flat_map(angle).unzip();
    let tensor = |values| Tensor::from_vec(values, (positions.len(), frequencies.len()), &model.device);
    Ok([tensor(cosines)?, tensor(sines)?])
}

/// Adds the spans of a tree whose root is row `first_row` of the pass and whose nodes stand at `positions`.
fn push_spans(
    model: &Model,
    input: &PassInput<'_>,
    first_row: usize,
    positions: &[u32],
    spans: &mut Vec<AttentionChunk>,
) -> Result<(), Error> {
    let &PassInput { tree, cache, first, .. } = input;
    let mut windows: Vec<_> =
        (0..model.hyperparameters.layers).map(|layer| model.hyperparameters.window(layer)).collect();
    windows.sort_unstable();
    windows.dedup();
    let mut ancestors = AncestorSets::default();
    ancestors.rebuild(tree);
    for start in (0..tree.len()).step_by(CHUNK_ROWS) {
        let nodes = start..tree.len().min(start + CHUNK_ROWS);
        let mask = |&window: &Option<usize>| {
            let mask = mask(input, &ancestors, positions, nodes.clone(), window);
            let shape = (nodes.len(), first + nodes.end);
            Ok((window, Tensor::from_vec(mask, shape, &model.device)?))
        };
        spans.push(AttentionChunk {
            first_row: first_row + start,
            rows: nodes.len(),
            cache,
            first_slot: first + start,
            masks: windows.iter().map(mask).collect::<Result<_, Error>>()?,
        });
    }
    Ok(())
}

/// 0 where a node of `nodes` attends to a slot, minus infinity elsewhere, `[nodes, slots]`.
fn mask(
    input: &PassInput<'_>,
    ancestors: &AncestorSets,
    positions: &[u32],
    nodes: Range<usize>,
    window: Option<usize>,
) -> Vec<f32> {
    let &PassInput { committed, first, .. } = input;
    let slots = first + nodes.end;
    let mut mask = vec![f32::NEG_INFINITY; nodes.len() * slots];
    for (node, row) in nodes.zip(mask.chunks_exact_mut(slots)) {
        let earliest = window.map_or(0, |window| (positions[node] as usize + 1).saturating_sub(window));
        row[earliest.min(committed)..committed].fill(0.0);
        for other in 0..=node {
            if ancestors.contains(NodeId::new(node), NodeId::new(other))
                && positions[other] as usize >= earliest
            {
                row[first + other] = 0.0;
            }
        }
    }
    mask
}

/// Normalization, queries, keys and values, and attention of the rows of `hidden`, `[rows, hidden_size]`: `[rows, heads * head_dim]`.
fn attention(
    model: &Model,
    index: usize,
    cos_sin: &[Tensor; 2],
    spans: &[AttentionChunk],
    caches: &[&DeviceKvCache],
    hidden: &Tensor,
) -> Result<Tensor, Error> {
    let &Hyperparameters { heads, kv_heads, head_dim, epsilon, rope_layout, .. } = &model.hyperparameters;
    let window = model.hyperparameters.window(index);
    let layer: &Layer = &model.weights.layers[index];
    let rows = rms_norm(hidden, &layer.attention_norm, epsilon)?;
    let mut parts = [layer.query.multiply(&rows)?, layer.key.multiply(&rows)?, layer.value.multiply(&rows)?];
    if let Some(biases) = &layer.biases {
        for (part, bias) in parts.iter_mut().zip(biases) {
            *part = part.broadcast_add(bias)?;
        }
    }
    let [queries, keys, values] = parts;
    // `[heads, rows, head_dim]`.
    let by_head = |part: &Tensor, heads| part.reshape(((), heads, head_dim))?.transpose(0, 1)?.contiguous();
    let mut queries = by_head(&queries, heads)?;
    let mut keys = by_head(&keys, kv_heads)?;
    let values = by_head(&values, kv_heads)?;
    if let Some([query, key]) = &layer.head_norms {
        queries = rms_norm(&queries, query, epsilon)?;
        keys = rms_norm(&keys, key, epsilon)?;
    }
    let (queries, keys) = (rotate(&queries, rope_layout, cos_sin)?, rotate(&keys, rope_layout, cos_sin)?);

    let scale = 1.0 / (head_dim as f64).sqrt();
    let mut attended = Vec::with_capacity(spans.len());
    for &AttentionChunk { first_row, rows, cache, first_slot, ref masks } in spans {
        let cache = caches[cache];
        let slots = first_slot + rows;
        let new = |part: &Tensor| part.narrow(1, first_row, rows);
        cache.write(index, first_slot, &new(&keys)?, &new(&values)?)?;
        let [keys, values] = cache.prefix(index, slots)?;
        // The query heads that share a KV head are rows of one product.
        let group = heads / kv_heads;
        let queries = new(&queries)?.contiguous()?.reshape((kv_heads, group * rows, head_dim))?;
        let mut scores = (queries.matmul(&keys.t()?)? * scale)?.reshape((heads, rows, slots))?;
        if let Some((_, mask)) = masks.iter().find(|(of, _)| *of == window) {
            scores = scores.broadcast_add(mask)?;
        }
        let weights = softmax_last_dim(&scores)?.reshape((kv_heads, group * rows, slots))?;
        attended.push(weights.matmul(&values)?.reshape((heads, rows, head_dim))?);
    }
    let attended = Tensor::cat(&attended, 1)?.transpose(0, 1)?.contiguous()?;
    attended.reshape(((), heads * head_dim))
}

/// Rotates the pairs of every head of `part`, `[heads, rows, head_dim]`. Dimensions past the pairs stay.
fn rotate(part: &Tensor, layout: RopeLayout, [cosines, sines]: &[Tensor; 2]) -> Result<Tensor, Error> {
    let (head_dim, rotary_dim) = (part.dim(D::Minus1)?, 2 * cosines.dim(D::Minus1)?);
    let rotate = |part: &Tensor| {
        let part = part.unsqueeze(0)?;
        let part = match layout {
            RopeLayout::Interleaved => rope_i(&part, cosines, sines)?,
            RopeLayout::Halves => rope(&part, cosines, sines)?,
        };
        part.squeeze(0)
    };
    if rotary_dim == head_dim {
        return rotate(part);
    }
    let front = rotate(&part.narrow(D::Minus1, 0, rotary_dim)?.contiguous()?)?;
    Tensor::cat(&[front, part.narrow(D::Minus1, rotary_dim, head_dim - rotary_dim)?], D::Minus1)
}
