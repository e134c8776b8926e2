//! Exports of folders with safetensors.

use std::fs;
use std::path::Path;

use safetensors::Dtype;
use serde_json::Value;
use tempfile::TempDir;
use upcycle_checkpoint::{CheckpointError, HyperparameterError};
use upcycle_onnx::export::{CONFIG_FILE, ExportError, ExportOptions, WeightType, export};
use upcycle_onnx::layout::{DATA_FILE, MODEL_FILE};
use upcycle_testkit::tiny::{Stored, Tiny, random, write, write_safetensors};
use upcycle_text::{ChatTemplate, Tokenizer};

fn folder(tiny: &Tiny) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny.write_folder(folder.path(), false);
    tiny.write_text(folder.path());
    folder
}

/// Exports into a temporary folder, and checks that a failure leaves no files.
fn exported(model: &Path, weights: WeightType) -> Result<TempDir, ExportError> {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let to = parent.path().join("exported");
    let mut options = ExportOptions::default();
    options.weights = weights;
    let result = export(model, &to, options, &mut |_, _| ());
    if let Err(error) = &result {
        println!("{error}");
        assert_eq!(fs::read_dir(parent.path()).expect("the folder").count(), 0, "no files are left");
    }
    result.map(|_| parent)
}

fn refusal(model: &Path) -> ExportError {
    exported(model, WeightType::F32).expect_err("refused")
}

/// The error for a valid folder with a changed `config.json`.
fn changed(change: impl FnOnce(&mut Value)) -> ExportError {
    let tiny = Tiny::default();
    let folder = folder(&tiny);
    let mut config = tiny.config();
    change(&mut config);
    fs::write(folder.path().join("config.json"), config.to_string()).expect("to write");
    refusal(folder.path())
}

/// A valid folder with other values in one tensor.
fn with_vector(name: &str, values: &[f32]) -> TempDir {
    let tiny = Tiny { layers: 1, ..Tiny::default() };
    let folder = folder(&tiny);
    let shapes = [
        ("token_embd", vec![64, 96]),
        ("blk.0.attn_norm", vec![64]),
        ("blk.0.attn_q", vec![64, 64]),
        ("blk.0.attn_k", vec![64, 32]),
        ("blk.0.attn_v", vec![64, 32]),
        ("blk.0.attn_output", vec![64, 64]),
        ("blk.0.ffn_norm", vec![64]),
        ("blk.0.ffn_gate", vec![64, 128]),
        ("blk.0.ffn_up", vec![64, 128]),
        ("blk.0.ffn_down", vec![128, 64]),
        ("output_norm", vec![64]),
    ];
    let stored = shapes.into_iter().map(|(part, shape)| {
        let own = if part == name { values.to_vec() } else { random(part, &shape) };
        let bytes = own.iter().flat_map(|value| value.to_le_bytes()).collect();
        Stored { name: format!("{part}.weight"), dtype: Dtype::F32, shape, bytes }
    });
    write_safetensors(&tiny, stored.collect(), folder.path(), false);
    folder
}

#[test]
fn tokenizer_files_of_a_folder_are_copied() {
    let folder = folder(&Tiny::default());
    for path in [folder.path().to_owned(), folder.path().join("config.json")] {
        let exported = exported(&path, WeightType::F32).expect("a valid model");
        let to = exported.path().join("exported");
        let mut names: Vec<_> =
            fs::read_dir(&to).expect("written").flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        let expected = [
            "chat_template.jinja",
            "generation_config.json",
            MODEL_FILE,
            DATA_FILE,
            "tokenizer.json",
            "tokenizer_config.json",
            CONFIG_FILE,
        ];
        assert_eq!(names, expected);
        let [source, copied] = [folder.path(), &to].map(|folder| {
            let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json")).expect("a tokenizer");
            let template =
                ChatTemplate::from_folder(folder, tokenizer.template_tokens()).expect("a template");
            (tokenizer.fingerprint(), tokenizer.eos_ids().to_vec(), template.map(|it| it.source().to_owned()))
        });
        assert_eq!(source, copied);
        assert_eq!(source.1, [0, 1], "from generation_config.json");
    }
}

#[test]
fn a_missing_or_mismatched_tokenizer_is_refused() {
    let folder = folder(&Tiny::default());
    let file = folder.path().join("tokenizer.json");
    let mut tokens: Value = serde_json::from_slice(&fs::read(&file).expect("written")).expect("JSON");
    tokens["model"]["vocab"]["one more"] = 96.into();
    fs::write(&file, tokens.to_string()).expect("to write");
    assert!(matches!(refusal(folder.path()), ExportError::Vocabulary { tokenizer: 97, model: 96 }));
    fs::remove_file(&file).expect("to remove");
    assert!(matches!(refusal(folder.path()), ExportError::Text(_)));
}

#[test]
fn unknown_and_incomplete_models_are_refused() {
    use CheckpointError::{File, Hyperparameters, MissingTensor, UnknownTensor};
    use HyperparameterError::{Shape, UnknownArchitecture};
    let is = |error: ExportError| match error {
        ExportError::Checkpoint(error) => error,
        other => panic!("{other:?}"),
    };
    let unknown = is(changed(|config| config["model_type"] = "mamba".into()));
    assert!(
        matches!(&unknown, Hyperparameters(UnknownArchitecture { found, .. }) if found == "mamba"),
        "{unknown:?}"
    );
    let untied = is(changed(|config| config["tie_word_embeddings"] = false.into()));
    assert!(matches!(&untied, MissingTensor { tensor, .. } if tensor == "lm_head.weight"), "{untied:?}");
    let narrow = is(changed(|config| config["intermediate_size"] = 96.into()));
    assert!(
        matches!(&narrow, Hyperparameters(Shape { tensor, .. }) if tensor == "model.layers.0.mlp.gate_proj.weight"),
        "{narrow:?}"
    );
    let fewer = is(changed(|config| config["num_hidden_layers"] = 1.into()));
    assert!(matches!(&fewer, UnknownTensor { .. }), "{fewer:?}");
    let empty = tempfile::tempdir().expect("a folder");
    assert!(matches!(is(refusal(empty.path())), File { path, .. } if path.ends_with("config.json")));
    let folder = folder(&Tiny::default());
    fs::remove_file(folder.path().join("model.safetensors")).expect("to remove");
    assert!(matches!(is(refusal(folder.path())), File { path, .. } if path.ends_with("model.safetensors")));
}

/// int8 and int4 graphs round activations to 8 bits, which loses NaN. So weights must be finite.
#[test]
fn weights_that_are_not_finite_are_refused() {
    for (part, here) in [
        ("output_norm", "model.norm.weight"),
        ("blk.0.ffn_norm", "model.layers.0.post_attention_layernorm.weight"),
        ("blk.0.ffn_up", "model.layers.0.mlp.up_proj.weight"),
    ] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![1.0; if part == "blk.0.ffn_up" { 64 * 128 } else { 64 }];
            values[7] = bad;
            let folder = with_vector(part, &values);
            for weights in WeightType::ALL {
                let error = exported(folder.path(), weights).expect_err("refused");
                assert!(
                    matches!(&error, ExportError::Checkpoint(CheckpointError::NotFinite { tensor }) if tensor == here),
                    "{part}, {bad}, {weights:?}: {error:?}"
                );
            }
        }
    }
}

#[test]
fn a_weight_too_large_for_half_precision_is_refused_only_there() {
    let tiny = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..Tiny::default() };
    let file = write(&tiny.writer(None));
    let error = exported(file.path(), WeightType::F16).expect_err("refused");
    assert!(
        matches!(&error, ExportError::Half { tensor, .. } if tensor == "blk.0.ffn_up.weight"),
        "{error:?}"
    );
    for weights in [WeightType::F32, WeightType::Int8, WeightType::Int4] {
        exported(file.path(), weights).expect("finite weights");
    }
}
