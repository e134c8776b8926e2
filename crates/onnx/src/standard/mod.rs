//! Graphs as other exporters write them, made tree-ready.
//!
//! Optimum and `onnxruntime-genai` write one interface:
//!
//! | input | type, shape | |
//! |---|---|---|
//! | `input_ids` | int64 `[batch, rows]` | tokens |
//! | `attention_mask` | int64 `[batch, past + rows]` | 1 for what counts |
//! | `position_ids` | int64 `[batch, rows]` | absolute positions; left out where the graph counts them itself |
//! | `past_key_values.L.key`, `.value` | `[batch, kv_heads, past, head]` | committed rows of layer `L` |
//!
//! | output | type, shape | |
//! |---|---|---|
//! | `logits` | `[batch, rows, vocab]` | |
//! | `present.L.key`, `.value` | `[batch, kv_heads, past + rows, head]` | all rows |
//!
//! Attention is causal in the order of the rows, so that siblings of a tree would see each other. [`rewrite`] gives such a
//! graph the interface of [`layout`](crate::layout) instead: the mask that it builds for itself gives way to the tree's, and
//! positions to those that are given. Its weights stay where they are, in the graph or beside it.
//!
//! # What is done to attention
//! - `GroupQueryAttention` that does no more than attend (and turn) is written out in plain operators over past and new rows
//!   apart, as in a graph of our own, so that no key or value is copied. Other ones are kept and take the mask as their
//!   `attention_bias`.
//! - `MultiHeadAttention` and ONNX's own `Attention` are kept, and take the mask in place of what they had.
//! - In plain operators, the mask is the operand of the sum before the softmax (or the condition of a choice there) that
//!   depends neither on tokens nor on keys and values. It is replaced if it makes one comparison, which is what causality
//!   takes.
//!
//! Where that cannot be done in each layer, the masks stay as they are, and the graph scores chains alone ([`Fit::Chain`]).
//!
//! # What is copied within the graph
//! Operators that are kept take keys and values head by head, and give back past and new rows in one piece. The runtime copies the
//! past for them in each pass: it is turned, joined, and by plain operators repeated for the heads of a group.

mod edit;
mod fused;
mod plain;
mod unfold;
mod wiring;

use crate::layout::{CHAIN_ONLY, MAX_CONTEXT, Part, WEIGHTS};
use crate::schema::{Element, Entry, Graph, Model};

use edit::Edit;
use fused::{Fused, Kind};
use plain::Found;
use wiring::Wiring;

/// The input that standard exports have and tree-ready graphs have not.
pub const ATTENTION_MASK: &str = "attention_mask";

/// The input with the committed rows of a layer, `[batch, kv_heads, past, head]`.
#[must_use]
pub fn past_name(part: Part, layer: usize) -> String {
    format!("past_key_values.{layer}.{}", part.name())
}

/// The output with all rows of a layer, `[batch, kv_heads, past + rows, head]`.
#[must_use]
pub fn present_name(part: Part, layer: usize) -> String {
    format!("present.{layer}.{}", part.name())
}

/// What inputs and outputs of a standard export say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Layers with keys and values.
    pub layers: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Width of a head.
    pub head: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// The type of keys and values: `f32` or half precision.
    pub cache: Element,
    /// Whether positions are an input.
    pub positions: bool,
    /// The longest context.
    pub max_context: usize,
}

/// What a rewritten graph can score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Trees.
    Tree,
    /// Chains.
    Chain {
        /// What stands in the way of trees.
        reason: String,
    },
}

/// Why a standard export cannot be rewritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RewriteError {
    /// An operator takes keys and values that is not known to mask rows.
    #[error(
        "`{node}` takes keys and values, and its operator `{operator}` is not known here; expected GroupQueryAttention, \
         MultiHeadAttention, Attention, or attention in plain operators"
    )]
    Operator {
        /// The node.
        node: String,
        /// Its operator.
        operator: String,
    },
    /// Positions cannot be given.
    #[error(
        "the graph counts positions by rows that it has seen: it takes no `position_ids`, and no running sum of its \
         `attention_mask` was found"
    )]
    Positions,
    /// Rows cannot be masked at all.
    #[error(
        "nothing in the graph masks a row: its mask was not found ({reason}), and it takes no `attention_mask`"
    )]
    NoMask {
        /// What was looked for and found.
        reason: String,
    },
}

/// The graph with the interface of [`layout`](crate::layout), and what it can score.
///
/// # Errors
/// [`RewriteError`].
pub fn rewrite(mut model: Model, interface: &Interface) -> Result<(Model, Fit), RewriteError> {
    let graph = model.graph.take().unwrap_or_default();
    let weights = weights(&graph, interface);
    let masks = graph.inputs.iter().any(|input| input.name == ATTENTION_MASK);
    let mut edit = Edit::new(graph);
    let mut wiring = Wiring::new(&mut edit, interface);
    let fused = fused::find(&edit, interface)?;
    let plain = plain::find(&edit, interface, fused.len());
    let counts = edit.graph.nodes.iter().any(|node| node.operator == "CumSum");
    let fit = match obstacle(&edit, interface, &fused, &plain) {
        None => Fit::Tree,
        // Without its own mask replaced, a graph masks columns by its `attention_mask`, or each layer by the bias that is fed.
        Some(reason) if fused.len() != interface.layers && (!masks || !fused.is_empty()) => {
            return Err(RewriteError::NoMask { reason });
        }
        Some(_) if !interface.positions && fused.is_empty() && !counts => {
            return Err(RewriteError::Positions);
        }
        Some(reason) => Fit::Chain { reason },
    };
    for site in &fused {
        if fit != Fit::Tree || !unfold::unfold(&mut edit, &mut wiring, interface, site) {
            fused::feed(&mut edit, &mut wiring, site, fit != Fit::Tree);
        }
    }
    if fit == Fit::Tree {
        plain.sites.iter().for_each(|site| plain::replace(&mut edit, &mut wiring, site));
    }
    wiring.finish(&mut edit, !fused.is_empty());
    let entry = |key: &str, value: String| Entry { key: key.to_owned(), value };
    model.metadata =
        vec![entry(MAX_CONTEXT, interface.max_context.to_string()), entry(WEIGHTS, weights.to_owned())];
    if let Fit::Chain { reason } = &fit {
        model.metadata.push(entry(CHAIN_ONLY, reason.clone()));
    }
    model.graph = Some(edit.finish());
    Ok((model, fit))
}

/// What stands in the way of trees.
fn obstacle(edit: &Edit, interface: &Interface, fused: &[Fused], plain: &Found) -> Option<String> {
    let turned = |site: &Fused| site.kind == Kind::Grouped && site.turns(edit);
    if !interface.positions && (fused.len() != interface.layers || !fused.iter().all(turned)) {
        return Some("the graph takes no `position_ids`: it counts positions by rows".to_owned());
    }
    fused.iter().find_map(|site| site.obstacle(edit)).or_else(|| plain.obstacle.clone())
}

/// How weights are held, for the metadata.
fn weights(graph: &Graph, interface: &Interface) -> &'static str {
    let mut found = if interface.cache == Element::Float { "f32" } else { "half" };
    for node in &graph.nodes {
        let rounds = edit::int(node, "accuracy_level") == Some(4);
        match &*node.operator {
            // Below that level, activations are not rounded.
            "MatMulNBits" if rounds && edit::int(node, "bits").unwrap_or(4) < 8 => return "int4",
            "MatMulNBits" if rounds => found = "int8",
            "MatMulInteger" | "DynamicQuantizeLinear" | "DynamicQuantizeMatMul" => found = "int8",
            _ => {}
        }
    }
    found
}
