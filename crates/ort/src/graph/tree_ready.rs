//! The tree-ready layout, recognized from a graph's inputs, outputs and metadata.

use std::path::{Path, PathBuf};

use upcycle_core::Support;
use upcycle_onnx::layout::{
    ATTN_BIAS, CHAIN_ONLY, INPUT_IDS, KvPart, LOGITS, MAX_CONTEXT, OUTPUT_ROWS, PAST_BIAS, POSITION_IDS,
    WEIGHTS,
};
use upcycle_onnx::schema::{Element, Graph, Model};

use super::file::graph_of;
use super::values::{MAX_WIDTH, check, dims, find, has, names, opsets, shown, size};
use crate::error::{GraphError, LoadError};

/// The name of the layout in errors.
const LAYOUT: &str = "the tree-ready layout";

/// A tree-ready graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TreeReady {
    pub(crate) path: PathBuf,
    /// The operator sets of the graph, as a list.
    pub(crate) opsets: String,
    pub(crate) vocab: usize,
    pub(crate) max_context: usize,
    pub(crate) layers: usize,
    pub(crate) kv_heads: usize,
    /// The width of a head.
    pub(crate) head_dim: usize,
    pub(crate) rounding: Rounding,
    pub(crate) support: Support,
}

/// The type of the weights, which decides how a pass rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// `f32`.
    Float,
    /// Half precision, for activations too.
    Half,
    /// Eight bits. Activations are rounded to eight bits too.
    Int8,
    /// Four bits. Activations are rounded to eight bits.
    Int4,
}

impl TreeReady {
    /// The length of a row of keys or values.
    pub(crate) fn row(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Recognizes a tree-ready graph.
    pub(super) fn recognize(path: &Path, model: &Model) -> Result<Self, LoadError> {
        let recognized = recognize(model, graph_of(path, model)?);
        let mut ready = recognized.map_err(|source| LoadError::Graph { path: path.to_owned(), source })?;
        path.clone_into(&mut ready.path);
        Ok(ready)
    }
}

fn recognize(model: &Model, graph: &Graph) -> Result<TreeReady, GraphError> {
    if !graph.outputs.iter().any(|output| output.name != LOGITS) {
        return Err(GraphError::NoCache { found: names(&graph.outputs) });
    }
    let layers = (0..).take_while(|&layer| has(&graph.inputs, &KvPart::Key.past_name(layer))).count();
    let vector = |name| check(find((LAYOUT, "input"), &graph.inputs, name)?, Element::Int64, &[None]);
    for name in [INPUT_IDS, POSITION_IDS, OUTPUT_ROWS] {
        vector(name)?;
    }
    check(find((LAYOUT, "input"), &graph.inputs, ATTN_BIAS)?, Element::Float, &[None, None])?;
    check(find((LAYOUT, "input"), &graph.inputs, PAST_BIAS)?, Element::Float, &[None])?;
    let logits = find((LAYOUT, "output"), &graph.outputs, LOGITS)?;
    let vocab = size(logits, 2, 1)?;
    check(logits, Element::Float, &[None, Some(vocab)])?;
    let first = find((LAYOUT, "input"), &graph.inputs, &KvPart::Key.past_name(0))?;
    let (kv_heads, head_dim) = (size(first, 3, 1)?, size(first, 3, 2)?);
    if kv_heads * head_dim > MAX_WIDTH {
        let (name, expected) = (first.name.clone(), format!("rows of at most {MAX_WIDTH} elements"));
        return Err(GraphError::Shape { name, expected, found: shown(&dims(first)) });
    }
    for layer in 0..layers {
        for part in KvPart::ALL {
            let row = [None, Some(kv_heads), Some(head_dim)];
            check(find((LAYOUT, "input"), &graph.inputs, &part.past_name(layer))?, Element::Float, &row)?;
            check(find((LAYOUT, "output"), &graph.outputs, &part.new_name(layer))?, Element::Float, &row)?;
        }
    }
    // An unknown input would have no value.
    let known = |name: &str| {
        let layer = |layer| {
            KvPart::ALL.iter().any(|part| part.past_name(layer) == name || part.new_name(layer) == name)
        };
        [INPUT_IDS, POSITION_IDS, OUTPUT_ROWS, ATTN_BIAS, PAST_BIAS].contains(&name) || (0..layers).any(layer)
    };
    if let Some(other) = graph.inputs.iter().find(|input| !known(&input.name)) {
        return Err(GraphError::Unknown { kind: "input", layout: LAYOUT, name: other.name.clone() });
    }
    let metadata = |key| model.metadata.iter().find(|entry| entry.key == key).map(|entry| &*entry.value);
    let wrong = |key, expected| GraphError::Metadata {
        key,
        expected,
        found: metadata(key).map_or("none".to_owned(), |value| format!("`{value}`")),
    };
    let max_context =
        metadata(MAX_CONTEXT).and_then(|value| value.parse().ok()).filter(|&context| context > 0);
    let rounding = match metadata(WEIGHTS) {
        Some("f32" | "f16") => Rounding::Float,
        Some("half") => Rounding::Half,
        Some("int8") => Rounding::Int8,
        Some("int4") => Rounding::Int4,
        _ => return Err(wrong(WEIGHTS, "`f32`, `f16`, `half`, `int8` or `int4`")),
    };
    Ok(TreeReady {
        path: PathBuf::new(),
        opsets: opsets(model),
        vocab,
        max_context: max_context.ok_or_else(|| wrong(MAX_CONTEXT, "a number of at least 1"))?,
        layers,
        kv_heads,
        head_dim,
        rounding,
        support: metadata(CHAIN_ONLY)
            .map_or(Support::Tree, |reason| Support::Chain { reason: reason.to_owned() }),
    })
}
