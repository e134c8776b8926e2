//! The interface of standard exports, read from their inputs and outputs.

use upcycle_onnx::layout::{INPUT_IDS, KvPart, LOGITS, POSITION_IDS};
use upcycle_onnx::rewrite::{ATTENTION_MASK, OptimumInterface, past_name, present_name};
use upcycle_onnx::schema::{Element, Graph, ValueInfo};

use super::folder::Folder;
use super::values::{MAX_WIDTH, check, dims, element, find, has, names, shown, size};
use crate::error::GraphError;

/// The name of the layout in errors.
const LAYOUT: &str = "a standard export";

/// The input that marks a standard export of a language model.
pub(super) fn marker(graph: &Graph) -> Option<&str> {
    let standard = |name: &str| name == ATTENTION_MASK || name.starts_with("past_key_values.");
    graph.inputs.iter().find(|input| standard(&input.name)).map(|input| &*input.name)
}

/// Reads the interface. The folder's settings fill in what the graph leaves out.
pub(super) fn interface(graph: &Graph, folder: &Folder) -> Result<OptimumInterface, GraphError> {
    let layers = (0..).take_while(|&layer| has(&graph.inputs, &past_name(KvPart::Key, layer))).count();
    let presents = graph.outputs.iter().filter(|output| output.name.starts_with("present")).count();
    if layers == 0 && presents == 0 {
        return Err(GraphError::NoCache { found: names(&graph.outputs) });
    }
    let input = |name: &str| find((LAYOUT, "input"), &graph.inputs, name);
    let output = |name: &str| find((LAYOUT, "output"), &graph.outputs, name);
    check(input(INPUT_IDS)?, Element::Int64, &[None, None])?;
    for name in [ATTENTION_MASK, POSITION_IDS] {
        if has(&graph.inputs, name) {
            check(input(name)?, Element::Int64, &[None, None])?;
        }
    }
    let logits = output(LOGITS)?;
    let vocab = size(logits, 3, 2)?;
    check(logits, float_type(logits)?, &[None, None, Some(vocab)])?;
    let first = input(&past_name(KvPart::Key, 0))?;
    let kv_heads = size(first, 4, 1)?;
    let named = dims(first).get(3).is_some_and(Option::is_none);
    let head_dim = if named { folder.head()? } else { size(first, 4, 3)? };
    if kv_heads.checked_mul(head_dim).is_none_or(|row| row > MAX_WIDTH) {
        let (name, expected) = (first.name.clone(), format!("rows of at most {MAX_WIDTH} elements"));
        return Err(GraphError::Shape { name, expected, found: shown(&dims(first)) });
    }
    let cache = float_type(first)?;
    for (layer, part) in (0..layers).flat_map(|layer| KvPart::ALL.map(|part| (layer, part))) {
        let rows = [None, Some(kv_heads), None, (!named).then_some(head_dim)];
        check(input(&past_name(part, layer))?, cache, &rows)?;
        check(output(&present_name(part, layer))?, cache, &rows)?;
    }
    // An unknown input would have no value.
    let known = |name: &str| {
        let cached = |layer| KvPart::ALL.iter().any(|&part| past_name(part, layer) == name);
        [INPUT_IDS, ATTENTION_MASK, POSITION_IDS].contains(&name) || (0..layers).any(cached)
    };
    if let Some(other) = graph.inputs.iter().find(|input| !known(&input.name)) {
        return Err(GraphError::Unknown { kind: "input", layout: LAYOUT, name: other.name.clone() });
    }
    let positions = has(&graph.inputs, POSITION_IDS);
    let max_context = folder.max_context()?;
    Ok(OptimumInterface { layers, kv_heads, head_dim, vocab, cache, positions, max_context })
}

/// The element type of a value, which must be `f32` or half precision.
fn float_type(value: &ValueInfo) -> Result<Element, GraphError> {
    match element(value) {
        found @ (Element::Float | Element::Float16) => Ok(found),
        found => Err(GraphError::Element {
            name: value.name.clone(),
            expected: "float or float16".to_owned(),
            found: format!("{found:?}").to_lowercase(),
        }),
    }
}
