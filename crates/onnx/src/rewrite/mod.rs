//! Makes graphs of other exporters tree-ready.
//!
//! Optimum and `onnxruntime-genai` write graphs with one interface, here called *Optimum-style*:
//!
//! | input | type, shape | |
//! |---|---|---|
//! | `input_ids` | int64 `[batch, rows]` | tokens |
//! | `attention_mask` | int64 `[batch, past + rows]` | 1 for rows that count |
//! | `position_ids` | int64 `[batch, rows]` | absolute positions; absent if the graph counts them itself |
//! | `past_key_values.L.key`, `.value` | `[batch, kv_heads, past, head_dim]` | committed rows of layer `L` |
//!
//! | output | type, shape | |
//! |---|---|---|
//! | `logits` | `[batch, rows, vocab]` | |
//! | `present.L.key`, `.value` | `[batch, kv_heads, past + rows, head_dim]` | all rows |
//!
//! Their attention is causal in row order, so siblings in a tree would see each other. [`rewrite`] gives such a graph the
//! interface of [`layout`](crate::layout): the tree's mask replaces the graph's own, and positions become an input. Weights stay
//! where they are, in the graph or beside it.
//!
//! # Attention
//! - `GroupQueryAttention` that only attends (and applies rotary embeddings) is expanded into plain operators over past and new
//!   rows apart, as in our own graphs, so that no key or value is copied. With other features it is kept and takes the mask as
//!   its `attention_bias`.
//! - `MultiHeadAttention` and ONNX's `Attention` are kept and take the mask in place of their own.
//! - In plain operators, the mask is the operand of the `Add` (or the condition of the `Where`) before the softmax that depends
//!   neither on tokens nor on keys and values. It is replaced if computing it takes one comparison, as a causal mask does.
//!
//! If this fails for any layer, all masks stay, and the graph scores chains only ([`TreeSupport::ChainOnly`]).
//!
//! # Copies
//! Operators that are kept take keys and values head first, and return past and new rows in one tensor. In each pass, the runtime
//! copies the past for them: it transposes and concatenates it, and plain operators repeat it for the heads of a group.

mod editor;
mod error;
mod expand;
mod fused_attention;
mod interface;
mod masks;
mod optimum;

use crate::layout::{CHAIN_ONLY, MAX_CONTEXT, WEIGHTS};
use crate::schema::{Element, Entry, Graph, Model};

use editor::{GraphEditor, int};
use fused_attention::{FusedAttention, Operator};
use interface::TreeInterface;
use masks::Masks;

pub use error::RewriteError;
pub use optimum::{ATTENTION_MASK, OptimumInterface, past_name, present_name};

/// What a rewritten graph can score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeSupport {
    /// Trees.
    Trees,
    /// Chains only.
    ChainOnly {
        /// Why not trees.
        reason: String,
    },
}

/// The graph with the interface of [`layout`](crate::layout), and what it can score.
///
/// # Errors
/// [`RewriteError`].
pub fn rewrite(mut model: Model, interface: &OptimumInterface) -> Result<(Model, TreeSupport), RewriteError> {
    let graph = model.graph.take().unwrap_or_default();
    let weights = weights(&graph, interface);
    let takes_mask = graph.inputs.iter().any(|input| input.name == ATTENTION_MASK);
    let mut editor = GraphEditor::new(graph);
    let mut tree = TreeInterface::new(&mut editor, interface);
    let fused = fused_attention::find(&editor, interface)?;
    let masks = masks::find(&editor, interface, fused.len());
    let counts_positions = editor.graph.nodes.iter().any(|node| node.operator == "CumSum");
    let support = match unsupported_reason(&editor, interface, &fused, &masks) {
        None => TreeSupport::Trees,
        // With its own masks in place, a graph must take an `attention_mask`, or a bias in each layer.
        Some(reason) if fused.len() != interface.layers && (!takes_mask || !fused.is_empty()) => {
            return Err(RewriteError::NoMask { reason });
        }
        Some(_) if !interface.positions && fused.is_empty() && !counts_positions => {
            return Err(RewriteError::Positions);
        }
        Some(reason) => TreeSupport::ChainOnly { reason },
    };
    let trees = support == TreeSupport::Trees;
    let positions = fused.iter().filter_map(|site| site.positions(&editor));
    let max_context = positions.fold(interface.max_context, usize::min);
    for site in &fused {
        if !trees || !expand::expand(&mut editor, &mut tree, interface, site) {
            fused_attention::set_mask(&mut editor, &mut tree, site, !trees);
        }
    }
    if trees {
        masks.sites.iter().for_each(|site| masks::replace(&mut editor, &mut tree, site));
    }
    tree.finish(&mut editor, !fused.is_empty());
    model.metadata = vec![Entry::new(MAX_CONTEXT, max_context), Entry::new(WEIGHTS, weights)];
    if let TreeSupport::ChainOnly { reason } = &support {
        model.metadata.push(Entry::new(CHAIN_ONLY, reason));
    }
    model.graph = Some(editor.finish());
    Ok((model, support))
}

/// Why the graph cannot score trees.
fn unsupported_reason(
    editor: &GraphEditor,
    interface: &OptimumInterface,
    fused: &[FusedAttention],
    masks: &Masks,
) -> Option<String> {
    let takes_positions =
        |site: &FusedAttention| site.operator == Operator::GroupQuery && site.rotates(editor);
    if !interface.positions && (fused.len() != interface.layers || !fused.iter().all(takes_positions)) {
        return Some("the graph takes no `position_ids`: it counts positions by rows".to_owned());
    }
    fused.iter().find_map(|site| site.unsupported_reason(editor)).or_else(|| masks.unsupported_reason.clone())
}

/// The name of the weights' type, for the metadata.
fn weights(graph: &Graph, interface: &OptimumInterface) -> &'static str {
    let mut found = if interface.cache == Element::Float { "f32" } else { "half" };
    for node in &graph.nodes {
        // Level 4 rounds activations to int8; lower levels do not.
        let rounds = int(node, "accuracy_level") == Some(4);
        match &*node.operator {
            "MatMulNBits" if rounds && int(node, "bits").unwrap_or(4) < 8 => return "int4",
            "MatMulNBits" if rounds => found = "int8",
            "MatMulInteger" | "DynamicQuantizeLinear" | "DynamicQuantizeMatMul" => found = "int8",
            _ => {}
        }
    }
    found
}
