//! The small graphs that work on device memory.

use upcycle_onnx::layout::LOGITS;
use upcycle_onnx::schema::{
    Dimension, Element, Extent, Graph, IR_VERSION, Kind, Message, Model, Node, OperatorSet, Shape, Tensor,
    TensorKind, ValueInfo,
};

/// The operator set of these graphs.
const OPSET: i64 = 13;

/// Copies `numbers [n]` to `copied [n]`.
pub(crate) fn copy() -> Vec<u8> {
    let any = [None];
    model(Graph {
        name: "copy".to_owned(),
        nodes: vec![node("Identity", &["numbers"], &["copied"])],
        inputs: vec![value("numbers", Element::Float, &any)],
        outputs: vec![value("copied", Element::Float, &any)],
        ..Graph::default()
    })
}

/// Copies the rows `from [m]` of `buffer [rows, row]` to `kept [m, row]`.
pub(crate) fn gather() -> Vec<u8> {
    let rows = [None, None];
    model(Graph {
        name: "gather".to_owned(),
        nodes: vec![node("Gather", &["buffer", "from"], &["kept"])],
        inputs: vec![value("buffer", Element::Float, &rows), value("from", Element::Int64, &[None])],
        outputs: vec![value("kept", Element::Float, &rows)],
        ..Graph::default()
    })
}

/// Writes `kept [m, row]` to the rows `to [m, 1]` of `buffer [rows, row]`, which gives `placed [rows, row]`. `placed` may be
/// `buffer` itself.
pub(crate) fn scatter() -> Vec<u8> {
    let rows = [None, None];
    model(Graph {
        name: "scatter".to_owned(),
        nodes: vec![node("ScatterND", &["buffer", "to", "kept"], &["placed"])],
        inputs: vec![
            value("buffer", Element::Float, &rows),
            value("to", Element::Int64, &[None, Some(1)]),
            value("kept", Element::Float, &rows),
        ],
        outputs: vec![value("placed", Element::Float, &rows)],
        ..Graph::default()
    })
}

/// Ranks rows: from `logits [rows, vocab]` and `k [1]` to `best [rows, k]`, their `ids [rows, k]`, and `faults [rows, 1]`, which
/// is NaN if a logit of the row is not finite.
pub(crate) fn rank(vocab: usize) -> Vec<u8> {
    let vocab = vocab as i64;
    // Zero times anything that is not finite is NaN, and a sum keeps a NaN.
    let zeros = Tensor {
        dims: vec![vocab, 1],
        element: Element::Float.into(),
        name: "zeros".to_owned(),
        raw: vec![0; 4 * vocab as usize],
        ..Tensor::default()
    };
    model(Graph {
        name: "rank".to_owned(),
        nodes: vec![
            node("TopK", &[LOGITS, "k"], &["best", "ids"]),
            node("MatMul", &[LOGITS, "zeros"], &["faults"]),
        ],
        initializers: vec![zeros],
        inputs: vec![
            value(LOGITS, Element::Float, &[None, Some(vocab)]),
            value("k", Element::Int64, &[Some(1)]),
        ],
        outputs: vec![
            value("best", Element::Float, &[None, None]),
            value("ids", Element::Int64, &[None, None]),
            value("faults", Element::Float, &[None, Some(1)]),
        ],
        ..Graph::default()
    })
}

fn model(graph: Graph) -> Vec<u8> {
    let opsets = vec![OperatorSet { domain: String::new(), version: OPSET }];
    let model = Model { ir_version: IR_VERSION, graph: Some(graph), opsets, ..Model::default() };
    model.encode_to_vec()
}

fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> Node {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Node {
        inputs: owned(inputs),
        outputs: owned(outputs),
        name: outputs.concat(),
        operator: operator.to_owned(),
        ..Node::default()
    }
}

/// An input or output. A dimension of none varies from run to run.
fn value(name: &str, element: Element, dims: &[Option<i64>]) -> ValueInfo {
    let dims = dims.iter().map(|&size| Dimension { extent: size.map(Extent::Value) });
    let shape = Some(Shape { dims: dims.collect() });
    let tensor = Some(TensorKind { element: element.into(), shape });
    ValueInfo { name: name.to_owned(), kind: Some(Kind { tensor, ..Kind::default() }) }
}
