//! Layers whose attention is one operator.

use super::editor::{GraphEditor, input, int};
use super::error::RewriteError;
use super::interface::TreeInterface;
use super::masks::{check_comparisons, depending_on, element_of};
use super::optimum::{OptimumInterface, past_name};
use crate::layout::KvPart;
use crate::schema::{Element, MICROSOFT, Node};

/// An operator that computes attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// ONNX Runtime's `GroupQueryAttention`.
    GroupQuery,
    /// ONNX Runtime's `MultiHeadAttention`.
    MultiHead,
    /// `MultiHeadAttention` over past and new rows that the graph has concatenated.
    MultiHeadJoined,
    /// ONNX's `Attention`.
    Attention,
}

impl Operator {
    fn from_node(node: &Node) -> Option<Self> {
        match (&*node.domain, &*node.operator) {
            (MICROSOFT, "GroupQueryAttention") => Some(Operator::GroupQuery),
            (MICROSOFT, "MultiHeadAttention") => Some(Operator::MultiHead),
            ("", "Attention") => Some(Operator::Attention),
            _ => None,
        }
    }

    /// The index of the input with past keys; past values follow.
    fn past_input(self) -> Option<usize> {
        match self {
            Operator::GroupQuery => Some(3),
            Operator::MultiHead => Some(6),
            Operator::Attention => Some(4),
            Operator::MultiHeadJoined => None,
        }
    }

    /// The index of the input that is added to scores.
    fn bias_input(self) -> usize {
        match self {
            Operator::GroupQuery => 10,
            Operator::MultiHead | Operator::MultiHeadJoined => 5,
            Operator::Attention => 3,
        }
    }
}

/// Input of `MultiHeadAttention`: the keys.
const KEYS: usize = 1;
/// Input of `MultiHeadAttention`: the padding mask.
const PADDING: usize = 4;
/// Inputs of `GroupQueryAttention`: the cosines and sines of each position, `[positions, head_dim / 2]`.
pub(super) const COSINES: usize = 7;
pub(super) const SINES: usize = 8;
/// Input of `GroupQueryAttention`: the positions.
const POSITIONS: usize = 9;

/// The attention operator of one layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct FusedAttention {
    /// The index of the node.
    pub(super) node: usize,
    /// The layer, if the operator takes the past directly.
    pub(super) layer: Option<usize>,
    pub(super) operator: Operator,
    /// The type that it computes in.
    element: Element,
}

impl FusedAttention {
    /// Whether it applies rotary embeddings.
    pub(super) fn rotates(&self, editor: &GraphEditor) -> bool {
        int(&editor.graph.nodes[self.node], "do_rotary").is_some_and(|on| on != 0)
    }

    /// The positions that its tables of rotary embeddings have.
    pub(super) fn positions(&self, editor: &GraphEditor) -> Option<usize> {
        let node = &editor.graph.nodes[self.node];
        let table =
            input(node, COSINES).filter(|_| self.operator == Operator::GroupQuery && self.rotates(editor))?;
        let tensor = editor.graph.initializers.iter().find(|tensor| tensor.name == table)?;
        usize::try_from(*tensor.dims.first()?).ok()
    }

    /// Why it cannot attend to trees.
    pub(super) fn unsupported_reason(&self, editor: &GraphEditor) -> Option<String> {
        let node = &editor.graph.nodes[self.node];
        let window = int(node, "local_window_size").filter(|&window| window > 0);
        if let Some(window) = window {
            return Some(format!("`{}` attends to the last {window} rows in row order", node.name));
        }
        let own = input(node, self.operator.bias_input())?;
        if self.operator == Operator::GroupQuery {
            return Some(format!("`{}` already takes a bias, `{own}`", node.name));
        }
        check_comparisons(editor, own).err()
    }
}

/// Finds these layers.
///
/// # Errors
/// [`RewriteError::Operator`].
pub(super) fn find(
    editor: &GraphEditor,
    interface: &OptimumInterface,
) -> Result<Vec<FusedAttention>, RewriteError> {
    let mut found = Vec::new();
    let site = |node, layer, operator| FusedAttention { node, layer, operator, element: interface.cache };
    for layer in 0..interface.layers {
        let names = KvPart::ALL.map(|part| past_name(part, layer));
        for (index, node) in editor.graph.nodes.iter().enumerate() {
            if !node.inputs.iter().any(|input| names.contains(input)) {
                continue;
            }
            match Operator::from_node(node) {
                Some(operator)
                    if operator.past_input().and_then(|past| input(node, past)) == Some(&names[0]) =>
                {
                    found.push(site(index, Some(layer), operator));
                }
                // A plain operator: its result is checked where it is used.
                None if node.domain.is_empty() || node.domain == "ai.onnx" => {}
                _ => {
                    let (node, operator) = (node.name.clone(), node.operator.clone());
                    return Err(RewriteError::Operator { node, operator });
                }
            }
        }
    }
    let joined = depending_on(editor, |name| interface.is_past(name));
    for (index, node) in editor.graph.nodes.iter().enumerate() {
        let multi = Operator::from_node(node) == Some(Operator::MultiHead) && input(node, 6).is_none();
        if multi && input(node, KEYS).is_some_and(|keys| joined.contains(keys)) {
            found.push(site(index, None, Operator::MultiHeadJoined));
        }
    }
    Ok(found)
}

/// Connects the tree's mask and, for rotary embeddings, positions. With `keep_own`, adds the mask to the operator's own.
pub(super) fn set_mask(
    editor: &mut GraphEditor,
    tree: &mut TreeInterface,
    site: &FusedAttention,
    keep_own: bool,
) {
    let mut bias = tree.bias(editor, site.element);
    let slot = site.operator.bias_input();
    let own = input(&editor.graph.nodes[site.node], slot).filter(|_| keep_own).map(str::to_owned);
    if let Some(own) = own {
        bias = if element_of(editor, &own) == Some(Element::Bool) {
            let never = editor.scalar(f32::NEG_INFINITY);
            let never = editor.cast(&never, Element::Float, site.element);
            editor.node("Where", &[&own, &bias, &never], &[])
        } else {
            editor.node("Add", &[&own, &bias], &[])
        };
    }
    let rotates = site.operator == Operator::GroupQuery && site.rotates(editor);
    if rotates {
        // The operator refuses a pass if past and rows together exceed its tables. In a tree they may, although no position does:
        // siblings share one.
        for slot in [COSINES, SINES] {
            if let Some(table) = input(&editor.graph.nodes[site.node], slot).map(str::to_owned) {
                editor.graph.nodes[site.node].inputs[slot] = tree.longer_table(editor, &table);
            }
        }
    }
    let node = &mut editor.graph.nodes[site.node];
    let len = node.inputs.len().max(slot + 1);
    node.inputs.resize(len, String::new());
    node.inputs[slot] = bias;
    match site.operator {
        // Without this input, the operator counts positions by rows. (With an empty past it would use the first position only;
        // the placeholder row prevents that.)
        Operator::GroupQuery if rotates => tree.positions().clone_into(&mut node.inputs[POSITIONS]),
        Operator::GroupQuery => {}
        Operator::MultiHead | Operator::MultiHeadJoined => node.inputs[PADDING].clear(),
        Operator::Attention => node.attributes.retain(|attribute| attribute.name != "is_causal"),
    }
}
