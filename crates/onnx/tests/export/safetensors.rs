//! Folders of safetensors: what is carried over, and what is refused.

use std::fs;
use std::path::Path;

use safetensors::Dtype;
use serde_json::Value;
use tempfile::TempDir;
use upcycle_checkpoint::CheckpointError;
use upcycle_checkpoint::gguf::HyperparameterError;
use upcycle_onnx::export::{CONFIG_FILE, ExportError, Options, Weights, export};
use upcycle_onnx::layout::{DATA_FILE, MODEL_FILE};
use upcycle_testkit::tiny::{Stored, Tiny, random, write, write_safetensors};
use upcycle_text::{ChatTemplate, Tokenizer};

fn folder(tiny: &Tiny) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    tiny.write_folder(folder.path(), false);
    tiny.write_text(folder.path());
    folder
}

/// Exports into a folder of its own, of which nothing is left if that fails.
fn exported(model: &Path, weights: Weights) -> Result<TempDir, ExportError> {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let to = parent.path().join("exported");
    let mut options = Options::default();
    options.weights = weights;
    let result = export(model, &to, options, &mut |_, _| ());
    if let Err(error) = &result {
        println!("{error}");
        assert_eq!(fs::read_dir(parent.path()).expect("the folder").count(), 0, "nothing is left");
    }
    result.map(|_| parent)
}

fn refusal(model: &Path) -> ExportError {
    exported(model, Weights::F32).expect_err("refused")
}

/// What is refused of a sound folder whose `config.json` was changed.
fn changed(change: impl FnOnce(&mut Value)) -> ExportError {
    let tiny = Tiny::default();
    let folder = folder(&tiny);
    let mut config = tiny.config();
    change(&mut config);
    fs::write(folder.path().join("config.json"), config.to_string()).expect("to write");
    refusal(folder.path())
}

/// A sound folder with one vector of `F32` in place of another.
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
fn the_text_layer_of_a_folder_is_carried_over() {
    let folder = folder(&Tiny::default());
    for path in [folder.path().to_owned(), folder.path().join("config.json")] {
        let exported = exported(&path, Weights::F32).expect("a sound model");
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
        let [own, carried] = [folder.path(), &to].map(|folder| {
            let tokenizer = Tokenizer::from_file(folder.join("tokenizer.json")).expect("a tokenizer");
            let template =
                ChatTemplate::from_folder(folder, tokenizer.template_tokens()).expect("a template");
            (tokenizer.fingerprint(), tokenizer.eos_ids().to_vec(), template.map(|it| it.source().to_owned()))
        });
        assert_eq!(own, carried);
        assert_eq!(own.1, [0, 1], "generation_config.json names them");
    }
}

#[test]
fn a_folder_without_a_tokenizer_or_with_another_models() {
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
fn models_that_are_not_known_or_not_whole_are_refused_by_name() {
    use CheckpointError::{File, MissingTensor, Model, UnknownTensor};
    use HyperparameterError::{Shape, UnknownArchitecture};
    let is = |error: ExportError| match error {
        ExportError::Checkpoint(error) => error,
        other => panic!("{other:?}"),
    };
    let unknown = is(changed(|config| config["model_type"] = "mamba".into()));
    assert!(matches!(&unknown, Model(UnknownArchitecture { found, .. }) if found == "mamba"), "{unknown:?}");
    let untied = is(changed(|config| config["tie_word_embeddings"] = false.into()));
    assert!(matches!(&untied, MissingTensor { tensor, .. } if tensor == "lm_head.weight"), "{untied:?}");
    let narrow = is(changed(|config| config["intermediate_size"] = 96.into()));
    assert!(
        matches!(&narrow, Model(Shape { tensor, .. }) if tensor == "model.layers.0.mlp.gate_proj.weight"),
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

/// Activations are rounded to eight bits in int8 and int4 graphs, and a NaN among them is lost there: it must not get in.
#[test]
fn a_number_that_is_not_finite_is_refused_by_the_name_of_its_tensor() {
    for (part, here) in [
        ("output_norm", "model.norm.weight"),
        ("blk.0.ffn_norm", "model.layers.0.post_attention_layernorm.weight"),
        ("blk.0.ffn_up", "model.layers.0.mlp.up_proj.weight"),
    ] {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![1.0; if part == "blk.0.ffn_up" { 64 * 128 } else { 64 }];
            values[7] = bad;
            let folder = with_vector(part, &values);
            for weights in Weights::ALL {
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
fn a_weight_beyond_half_precision_is_refused_there_alone() {
    let tiny = Tiny { poisoned: Some("blk.0.ffn_up.weight"), ..Tiny::default() };
    let file = write(&tiny.writer(None));
    let error = exported(file.path(), Weights::F16).expect_err("refused");
    assert!(
        matches!(&error, ExportError::Half { tensor, .. } if tensor == "blk.0.ffn_up.weight"),
        "{error:?}"
    );
    for weights in [Weights::F32, Weights::Int8, Weights::Int4] {
        exported(file.path(), weights).expect("finite weights");
    }
}
