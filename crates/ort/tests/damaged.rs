//! Damaged graphs, each loaded and run in a child process. No file may end that process.
//!
//! `UPCYCLE_DAMAGED_FILES` sets how many files there are, and `UPCYCLE_DAMAGED_FROM` the first.

#[path = "it/support.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use upcycle_core::{DraftTree, RowSelection, TopK, TreeInput, Verifier};
use upcycle_onnx::export::WeightType;
use upcycle_onnx::layout::MODEL_FILE;
use upcycle_onnx::schema::{Graph, Message, Model as Onnx};
use upcycle_ort::{Model, OrtVerifier};

use support::{Export, Tiny, options};

/// Files of a run in the normal suite.
const FILES: u64 = 60;

const BATCH: &str = "--batch";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some(BATCH) => batch(&arguments[2..]),
        _ => all(),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs batches in children. One that ends early names its file, and the next one goes on after it.
fn all() -> ExitCode {
    let from = number("UPCYCLE_DAMAGED_FROM").unwrap_or(0);
    let to = from + number("UPCYCLE_DAMAGED_FILES").unwrap_or(FILES);
    let program = std::env::current_exe().expect("the path of this program");
    let (mut next, mut ended, mut loaded) = (from, Vec::new(), 0);
    while next < to {
        let mut child = Command::new(&program)
            .args([BATCH, &next.to_string(), &to.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let mut file = next;
        for line in BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok) {
            match line.split_once(' ') {
                Some(("file", number)) => file = number.parse().expect("a number"),
                Some(("loaded", _)) => loaded += 1,
                _ => {}
            }
        }
        let status = child.wait().expect("it was started");
        if status.success() {
            break;
        }
        println!("file {file}: {status}");
        ended.push(file);
        next = file + 1;
    }
    println!("{} files, {loaded} of them usable, {} ended the process", to - from, ended.len());
    assert!(loaded > 0 && loaded < to - from, "some damage matters, some does not");
    if ended.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Loads and uses the files of these numbers, and prints each number first.
fn batch(range: &[String]) -> ExitCode {
    let [from, to] = range else { return ExitCode::FAILURE };
    let (from, to): (u64, u64) = (from.parse().expect("a number"), to.parse().expect("a number"));
    let folders = [WeightType::F32, WeightType::Int8, WeightType::Int4]
        .map(|weights| Tiny { layers: 1, ..Tiny::default() }.export(weights));
    let sound = folders.each_ref().map(|folder| fs::read(folder.path.join(MODEL_FILE)).expect("written"));
    for number in from..to {
        println!("file {number}");
        let mut rng = fastrand::Rng::with_seed(number);
        let kind = rng.usize(..folders.len());
        let path = folders[kind].path.join(MODEL_FILE);
        fs::write(&path, damaged(&sound[kind], &mut rng)).expect("to write");
        if use_file(&path).is_ok() {
            println!("loaded {number}");
        }
    }
    ExitCode::SUCCESS
}

/// Loads a graph, and scores a tree.
fn use_file(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let mut verifier = OrtVerifier::new(Model::load(path, &options())?);
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
