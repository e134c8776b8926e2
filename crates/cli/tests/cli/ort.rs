//! `upcycle export`, and the exported model run by the configuration in its folder.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{self, failure, model, upcycle};

fn stdout(arguments: &[&str]) -> String {
    harness::stdout(upcycle().args(arguments))
}

fn error(arguments: &[&str]) -> String {
    failure(upcycle().args(arguments))
}

#[test]
fn an_exported_folder_runs_with_the_configuration_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("exported");
    let (path, source) = (to.display().to_string(), model().display().to_string());
    let said = stdout(&["export", &source, "--to", &path]);
    assert!(said.contains("llama with weights in f32"), "{said}");
    assert!(error(&["export", &source, "--to", &path]).contains("is there already"));

    let config = to.join("upcycle.toml").display().to_string();
    let run = |more: &[&str]| {
        let prompt =
            ["run", "--config", &config, "--prompt", "What is the capital of France?", "-n", "24", "--json"];
        let text = stdout(&[&prompt[..], more].concat());
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let answer = run(&[]);
    assert!(answer["text"].as_str().unwrap().contains("Paris"), "{answer}");
    let plain = run(&["--drafter", "none"]);
    assert_eq!(plain["tokens"], answer["tokens"], "no near-tie in this text");
    // The folder, or the graph in it.
    for model in [path.clone(), to.join("model.onnx").display().to_string()] {
        let again = run(&["--model", &model]);
        assert_eq!(again["tokens"], answer["tokens"]);
    }

    let candle = error(&["run", "--model", &path, "--prompt", "x"]);
    assert!(candle.contains("candle"), "{candle}");
    let gguf = error(&["run", "--model", &source, "--backend", "ort", "--prompt", "x"]);
    assert!(gguf.contains("upcycle export"), "{gguf}");

    // A tokenizer with one token more than the model has.
    let file = to.join("tokenizer.json");
    let whole = fs::read_to_string(&file).unwrap();
    let mut tokens: Value = serde_json::from_str(&whole).unwrap();
    tokens["model"]["vocab"]["one more"] = 49_152.into();
    fs::write(&file, tokens.to_string()).unwrap();
    let differs = error(&["run", "--config", &config, "--prompt", "x"]);
    assert!(differs.contains("49153") && differs.contains("49152"), "{differs}");
    fs::remove_file(&file).unwrap();
    let missing = error(&["run", "--config", &config, "--prompt", "x"]);
    assert!(missing.contains("no tokenizer") && missing.contains("tokenizer.json"), "{missing}");
}

#[test]
fn the_ready_files_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    for name in ["ort-cpu.toml", "ort-cuda.toml"] {
        let text = stdout(&["config", "check", &folder.join(name).display().to_string()]);
        assert!(text.contains("name = \"ort\"") && text.contains("[backend.ort]"), "{text}");
    }
}

#[test]
fn the_providers_of_the_library_are_listed() {
    let list: Value = serde_json::from_str(&stdout(&["backends", "--json"])).unwrap();
    let ort = &list[1];
    assert_eq!((&ort["name"], &ort["state"]), (&"ort".into(), &"ready".into()));
    assert!(ort["devices"].as_array().unwrap().contains(&"cpu".into()), "{ort}");
}

#[test]
fn a_library_that_is_named_and_cannot_be_used_is_an_error_that_says_what_to_run() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libonnxruntime.so");
    fs::write(&library, "no library").unwrap();
    let text = harness::stdout(upcycle().arg("backends").env("ORT_DYLIB_PATH", &library));
    assert!(text.contains("compiled in, but") && text.contains("./scripts/setup-ort.sh"), "{text}");
}
