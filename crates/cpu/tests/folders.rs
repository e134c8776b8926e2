//! Folders of safetensors that cannot be used: each gives an error that names the thing, what was expected, what was found.

mod support;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use support::{chain, options};
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_checkpoint::{CheckpointError, HyperparameterError};
use upcycle_cpu::{LoadError, Model, WeightStorage};
use upcycle_testkit::tiny::{Format, Saved, Scaling, Tiny};

fn tiny(architecture: &'static str) -> Tiny {
    Tiny { architecture, ..Tiny::default() }
}

fn folder(tiny: &Tiny, shards: bool) -> Saved {
    tiny.save(if shards { Format::Shards } else { Format::Folder })
}

fn load(path: &Path) -> Result<(), CheckpointError> {
    match Model::load(path, &options(WeightStorage::File)) {
        Ok(_) => Ok(()),
        Err(error) => {
            println!("{}", chain(&error));
            match error {
                LoadError::Checkpoint(error) => Err(error),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// What is refused of a sound model whose `config.json` was changed.
fn refusal(tiny: &Tiny, change: impl FnOnce(&mut Value)) -> CheckpointError {
    let folder = folder(tiny, false);
    let mut config = tiny.config();
    change(&mut config);
    fs::write(folder.path().join("config.json"), config.to_string()).expect("to write");
    load(folder.path()).expect_err("refused")
}

#[test]
fn a_folder_or_a_file_in_it_is_loaded() {
    let one = folder(&tiny("llama"), false);
    for name in ["", "config.json", "model.safetensors"] {
        load(&one.path().join(name)).expect("a sound model");
    }
    let two = folder(&tiny("llama"), true);
    load(&two.path().join("model.safetensors.index.json")).expect("a sound model");
}

#[test]
fn an_unknown_model_type_lists_the_known_ones() {
    for found in ["gemma", "qwen2_moe"] {
        let error = refusal(&tiny("llama"), |config| config["model_type"] = found.into());
        let expected =
            format!("`model_type`: expected one of [llama, mistral, qwen2, qwen3], found `{found}`");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn settings_that_cannot_be_are_refused_by_their_key() {
    let cases: [(&str, &str, Value); 17] = [
        ("llama", "hidden_size", 0.into()),
        ("llama", "num_hidden_layers", 4_000_000_000_u32.into()),
        ("llama", "num_key_value_heads", 3.into()),
        ("llama", "head_dim", 15.into()),
        ("llama", "rms_norm_eps", (-1.0).into()),
        ("llama", "rope_theta", 0.0.into()),
        ("llama", "hidden_act", "gelu".into()),
        ("llama", "partial_rotary_factor", 0.5.into()),
        ("llama", "quantization_config", json!({ "quant_method": "gptq" })),
        ("qwen2", "num_key_value_heads", Value::Null),
        ("qwen3", "head_dim", Value::Null),
        ("mistral", "layer_types", json!(["full_attention", "sliding_attention"])),
        ("llama", "rope_parameters.rope_type", json!({ "rope_type": "dynamic", "factor": 2.0 })),
        ("llama", "rope_parameters.factor", json!({ "type": "linear" })),
        ("llama", "rope_parameters.factor", json!({ "type": "yarn", "factor": 0.5 })),
        ("llama", "rope_parameters.truncate", json!({ "type": "yarn", "factor": 2.0, "truncate": false })),
        (
            "llama",
            "rope_parameters.high_freq_factor",
            json!({ "rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0, "high_freq_factor": 1.0 }),
        ),
    ];
    for (family, key, value) in cases {
        let error = refusal(&tiny(family), |config| {
            let place = if key.starts_with("rope_parameters.") { "rope_parameters" } else { key };
            config[place] = value.clone();
        });
        match error {
            CheckpointError::Hyperparameters(HyperparameterError::Metadata { key: named, .. }) => {
                assert_eq!(named, key);
            }
            other => panic!("{key} = {value}: {other:?}"),
        }
    }
    // Two names of one thing that say different things; a scaling with a key that is not known; a key that is missing.
    let scaled = Tiny { scaling: Scaling::Linear, ..tiny("llama") };
    let two = refusal(&scaled, |config| config["rope_parameters"] = json!({ "rope_type": "default" }));
    assert!(
        matches!(two, CheckpointError::Hyperparameters(HyperparameterError::Metadata { key, .. }) if key == "rope_scaling")
    );
    let unknown = refusal(&scaled, |config| config["rope_scaling"]["long_factor"] = json!([1.0]));
    assert!(chain(&unknown).contains("long_factor"), "{unknown:?}");
    let missing =
        refusal(&scaled, |config| drop(config.as_object_mut().map(|keys| keys.remove("vocab_size"))));
    assert!(matches!(missing, CheckpointError::Json { .. }) && chain(&missing).contains("vocab_size"));
}

#[test]
fn windows_have_to_be_said_in_full() {
    let absent = refusal(&tiny("mistral"), |config| {
        drop(config.as_object_mut().map(|keys| keys.remove("sliding_window")));
    });
    assert!(
        matches!(absent, CheckpointError::Hyperparameters(HyperparameterError::Metadata { key, .. }) if key == "sliding_window")
    );
    let windowed = Tiny { window: Some((6, 1)), ..tiny("qwen2") };
    for (key, value) in [
        ("sliding_window", Value::Null),
        ("sliding_window", 0.into()),
        ("max_window_layers", Value::Null),
        ("layer_types", json!(["full_attention"])),
        ("layer_types", json!(["full_attention", "chunked_attention"])),
    ] {
        let error = refusal(&windowed, |config| config[key] = value.clone());
        assert!(
            matches!(&error, CheckpointError::Hyperparameters(HyperparameterError::Metadata { key: named, .. }) if named == key),
            "{key} = {value}: {error:?}"
        );
    }
}

#[test]
fn tensors_are_named_as_the_folder_names_them() {
    let biased = refusal(&tiny("llama"), |config| config["attention_bias"] = true.into());
    assert!(
        matches!(&biased, CheckpointError::MissingTensor { tensor, .. } if tensor == "model.layers.0.self_attn.q_proj.bias"),
        "{biased:?}"
    );
    let untied = refusal(&tiny("llama"), |config| config["tie_word_embeddings"] = false.into());
    assert!(matches!(&untied, CheckpointError::MissingTensor { tensor, .. } if tensor == "lm_head.weight"));
    let narrow = refusal(&tiny("llama"), |config| config["intermediate_size"] = 64.into());
    assert!(
        matches!(&narrow, CheckpointError::Hyperparameters(HyperparameterError::Shape { tensor, .. }) if tensor == "model.layers.0.mlp.gate_proj.weight")
    );
    // What a model has and its architecture has not: a qwen2 that says that it is a llama.
    let other = refusal(&tiny("qwen2"), |config| config["model_type"] = "llama".into());
    assert!(matches!(&other, CheckpointError::UnknownTensor { .. }), "{other:?}");
    // A head of its own that is said to be the embedding.
    let tied = refusal(&Tiny { untied: true, ..tiny("llama") }, |config| {
        config["tie_word_embeddings"] = true.into();
    });
    assert!(
        matches!(&tied, CheckpointError::Hyperparameters(HyperparameterError::Metadata { key, .. }) if key == "tie_word_embeddings"),
        "{tied:?}"
    );
}

#[test]
fn files_that_are_not_there_or_cut_short() {
    for (file, shards) in
        [("config.json", false), ("model.safetensors", false), ("model-00002-of-00002.safetensors", true)]
    {
        let folder = folder(&tiny("qwen3"), shards);
        let path = folder.path().join(file);
        let whole = fs::read(&path).expect("to read");
        for len in [0, 3, 8, 60, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..len]).expect("to write");
            let error = load(folder.path()).expect_err("refused");
            assert!(chain(&error).contains(file), "{len} bytes: {error:?}");
        }
        fs::remove_file(&path).expect("to remove");
        let error = load(folder.path()).expect_err("refused");
        assert!(matches!(&error, CheckpointError::File { path, .. } if path.ends_with(file)), "{error:?}");
    }
}

#[test]
fn an_index_names_files_beside_it_and_each_tensor_once() {
    let folder = folder(&tiny("llama"), true);
    let index = folder.path().join("model.safetensors.index.json");
    let whole: Value = serde_json::from_slice(&fs::read(&index).expect("to read")).expect("JSON");
    for bad in ["../model.safetensors", "/etc/passwd", "a/b.safetensors", ".."] {
        let mut index_json = whole.clone();
        index_json["weight_map"]["lm_head.weight"] = bad.into();
        fs::write(&index, index_json.to_string()).expect("to write");
        let error = load(folder.path()).expect_err("refused");
        assert!(matches!(&error, CheckpointError::Index { entry, .. } if entry == bad), "{error:?}");
    }
    fs::write(&index, whole.to_string()).expect("to write");
    let names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    fs::copy(folder.path().join(names[0]), folder.path().join(names[1])).expect("to copy");
    let error = load(folder.path()).expect_err("refused");
    assert!(matches!(&error, CheckpointError::Index { .. }), "{error:?}");
}

#[test]
fn a_type_that_is_not_known_is_named() {
    let folder = folder(&tiny("llama"), false);
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).expect("to read");
    // The same length, so that the header stays sound.
    let at = bytes.windows(5).position(|word| word == b"\"F32\"").expect("a type");
    let bad = [&bytes[..at], b"\"I32\"", &bytes[at + 5..]].concat();
    fs::write(&path, bad).expect("to write");
    let error = load(folder.path()).expect_err("refused");
    assert!(matches!(&error, CheckpointError::Dtype { .. }), "{error:?}");
}

/// Old writers did not pad the header, so tensors start at any address.
#[test]
fn tensors_at_odd_addresses_are_read() {
    let tiny = Tiny { ffn: GgmlType::Bf16, ..tiny("qwen2") };
    let folder = folder(&tiny, false);
    let path = folder.path().join("model.safetensors");
    let options = options(WeightStorage::File);
    let straight = support::last_logits(Model::load(folder.path(), &options).expect("sound"));
    let bytes = fs::read(&path).expect("to read");
    let (len, rest) = bytes.split_first_chunk::<8>().expect("a header");
    let len = u64::from_le_bytes(*len);
    let (header, data) = rest.split_at(len as usize);
    let odd = [&(len + 1).to_le_bytes()[..], header, b" ", data].concat();
    fs::write(&path, odd).expect("to write");
    let shifted = support::last_logits(Model::load(folder.path(), &options).expect("sound"));
    assert_eq!(straight, shifted);
}
