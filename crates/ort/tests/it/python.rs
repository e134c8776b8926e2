//! The exported graph in other programs: ONNX's checker, and Python's onnxruntime on the same tokens.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use upcycle_checkpoint::gguf::GgmlType;
use upcycle_core::{DraftTree, Row, RowSelection, TopK, TreeInput, Verifier};
use upcycle_onnx::export::WeightType;
use upcycle_ort::{Model, OrtVerifier};
use upcycle_testkit::real_model;
use upcycle_testkit::tiny::Scaling;

use crate::support::{Export, Folder, Tiny, exported, load};

const SKIPPED: i32 = 77;

/// The logits of the last token of a text.
fn last(model: &Arc<Model>, text: &[u32]) -> Vec<f32> {
    let mut verifier = OrtVerifier::new(Arc::clone(model));
    let seq = verifier.open().expect("room for one");
    let tree = DraftTree::chain(text);
    let input = TreeInput { seq, tree: &tree, rows: RowSelection::Last };
    verifier.forward(&[input], &mut TopK::new(1)).expect("a sound model");
    verifier.logits(Row { input: 0, node: text.len() - 1 }).expect("asked for").to_vec()
}

/// Compares a folder's logits with Python's. `tolerance` allows for another order of sums.
fn compare(folder: &Folder, texts: &[Vec<u32>], tolerance: f32) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tokens = folder.path.join("tokens.json");
    std::fs::write(&tokens, serde_json::to_string(texts).expect("numbers")).expect("to write");
    let output = Command::new("python3")
        .arg(root.join("tests/compare_onnx.py"))
        .args([&folder.path, &tokens])
        .env("PYTHONPATH", root.join(".cache/ort/python"))
        .output();
    let output = match output {
        Ok(output) if output.status.code() != Some(SKIPPED) => output,
        Ok(output) => return println!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => return println!("skipped: python3: {error}"),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("text");
    assert_eq!(lines.lines().count(), texts.len());
    let model = load(&folder.path);
    for (line, text) in lines.lines().zip(texts) {
        let runs: Vec<Vec<f32>> = serde_json::from_str(line).expect("two lists of logits");
        let own = last(&model, text);
        for (run, name) in runs.iter().zip(["whole", "in two parts"]) {
            assert_eq!(run.len(), own.len());
            let most = own.iter().zip(run).fold(0.0_f32, |most, (a, b)| (a - b).abs().max(most));
            println!("{} tokens {name}: logits differ by at most {most:.1e}", text.len());
            assert!(most < tolerance, "{} tokens {name}: {most}", text.len());
        }
    }
}

fn texts(vocab: u32) -> Vec<Vec<u32>> {
    let text = |len: u32| (0..len).map(|at| (at * 7919 + len * 31) % vocab).collect();
    [2, 3, 9, 30, 64].map(text).to_vec()
}

#[test]
fn tiny_models_pass_the_checker_and_score_the_same_in_python() {
    for architecture in ["llama", "qwen2", "qwen3"] {
        let tiny = Tiny { architecture, ..Tiny::default() };
        for (weights, tolerance) in [
            (WeightType::F32, 1e-3),
            (WeightType::F16, 1e-3),
            (WeightType::Int8, 0.5),
            (WeightType::Int4, 0.5),
        ] {
            compare(&tiny.export(weights), &texts(96), tolerance);
        }
    }
}

/// Covers rotation by halves, scaling, shards, and a window whose positions the graph counts by itself.
#[test]
fn models_from_safetensors_pass_the_checker_and_score_the_same_in_python() {
    let tiny = |architecture| Tiny { architecture, ..Tiny::default() };
    for (tiny, stored, shards) in [
        (Tiny { scaling: Scaling::Yarn, ..tiny("llama") }, GgmlType::Bf16, true),
        (Tiny { scaling: Scaling::Llama3, untied: true, ..tiny("llama") }, GgmlType::F16, false),
        (Tiny { window: Some((6, 1)), ..tiny("qwen2") }, GgmlType::F32, true),
        (Tiny { scaling: Scaling::Linear, ..tiny("qwen3") }, GgmlType::F32, false),
    ] {
        for (weights, tolerance) in [(WeightType::F32, 1e-3), (WeightType::Int4, 0.5)] {
            compare(&tiny.export_folder(stored, shards, weights), &texts(96), tolerance);
        }
    }
}

#[test]
fn the_real_model_passes_the_checker_and_scores_the_same_in_python() {
    compare(&exported(&real_model(), WeightType::F32), &texts(40_000), 1e-3);
}
