//! What a graph is: recognised from its inputs and outputs before the runtime sees it.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use upcycle_onnx::layout::{
    ATTN_BIAS, INPUT_IDS, LOGITS, MAX_CONTEXT, MODEL_FILE, OUTPUT_ROWS, PAST_BIAS, POSITION_IDS, Part,
    WEIGHTS,
};
use upcycle_onnx::schema::{Element, Extent, Graph, Message, Model, Tensor, ValueInfo};

use crate::{GraphError, LoadError};

/// The widest row of logits, keys or values that is believed.
const MAX_WIDTH: usize = 1 << 24;

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
}

/// How the weights are held, which says how a pass rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// In `f32`.
    Float,
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

    /// Reads the graph at `path`: the file, or the folder that it lies in.
    pub(crate) fn read(path: &Path) -> Result<Self, LoadError> {
        let path = if path.is_dir() { path.join(MODEL_FILE) } else { path.to_owned() };
        let model = open(&path)?;
        let not_onnx = || LoadError::NotOnnx { path: path.clone(), source: None };
        let graph = model.graph.as_ref().ok_or_else(not_onnx)?;
        if graph.nodes.is_empty() || graph.outputs.is_empty() {
            return Err(not_onnx());
        }
        let recognised = recognise(&model, graph);
        let mut ready = recognised.map_err(|source| LoadError::Graph { path: path.clone(), source })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        graph.initializers.iter().try_for_each(|tensor| check_external(folder, tensor))?;
        ready.path = path;
        Ok(ready)
    }
}

/// Reads and decodes a file.
fn open(path: &Path) -> Result<Model, LoadError> {
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
    Model::decode(&start[..])
        .map_err(|error| LoadError::NotOnnx { path: path.to_owned(), source: Some(error) })
}

/// Sees whether a weight's bytes are there.
fn check_external(folder: &Path, tensor: &Tensor) -> Result<(), LoadError> {
    if tensor.location != Tensor::EXTERNAL {
        return Ok(());
    }
    let value = |key: &str| tensor.external.iter().find(|entry| entry.key == key).map(|entry| &*entry.value);
    let number = |key: &str| value(key).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    let path = folder.join(value("location").unwrap_or_default());
    let (offset, length) = (number("offset"), number("length"));
    let found = fs::metadata(&path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len());
    if found.is_some_and(|bytes| offset.checked_add(length).is_some_and(|end| end <= bytes)) {
        return Ok(());
    }
    Err(LoadError::ExternalData { tensor: tensor.name.clone(), path, offset, length, found })
}

fn recognise(model: &Model, graph: &Graph) -> Result<TreeReady, GraphError> {
    if let Some(standard) = standard_marker(graph) {
        return Err(GraphError::Standard { marker: standard });
    }
    if !graph.outputs.iter().any(|output| output.name != LOGITS) {
        return Err(GraphError::NoCache { found: names(&graph.outputs) });
    }
    let layers = (0..).take_while(|&layer| has(&graph.inputs, &Part::Key.past_name(layer))).count();
    let vector = |name| check(find("input", &graph.inputs, name)?, Element::Int64, &[None]);
    for name in [INPUT_IDS, POSITION_IDS, OUTPUT_ROWS] {
        vector(name)?;
    }
    check(find("input", &graph.inputs, ATTN_BIAS)?, Element::Float, &[None, None])?;
    check(find("input", &graph.inputs, PAST_BIAS)?, Element::Float, &[None])?;
    let logits = find("output", &graph.outputs, LOGITS)?;
    let vocab = size(logits, 2, 1)?;
    check(logits, Element::Float, &[None, Some(vocab)])?;
    let first = find("input", &graph.inputs, &Part::Key.past_name(0))?;
    let (kv_heads, head) = (size(first, 3, 1)?, size(first, 3, 2)?);
    if kv_heads * head > MAX_WIDTH {
        let (name, expected) = (first.name.clone(), format!("rows of at most {MAX_WIDTH} numbers"));
        return Err(GraphError::Shape { name, expected, found: shown(&dims(first)) });
    }
    for layer in 0..layers {
        for part in Part::ALL {
            let row = [None, Some(kv_heads), Some(head)];
            check(find("input", &graph.inputs, &part.past_name(layer))?, Element::Float, &row)?;
            check(find("output", &graph.outputs, &part.new_name(layer))?, Element::Float, &row)?;
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
        return Err(GraphError::Unknown { kind: "input", name: other.name.clone() });
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
        Some("int8") => Rounding::Int8,
        Some("int4") => Rounding::Int4,
        _ => return Err(wrong(WEIGHTS, "`f32`, `f16`, `int8` or `int4`")),
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
    })
}

/// The input by which a standard export of a language model is known.
fn standard_marker(graph: &Graph) -> Option<String> {
    let standard = |name: &str| name == "attention_mask" || name.starts_with("past_key_values.");
    graph.inputs.iter().find(|input| standard(&input.name)).map(|input| input.name.clone())
}

fn has(values: &[ValueInfo], name: &str) -> bool {
    values.iter().any(|value| value.name == name)
}

fn names(values: &[ValueInfo]) -> String {
    let shown = values.iter().take(8).map(|value| format!("`{}`", value.name));
    let more = if values.len() > 8 { format!(" and {} more", values.len() - 8) } else { String::new() };
    format!("{}{more}", shown.collect::<Vec<_>>().join(", "))
}

fn find<'a>(kind: &'static str, values: &'a [ValueInfo], name: &str) -> Result<&'a ValueInfo, GraphError> {
    values.iter().find(|value| value.name == name).ok_or_else(|| GraphError::Missing {
        kind,
        name: name.to_owned(),
        found: names(values),
    })
}

/// The dimensions of a value: a size, or none where it differs from pass to pass.
fn dims(value: &ValueInfo) -> Vec<Option<i64>> {
    let tensor = value.kind.as_ref().and_then(|kind| kind.tensor.as_ref());
    let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
    let dims = shape.map(|shape| &shape.dims[..]).unwrap_or_default().iter();
    dims.map(|dimension| match dimension.extent {
        Some(Extent::Value(size)) => Some(size),
        _ => None,
    })
    .collect()
}

fn shown(dims: &[Option<i64>]) -> String {
    let dims = dims.iter().map(|dimension| dimension.map_or("any".to_owned(), |size| size.to_string()));
    format!("[{}]", dims.collect::<Vec<_>>().join(", "))
}

/// A fixed dimension of a value of this rank.
fn size(value: &ValueInfo, rank: usize, index: usize) -> Result<usize, GraphError> {
    let dims = dims(value);
    let size = dims.get(index).copied().flatten().filter(|&size| size > 0 && dims.len() == rank);
    size.and_then(|size| usize::try_from(size).ok()).filter(|&size| size <= MAX_WIDTH).ok_or_else(|| {
        GraphError::Shape {
            name: value.name.clone(),
            expected: format!("{rank} dimensions, a size for dimension {index}"),
            found: shown(&dims),
        }
    })
}

/// Checks type and shape; none stands for a dimension that differs from pass to pass.
fn check(value: &ValueInfo, element: Element, expected: &[Option<usize>]) -> Result<(), GraphError> {
    let found = value.kind.as_ref().and_then(|kind| kind.tensor.as_ref()).map_or(0, |tensor| tensor.element);
    if found != i32::from(element) {
        let found = Element::try_from(found).unwrap_or(Element::Undefined);
        return Err(GraphError::Element {
            name: value.name.clone(),
            expected: format!("{element:?}").to_lowercase(),
            found: format!("{found:?}").to_lowercase(),
        });
    }
    let expected: Vec<Option<i64>> = expected.iter().map(|size| size.map(|size| size as i64)).collect();
    let dims = dims(value);
    if dims == expected {
        return Ok(());
    }
    Err(GraphError::Shape { name: value.name.clone(), expected: shown(&expected), found: shown(&dims) })
}

/// The operator sets of a graph, as a list.
fn opsets(model: &Model) -> String {
    let name = |domain: &str| if domain.is_empty() { "ai.onnx" } else { domain }.to_owned();
    let sets = model.opsets.iter().map(|opset| format!("{} {}", name(&opset.domain), opset.version));
    sets.collect::<Vec<_>>().join(", ")
}
