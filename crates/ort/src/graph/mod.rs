//! What a graph is: recognised from its inputs and outputs before the runtime sees it.

mod folder;
mod rewritten;
mod standard;
mod values;
mod weights;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use upcycle_core::Support;
use upcycle_onnx::layout::{
    ATTN_BIAS, CHAIN_ONLY, INPUT_IDS, LOGITS, MAX_CONTEXT, OUTPUT_ROWS, PAST_BIAS, POSITION_IDS, Part,
    WEIGHTS,
};
use upcycle_onnx::schema::{Element, Graph, Message, Model};

use crate::{GraphError, LoadError};
use values::{MAX_WIDTH, check, dims, find, has, names, opsets, shown, size};

/// The layout as errors call it.
const LAYOUT: &str = "the tree-ready layout";

/// What a protobuf holds at most.
const PROTOBUF_LIMIT: u64 = (1 << 31) - 1;

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
    /// Width of a head.
    pub(crate) head: usize,
    pub(crate) rounding: Rounding,
    pub(crate) support: Support,
}

/// Where the runtime reads the graph.
#[derive(Debug)]
pub(crate) enum Source {
    /// In a file.
    File(PathBuf),
    /// In memory, with weights in this folder.
    Memory { bytes: Vec<u8>, folder: PathBuf },
}

/// How the weights are held, which says how a pass rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// In `f32`.
    Float,
    /// In half precision, and so is what is computed with them.
    Half,
    /// In eight bits; activations are rounded to eight bits too.
    Int8,
    /// In four bits, and activations rounded to eight.
    Int4,
}

impl TreeReady {
    /// Numbers of a row of keys or values.
    pub(crate) fn row(&self) -> usize {
        self.kv_heads * self.head
    }

    /// Reads the graph at `path`: the file, or the folder that it lies in. A standard export is rewritten.
    pub(crate) fn read(path: &Path) -> Result<(Self, Source), LoadError> {
        let path = if path.is_dir() { folder::graph_in(path) } else { path.to_owned() };
        let (bytes, model) = open(&path)?;
        let graph = the_graph(&path, &model)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        if standard::marker(graph).is_some() {
            weights::check(folder, graph)?;
            return rewritten::open(&path, bytes, model);
        }
        let ready = Self::recognise(&path, &model)?;
        weights::check(folder, graph)?;
        Ok((ready, Source::File(path)))
    }

    /// Recognises a tree-ready graph.
    fn recognise(path: &Path, model: &Model) -> Result<Self, LoadError> {
        let recognised = recognise(model, the_graph(path, model)?);
        let mut ready = recognised.map_err(|source| LoadError::Graph { path: path.to_owned(), source })?;
        path.clone_into(&mut ready.path);
        Ok(ready)
    }
}

/// The graph of a model that has one.
fn the_graph<'a>(path: &Path, model: &'a Model) -> Result<&'a Graph, LoadError> {
    let graph = model.graph.as_ref().filter(|graph| !graph.nodes.is_empty() && !graph.outputs.is_empty());
    graph.ok_or_else(|| LoadError::NotOnnx { path: path.to_owned(), source: None })
}

/// Reads and decodes a file.
fn open(path: &Path) -> Result<(Vec<u8>, Model), LoadError> {
    let failed = |source| LoadError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let mut start = Vec::new();
    file.by_ref().take(4).read_to_end(&mut start).map_err(failed)?;
    if start == b"GGUF" {
        return Err(LoadError::Gguf { path: path.to_owned() });
    }
    if bytes > PROTOBUF_LIMIT {
        return Err(LoadError::TooLarge { path: path.to_owned(), bytes });
    }
    file.read_to_end(&mut start).map_err(failed)?;
    let model = Model::decode(&start[..])
        .map_err(|error| LoadError::NotOnnx { path: path.to_owned(), source: Some(error) })?;
    Ok((start, model))
}

fn recognise(model: &Model, graph: &Graph) -> Result<TreeReady, GraphError> {
    if !graph.outputs.iter().any(|output| output.name != LOGITS) {
        return Err(GraphError::NoCache { found: names(&graph.outputs) });
    }
    let layers = (0..).take_while(|&layer| has(&graph.inputs, &Part::Key.past_name(layer))).count();
    let vector = |name| check(find((LAYOUT, "input"), &graph.inputs, name)?, Element::Int64, &[None]);
    for name in [INPUT_IDS, POSITION_IDS, OUTPUT_ROWS] {
        vector(name)?;
    }
    check(find((LAYOUT, "input"), &graph.inputs, ATTN_BIAS)?, Element::Float, &[None, None])?;
    check(find((LAYOUT, "input"), &graph.inputs, PAST_BIAS)?, Element::Float, &[None])?;
    let logits = find((LAYOUT, "output"), &graph.outputs, LOGITS)?;
    let vocab = size(logits, 2, 1)?;
    check(logits, Element::Float, &[None, Some(vocab)])?;
    let first = find((LAYOUT, "input"), &graph.inputs, &Part::Key.past_name(0))?;
    let (kv_heads, head) = (size(first, 3, 1)?, size(first, 3, 2)?);
    if kv_heads * head > MAX_WIDTH {
        let (name, expected) = (first.name.clone(), format!("rows of at most {MAX_WIDTH} numbers"));
        return Err(GraphError::Shape { name, expected, found: shown(&dims(first)) });
    }
    for layer in 0..layers {
        for part in Part::ALL {
            let row = [None, Some(kv_heads), Some(head)];
            check(find((LAYOUT, "input"), &graph.inputs, &part.past_name(layer))?, Element::Float, &row)?;
            check(find((LAYOUT, "output"), &graph.outputs, &part.new_name(layer))?, Element::Float, &row)?;
        }
    }
    // What is left over would not be fed.
    let known = |name: &str| {
        let layer = |layer| {
            Part::ALL.iter().any(|part| part.past_name(layer) == name || part.new_name(layer) == name)
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
        head,
        rounding,
        support: metadata(CHAIN_ONLY)
            .map_or(Support::Tree, |reason| Support::Chain { reason: reason.to_owned() }),
    })
}
