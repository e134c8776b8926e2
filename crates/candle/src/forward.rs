//! One pass over the rows of all sequences.

use std::ops::Range;

use rayon::prelude::*;
use upcycle_core::TokenId;

use crate::activations::{Activations, NotFinite, check_finite};
use crate::attention::{Visible, attend};
use crate::kv::{KvCache, Part};
use crate::model::{Blocks, Dimensions, Layer};
use crate::rows::{Rope, add, add_turned, rms_norm, rms_norm_heads, swiglu, turn};

/// Rows that pass the head together; bounds the memory of its product.
const HEAD_ROWS: usize = 128;

/// The rows of a pass, flat over all sequences.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// `[rows]`.
    pub(crate) tokens: Vec<TokenId>,
    /// Absolute positions, `[rows]`.
    pub(crate) positions: Vec<u32>,
    /// For each row the index of its cache and the slot that its keys and values go to.
    pub(crate) slots: Vec<(usize, usize)>,
    /// What each row sees.
    pub(crate) visible: Visible,
    /// The rows that pass the head, rising.
    pub(crate) wanted: Vec<usize>,
    /// For each row the committed slots that it sees in any case, and its ancestors and itself in `lineage` where these
    /// do not follow there.
    pub(crate) sights: Vec<(usize, Range<usize>)>,
    /// Rows of the pass.
    pub(crate) lineage: Vec<u32>,
}

impl Batch {
    /// Forgets all rows.
    pub(crate) fn clear(&mut self) {
        self.tokens.clear();
        self.positions.clear();
        self.slots.clear();
        self.visible.clear();
        self.wanted.clear();
        self.sights.clear();
        self.lineage.clear();
    }

    /// What a row sees: slots `0..prefix` of its cache, then rows of the pass.
    pub(crate) fn sight(&self, row: usize) -> (usize, &[u32]) {
        let (prefix, lineage) = &self.sights[row];
        (*prefix, &self.lineage[lineage.clone()])
    }

    /// The positions from the start that a row does not see, in a layer with this window.
    pub(crate) fn unseen(&self, row: usize, window: Option<usize>) -> usize {
        window.map_or(0, |window| (self.positions[row] as usize + 1).saturating_sub(window))
    }

    /// Adds what the rows of a tree see that is about to be pushed, `committed` slots before it, node `i` in slot
    /// `first + i`. A chain that follows what is committed is seen in its slots alone.
    pub(crate) fn push_sights(&mut self, parents: &[u32], committed: usize, first: usize) {
        let tree = self.sights.len();
        let chain = parents.iter().enumerate().skip(1).all(|(node, &parent)| parent as usize + 1 == node);
        for (node, &parent) in parents.iter().enumerate() {
            if chain && first == committed {
                self.sights.push((committed + node + 1, 0..0));
                continue;
            }
            let start = self.lineage.len();
            if node > 0 {
                self.lineage.extend_from_within(self.sights[tree + parent as usize].1.clone());
            }
            self.lineage.push((tree + node) as u32);
            self.sights.push((committed, start..self.lineage.len()));
        }
    }
}

/// Memory of a pass, kept from pass to pass.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The residual stream, `[rows, width]`.
    stream: Vec<f32>,
    activations: Activations,
    /// A product, `[outputs, rows]`.
    columns: Vec<f32>,
    /// Queries, keys and values, `[rows, (heads + 2 · kv heads) · head width]`.
    query_key_value: Vec<f32>,
    angles: Vec<(f32, f32)>,
    /// Wanted rows of the head, turned.
    turned: Vec<f32>,
}

/// Runs the model over `batch`: keys and values go to their slots, the wanted rows' logits, `[wanted, vocab]`, to
/// `logits`. Runs on the present thread pool.
///
/// # Errors
/// [`NotFinite`] for the first row found with a NaN or an infinity. The slots that were written may then hold
/// anything; no others have changed.
pub(crate) fn forward(
    model: &Blocks,
    dimensions: &Dimensions,
    batch: &Batch,
    caches: &mut [&mut KvCache],
    scratch: &mut Scratch,
    logits: &mut Vec<f32>,
) -> Result<(), NotFinite> {
    let width = dimensions.width;
    scratch.stream.resize(batch.tokens.len() * width, 0.0);
    for (&token, row) in batch.tokens.iter().zip(scratch.stream.chunks_exact_mut(width)) {
        model.embedding.row(token as usize, row);
    }
    model.rope.angles(&batch.positions, &mut scratch.angles);
    for (index, layer) in model.layers.iter().enumerate() {
        attention(dimensions, &model.rope, (index, layer), batch, caches, scratch)?;
        feed_forward(dimensions, layer, scratch)?;
    }
    check_finite(&scratch.stream, width)?;
    head(model, dimensions, &batch.wanted, scratch, logits)
}

/// Normalization, queries, keys, values, attention, output product, residual.
fn attention(
    dimensions: &Dimensions,
    rope: &Rope,
    (index, layer): (usize, &Layer),
    batch: &Batch,
    caches: &mut [&mut KvCache],
    scratch: &mut Scratch,
) -> Result<(), NotFinite> {
    let &Dimensions { width, heads, kv, epsilon, .. } = dimensions;
    let Scratch { stream, activations, columns, query_key_value, angles, .. } = scratch;
    let rows = batch.tokens.len();
    rms_norm(stream, &layer.attention_norm, epsilon, activations.restart(rows, width));
    activations.check()?;
    layer.query_key_value.multiply(activations, columns);
    turn(columns, rows, query_key_value);

    let (queries, keys) = (heads * kv.width, kv.heads * kv.width);
    let row_width = queries + 2 * keys;
    let pairs = angles.len() / rows;
    let each = query_key_value.chunks_exact_mut(row_width).zip(angles.chunks_exact(pairs)).zip(&batch.slots);
    for ((row, angles), &(cache, slot)) in each {
        if let Some(bias) = &layer.query_key_value_bias {
            add(row, bias);
        }
        if let Some([query, key]) = &layer.head_norms {
            rms_norm_heads(&mut row[..queries], query, epsilon);
            rms_norm_heads(&mut row[queries..][..keys], key, epsilon);
        }
        rope.rotate(&mut row[..queries + keys], kv.width, angles);
        caches[cache].write(index, Part::Keys, slot, &row[queries..][..keys]);
        caches[cache].write(index, Part::Values, slot, &row[queries + keys..]);
    }

    let caches = &*caches;
    let out = activations.restart(rows, queries);
    out.par_chunks_exact_mut(kv.width).enumerate().for_each(|(task, out)| {
        let (row, head) = (task / heads, task % heads);
        let query = &query_key_value[row * row_width + head * kv.width..][..kv.width];
        let cache = &*caches[batch.slots[row].0];
        let unseen = batch.unseen(row, dimensions.windows[index]);
        let visible = (batch.visible.row(row), unseen);
        attend(cache, (index, head * kv.heads / heads), visible, query, out);
    });
    activations.check()?;
    layer.attention_output.multiply(activations, columns);
    add_turned(columns, rows, stream);
    Ok(())
}

/// Normalization, gates and ups, SwiGLU, down product, residual.
fn feed_forward(dimensions: &Dimensions, layer: &Layer, scratch: &mut Scratch) -> Result<(), NotFinite> {
    let &Dimensions { width, feed_forward, epsilon, .. } = dimensions;
    let Scratch { stream, activations, columns, .. } = scratch;
    let rows = stream.len() / width;
    rms_norm(stream, &layer.feed_forward_norm, epsilon, activations.restart(rows, width));
    activations.check()?;
    layer.gate_up.multiply(activations, columns);
    swiglu(columns, rows, activations.restart(rows, feed_forward));
    activations.check()?;
    layer.down.multiply(activations, columns);
    add_turned(columns, rows, stream);
    Ok(())
}

/// The wanted rows' logits, `[wanted, vocab]`.
fn head(
    model: &Blocks,
    dimensions: &Dimensions,
    wanted: &[usize],
    scratch: &mut Scratch,
    logits: &mut Vec<f32>,
) -> Result<(), NotFinite> {
    let &Dimensions { width, vocab, epsilon, .. } = dimensions;
    let Scratch { stream, activations, columns, turned, .. } = scratch;
    logits.clear();
    for wanted in wanted.chunks(HEAD_ROWS) {
        let out = activations.restart(wanted.len(), width);
        for (&row, out) in wanted.iter().zip(out.chunks_exact_mut(width)) {
            rms_norm(&stream[row * width..][..width], &model.output_norm, epsilon, out);
        }
        activations.check().map_err(|NotFinite { row }| NotFinite { row: wanted[row] })?;
        model.head().multiply(activations, columns);
        turn(columns, wanted.len(), turned);
        debug_assert_eq!(turned.len(), wanted.len() * vocab);
        if logits.is_empty() {
            std::mem::swap(logits, turned);
        } else {
            logits.extend_from_slice(turned);
        }
    }
    Ok(())
}
