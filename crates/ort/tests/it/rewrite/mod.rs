//! Graphs as Optimum and onnxruntime-genai write them, from `tests/fixtures/rewrite` and the script there.

mod kept;
mod laws;
mod refused;
mod scores;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::f16;
use tempfile::TempDir;
use upcycle_onnx::schema::{Element, Graph, Message, Model as Onnx, Tensor};
use upcycle_ort::Model;

use crate::support::load;

/// The fixtures that run. The numbers are how far their logits may differ between passes of different shapes, and from the original
/// graph.
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
/// Measured: 1e-5, 3e-3, and 7e-3 where an activation rounds the other way. Logits are up to 8.
const FLOAT: f32 = 5e-5;
const HALF: f32 = 1e-2;
const BITS: f32 = 5e-2;

/// The fixture that scores only chains.
const WINDOW: &str = "optimum-mistral-window";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/rewrite").join(name)
}

/// A copy of a fixture, so that the rewritten graph is saved beside the copy.
fn copied(name: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in fs::read_dir(fixture(name)).expect("the fixture") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("to copy");
    }
    folder
}

/// A copy with a changed graph.
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

/// The model with a last norm so large that products overflow. With activations of eight bits, which are always finite, a scale of the
/// head is NaN instead.
fn poisoned(name: &str) -> (TempDir, Arc<Model>) {
    const SCALES: &str = "lm_head.MatMul.weight_scales";
    let mut place = None;
    let folder = changed(name, |graph| {
        let ends = [SCALES, "model.norm.weight", "final_norm_layernorm.weight"];
        let last = ends
            .into_iter()
            .find_map(|end| graph.initializers.iter().position(|tensor: &Tensor| tensor.name.ends_with(end)));
        let tensor = &mut graph.initializers[last.expect("one of them")];
        let float = tensor.element == i32::from(Element::Float);
        let bytes = match (tensor.name.ends_with(SCALES), float) {
            (true, true) => f32::NAN.to_le_bytes().to_vec(),
            (true, false) => f16::NAN.to_le_bytes().to_vec(),
            (false, true) => f32::MAX.to_le_bytes().repeat(tensor.dims[0] as usize),
            (false, false) => f16::MAX.to_le_bytes().repeat(tensor.dims[0] as usize),
        };
        if tensor.raw.is_empty() {
            let offset = tensor.external.iter().find(|entry| entry.key == "offset").expect("a place");
            place = Some((offset.value.parse::<usize>().expect("a number"), bytes));
        } else {
            tensor.raw[..bytes.len()].copy_from_slice(&bytes);
        }
    });
    if let Some((offset, bytes)) = place {
        let path = folder.path().join("model.onnx.data");
        let mut data = fs::read(&path).expect("weights");
        data[offset..offset + bytes.len()].copy_from_slice(&bytes);
        fs::write(&path, data).expect("to write");
    }
    let model = load(folder.path());
    (folder, model)
}
