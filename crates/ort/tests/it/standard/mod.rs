//! Graphs as Optimum and onnxruntime-genai write them: `tests/fixtures/standard`, and the script there that made them.

mod kept;
mod laws;
mod refused;
mod scores;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use upcycle_onnx::schema::{Element, Graph, Message, Model as Onnx, Tensor};
use upcycle_ort::Model;

use crate::support::load;

/// The fixtures that run, and how far their logits may be from each other's in passes of other shapes, and from those that the
/// original graph gave.
const TREES: [(&str, f32); 14] = [
    ("genai-llama-cuda-fp16", HALF),
    ("genai-llama-dml-fp16", HALF),
    ("genai-llama-fp16", HALF),
    ("genai-llama-fp32", FLOAT),
    ("genai-llama-int4", BITS),
    ("genai-qwen2-int8", BITS),
    ("genai-qwen3-fp32", FLOAT),
    ("optimum-llama", FLOAT),
    ("optimum-llama-eager", FLOAT),
    ("optimum-llama-fp16", HALF),
    ("optimum-llama-opset14", FLOAT),
    ("optimum-qwen2", FLOAT),
    ("optimum-qwen3", FLOAT),
    // Its window is cut out in `windowless`.
    ("optimum-mistral-window", FLOAT),
];
/// Seen: 1e-5, 3e-3, and 7e-3 where an activation rounds to the other of two bytes. Logits are up to 8.
const FLOAT: f32 = 5e-5;
const HALF: f32 = 1e-2;
const BITS: f32 = 5e-2;

/// The one that scores chains alone.
const WINDOW: &str = "optimum-mistral-window";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/standard").join(name)
}

/// A copy of a fixture, so that what is made of it is made beside the copy.
fn copied(name: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(fixture(name)).expect("the fixture") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("to copy");
    }
    folder
}

/// A copy with its graph changed.
fn changed(name: &str, change: impl FnOnce(&mut Graph)) -> TempDir {
    let folder = copied(name);
    let path = folder.path().join("model.onnx");
    let mut model = Onnx::decode(&fs::read(&path).expect("the graph")[..]).expect("a model");
    change(model.graph.as_mut().expect("a graph"));
    fs::write(&path, model.encode_to_vec()).expect("to write");
    folder
}

fn loaded(name: &str) -> (TempDir, Arc<Model>) {
    let folder = copied(name);
    let model = load(folder.path());
    (folder, model)
}

/// The model with a weight that is not a number, of its last norm or, since activations that are rounded to bytes are numbers
/// whatever they were, of its head.
fn poisoned(name: &str) -> (TempDir, Arc<Model>) {
    let mut place = None;
    let folder = changed(name, |graph| {
        let ends = ["lm_head.MatMul.weight_scales", "model.norm.weight", "final_norm_layernorm.weight"];
        let last = ends
            .into_iter()
            .find_map(|end| graph.initializers.iter().position(|tensor: &Tensor| tensor.name.ends_with(end)));
        let tensor = &mut graph.initializers[last.expect("one of them")];
        let nan =
            if tensor.element == i32::from(Element::Float) { vec![0, 0, 0xc0, 0x7f] } else { vec![0, 0x7e] };
        if tensor.raw.is_empty() {
            let offset = tensor.external.iter().find(|entry| entry.key == "offset").expect("a place");
            place = Some((offset.value.parse::<usize>().expect("a number"), nan));
        } else {
            tensor.raw[..nan.len()].copy_from_slice(&nan);
        }
    });
    if let Some((offset, nan)) = place {
        let path = folder.path().join("model.onnx.data");
        let mut data = fs::read(&path).expect("weights");
        data[offset..offset + nan.len()].copy_from_slice(&nan);
        fs::write(&path, data).expect("to write");
    }
    let model = load(folder.path());
    (folder, model)
}
