//! One pass over the rows of all sequences.

use candle_core::{D, Error, Tensor};
use candle_nn::ops::{rms_norm, softmax_last_dim};
use candle_nn::rotary_emb::{rope, rope_i};
use upcycle_checkpoint::gguf::RopeLayout;

use super::{Cache, Layer, Resident, host};
use crate::activations::{NotFinite, check_finite};
use crate::forward::Batch;
use crate::model::Dimensions;

/// Rows whose scores are held at a time; bounds the memory of a long prefill.
const ROWS: usize = 256;

/// Why a pass came to nothing. No slots but those of its rows have changed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A row has a NaN or an infinity: its own, or one of a row of its sequence, which no mask hides from it.
    NotFinite { row: usize },
    /// The device.
    Device(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Device(error)
    }
}

/// Neighbouring rows of one sequence, in neighbouring slots.
struct Span {
    first: usize,
    rows: usize,
    cache: usize,
    slot: usize,
    /// What the rows do not see of the slots up to their last, for each of the [windows](Resident): `[rows, slots]`, 0 or minus
    /// infinity.
    masks: Vec<Tensor>,
}

/// Runs the model over `batch`: keys and values go to their slots, the wanted rows' logits, `[wanted, vocab]`, to `logits`.
///
/// Copies a row of the embedding for each row of the pass and a mask to the device; and back a number for each row and the logits.
///
/// # Errors
/// [`Failure`].
pub(crate) fn forward(
    model: &Resident,
    dimensions: &Dimensions,
    batch: &Batch,
    caches: &mut [&mut Cache],
    logits: &mut Vec<f32>,
) -> Result<(), Failure> {
    let spans = spans(model, batch)?;
    let outcome = pass(model, dimensions, batch, (&spans, caches), logits);
    if outcome.is_err() {
        for &Span { cache, slot, rows, .. } in &spans {
            caches[cache].clear(slot..slot + rows)?;
        }
    }
    outcome
}

/// The pass itself, whose rows may leave anything in their slots.
fn pass(
    model: &Resident,
    dimensions: &Dimensions,
    batch: &Batch,
    (spans, caches): (&[Span], &[&mut Cache]),
    logits: &mut Vec<f32>,
) -> Result<(), Failure> {
    let &Dimensions { width, epsilon, .. } = dimensions;
    let (device, rows) = (&model.device, batch.tokens.len());
    let mut stream = vec![0.0; rows * width];
    for (&token, row) in batch.tokens.iter().zip(stream.chunks_exact_mut(width)) {
        model.embedding.row(token as usize, row);
    }
    let mut stream = Tensor::from_vec(stream, (rows, width), device)?;
    let turns = turns(model, batch)?;
    // Zero times a number is no number where that is none, or infinite.
    let zeros = |rows: &Tensor| (rows * 0.0)?.sum(D::Minus1);
    let mut looked_at = Vec::new();
    for (index, layer) in model.layers.iter().enumerate() {
        let seen =
            attention(dimensions, (index, layer), (&model.rope.layout, &turns), spans, caches, &stream)?;
        if model.wary {
            looked_at.push(zeros(&seen)?);
        }
        stream = (stream + layer.attention_output.multiply(&seen)?)?;
        let rows = rms_norm(&stream, &layer.feed_forward_norm, epsilon)?;
        let wide = (layer.gate.multiply(&rows)?.silu()? * layer.up.multiply(&rows)?)?;
        if model.wary {
            looked_at.push(zeros(&wide)?);
        }
        stream = (stream + layer.down.multiply(&wide)?)?;
    }
    let sound = looked_at.iter().try_fold(zeros(&stream)?, |sum, zeros| sum + zeros)?.to_vec1::<f32>()?;
    if let Some(row) = sound.iter().position(|zero| !zero.is_finite()) {
        return Err(Failure::NotFinite { row });
    }
    if batch.wanted.is_empty() {
        logits.clear();
        return Ok(());
    }
    let wanted: Vec<u32> = batch.wanted.iter().map(|&row| row as u32).collect();
    let wanted = Tensor::from_vec(wanted, batch.wanted.len(), device)?;
    let rows = rms_norm(&stream.index_select(&wanted, 0)?, &model.output_norm, epsilon)?;
    host::read(&model.output.multiply(&rows)?, logits)?;
    check_finite(logits, dimensions.vocab)
        .map_err(|NotFinite { row }| Failure::NotFinite { row: batch.wanted[row] })
}

/// Cosines and sines of every pair at each row's position, `[rows, pairs]` each.
fn turns(model: &Resident, batch: &Batch) -> Result<[Tensor; 2], Error> {
    let mut angles = Vec::new();
    model.rope.angles(&batch.positions, &mut angles);
    let (cos, sin): (Vec<f32>, Vec<f32>) = angles.into_iter().unzip();
    let shape = (batch.positions.len(), model.rope.frequencies.len());
    Ok([Tensor::from_vec(cos, shape, &model.device)?, Tensor::from_vec(sin, shape, &model.device)?])
}

/// The spans of a pass, with a mask for each window that the model has.
fn spans(model: &Resident, batch: &Batch) -> Result<Vec<Span>, Error> {
    let mut spans = Vec::new();
    let mut first = 0;
    while first < batch.slots.len() {
        let (cache, slot) = batch.slots[first];
        let follow = batch.slots[first..].iter().enumerate();
        let rows = follow.take_while(|&(row, &place)| row < ROWS && place == (cache, slot + row)).count();
        let slots = slot + rows;
        let mask = |window: Option<usize>| {
            let mut mask = vec![f32::NEG_INFINITY; rows * slots];
            for (row, mask) in mask.chunks_exact_mut(slots).enumerate() {
                let mut unseen = batch.unseen(first + row, window);
                for run in batch.visible.row(first + row) {
                    let skipped = unseen.min(run.len());
                    unseen -= skipped;
                    mask[run.start + skipped..run.end].fill(0.0);
                }
            }
            Tensor::from_vec(mask, (rows, slots), &model.device)
        };
        let masks = model.windows.iter().map(|&window| mask(window));
        spans.push(Span { first, rows, cache, slot, masks: masks.collect::<Result<_, Error>>()? });
        first += rows;
    }
    Ok(spans)
}

/// Normalization, queries, keys, values and attention of the rows of `stream`, `[rows, width]`: what their heads see,
/// `[rows, heads * head width]`.
fn attention(
    dimensions: &Dimensions,
    (index, layer): (usize, &Layer),
    (layout, [cos, sin]): (&RopeLayout, &[Tensor; 2]),
    spans: &[Span],
    caches: &[&mut Cache],
    stream: &Tensor,
) -> Result<Tensor, Error> {
    let &Dimensions { heads, kv, epsilon, .. } = dimensions;
    let rows = rms_norm(stream, &layer.attention_norm, epsilon)?;
    let mut parts = [layer.query.multiply(&rows)?, layer.key.multiply(&rows)?, layer.value.multiply(&rows)?];
    if let Some(biases) = &layer.biases {
        for (part, bias) in parts.iter_mut().zip(biases) {
            *part = part.broadcast_add(bias)?;
        }
    }
    let [queries, keys, values] = parts;
    // `[heads, rows, width]`.
    let by_head = |part: &Tensor, heads| part.reshape(((), heads, kv.width))?.transpose(0, 1)?.contiguous();
    let mut queries = by_head(&queries, heads)?;
    let mut keys = by_head(&keys, kv.heads)?;
    let values = by_head(&values, kv.heads)?;
    if let Some([query, key]) = &layer.head_norms {
        queries = rms_norm(&queries, query, epsilon)?;
        keys = rms_norm(&keys, key, epsilon)?;
    }
    let turn = |part: &Tensor| turn(part, *layout, cos, sin);
    let (queries, keys) = (turn(&queries)?, turn(&keys)?);

    let scale = 1.0 / (kv.width as f64).sqrt();
    let mut seen = Vec::with_capacity(spans.len());
    for &Span { first, rows, cache, slot, ref masks } in spans {
        let cache = &*caches[cache];
        cache.write(index, slot, &keys.narrow(1, first, rows)?, &values.narrow(1, first, rows)?)?;
        let [keys, values] = cache.prefix(index, slot + rows)?;
        // The query heads that share a head of keys are rows of one product.
        let group = heads / kv.heads;
        let queries = queries.narrow(1, first, rows)?.contiguous()?;
        let queries = queries.reshape((kv.heads, group * rows, kv.width))?;
        let scores = (queries.matmul(&keys.t()?)? * scale)?.reshape((heads, rows, slot + rows))?;
        let weights = softmax_last_dim(&scores.broadcast_add(&masks[layer.window])?)?.reshape((
            kv.heads,
            group * rows,
            slot + rows,
        ))?;
        seen.push(weights.matmul(&values)?.reshape((heads, rows, kv.width))?);
    }
    let seen = Tensor::cat(&seen, 1)?.transpose(0, 1)?.contiguous()?;
    seen.reshape(((), heads * kv.width))
}

/// Turns the pairs of every head of `part`, `[heads, rows, width]`; what is past the pairs stays.
fn turn(part: &Tensor, layout: RopeLayout, cos: &Tensor, sin: &Tensor) -> Result<Tensor, Error> {
    let (width, turned) = (part.dim(D::Minus1)?, 2 * cos.dim(D::Minus1)?);
    let turn = |part: &Tensor| {
        let part = part.unsqueeze(0)?;
        let part = match layout {
            RopeLayout::Interleaved => rope_i(&part, cos, sin)?,
            RopeLayout::Halves => rope(&part, cos, sin)?,
        };
        part.squeeze(0)
    };
    if turned == width {
        return turn(part);
    }
    let front = turn(&part.narrow(D::Minus1, 0, turned)?.contiguous()?)?;
    Tensor::cat(&[front, part.narrow(D::Minus1, turned, width - turned)?], D::Minus1)
}
