//! Damaged graphs, each loaded and run in a child process. No file may end that process.
//!
//! `UPCYCLE_DAMAGED_FILES` sets how many files there are, and `UPCYCLE_DAMAGED_FROM` the first.

#[path = "it/support.rs"]
mod support;

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;

use upcycle_checkpoint::trial::try_loads_in;
use upcycle_core::{DraftTree, RowSelection, TopK, TreeInput, Verifier};
use upcycle_onnx::export::WeightType;
use upcycle_onnx::layout::MODEL_FILE;
use upcycle_onnx::schema::{Graph, Message, Model as Onnx};
use upcycle_ort::{Model, Options, OrtVerifier, answer_trial};
use upcycle_testkit::damaged::{Progress, use_in_children};

use support::{Export, Tiny, options};

/// Files of a run in the normal suite.
const FILES: u64 = 60;

const TRIAL: &str = "--trial";

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == TRIAL) {
        return answer_trial();
    }
    use_in_children(FILES, use_files)
}

fn use_files(files: Range<u64>, report: &mut dyn FnMut(Progress)) {
    let program = std::env::current_exe().expect("the path of this program");
    try_loads_in(program, vec![TRIAL.to_owned()]);
    let folders = [WeightType::F32, WeightType::Int8, WeightType::Int4]
        .map(|weights| Tiny { layers: 1, ..Tiny::default() }.export(weights));
    let sound = folders.each_ref().map(|folder| fs::read(folder.path.join(MODEL_FILE)).expect("written"));
    for number in files {
        report(Progress::File(number));
        let mut rng = fastrand::Rng::with_seed(number);
        let kind = rng.usize(..folders.len());
        let path = folders[kind].path.join(MODEL_FILE);
        fs::write(&path, damaged(&sound[kind], &mut rng)).expect("to write");
        // Some with a trial: no damage may end the process, with or without one.
        if use_file(&path, &Options { isolate: number.is_multiple_of(8), ..options() }).is_ok() {
            report(Progress::Usable);
        }
    }
}

/// Loads a graph, and scores a tree.
fn use_file(path: &Path, options: &Options) -> Result<(), Box<dyn std::error::Error>> {
    let mut verifier = OrtVerifier::new(Model::load(path, options)?);
    let seq = verifier.open()?;
    let tree = DraftTree::chain(&[1, 2, 3]);
    verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut TopK::new(1))?;
    Ok(())
}

/// The sound file with some damage, half of the time to its bytes.
fn damaged(sound: &[u8], rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut file = sound.to_vec();
    if rng.bool() {
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..file.len());
            file[at] = [0, 1, 0x7f, 0x80, 0xff, rng.u8(..)][rng.usize(..6)];
        }
        return file;
    }
    let Ok(mut model) = Onnx::decode(sound) else { return file };
    if let Some(graph) = model.graph.as_mut() {
        for _ in 0..rng.usize(1..3) {
            change(graph, rng);
        }
    }
    file = model.encode_to_vec();
    file
}

/// Operators that expect other inputs and attributes than those that they take the place of.
const OPERATORS: &[&str] = &[
    "Add",
    "MatMul",
    "Reshape",
    "Gather",
    "Slice",
    "Concat",
    "Split",
    "Softmax",
    "Transpose",
    "Cast",
    "Shape",
    "Expand",
    "Where",
    "Loop",
    "If",
    "Scan",
    "Einsum",
    "Resize",
    "Conv",
    "Pad",
    "TopK",
    "ScatterND",
    "LayerNormalization",
    "Tile",
    "Range",
    "OneHot",
    "GatherND",
    "MatMulInteger",
    "QuantizeLinear",
    "Unsqueeze",
    "Attention",
    "RotaryEmbedding",
];

/// Numbers at an edge.
const NUMBERS: &[i64] = &[0, 1, -1, 2, 3, 7, 64, 1 << 16, 1 << 31, 1 << 40, i64::MAX, i64::MIN];

fn change(graph: &mut Graph, rng: &mut fastrand::Rng) {
    let at = rng.usize(..graph.nodes.len());
    let other = graph.nodes[rng.usize(..graph.nodes.len())].outputs.first().cloned().unwrap_or_default();
    let number = NUMBERS[rng.usize(..NUMBERS.len())];
    let constant = rng.usize(..graph.initializers.len().max(1));
    match rng.u8(..12) {
        0 => graph.nodes[at].operator = OPERATORS[rng.usize(..OPERATORS.len())].to_owned(),
        1 => {
            if let Some(input) = graph.nodes[at].inputs.first_mut() {
                *input = other;
            }
        }
        2 => graph.nodes[at].inputs.push(other),
        3 => graph.nodes[at].inputs.clear(),
        4 => graph.nodes[at].outputs.push(format!("more{number}")),
        5 => graph.nodes[at].outputs = vec![other],
        6 => {
            if let Some(attribute) = graph.nodes[at].attributes.first_mut() {
                (attribute.int, attribute.kind) = (number, rng.i32(0..15));
                attribute.ints.push(number);
            }
        }
        7 => {
            graph.nodes.remove(at);
        }
        8 => graph.nodes.swap(at, 0),
        9 => {
            if let Some(tensor) = graph.initializers.get_mut(constant) {
                tensor.dims.push(number);
            }
        }
        10 => {
            if let Some(tensor) = graph.initializers.get_mut(constant) {
                tensor.element = rng.i32(0..24);
            }
        }
        _ => {
            if let Some(tensor) = graph.initializers.get_mut(constant)
                && let Some(first) = tensor.raw.get_mut(..8)
            {
                first.copy_from_slice(&number.to_le_bytes());
            }
        }
    }
}
