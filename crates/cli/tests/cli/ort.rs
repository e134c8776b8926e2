//! `upcycle export`, and the exported model run by the configuration in its folder.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

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
    assert!(error(&["export", &source, "--to", &path]).contains("already exists"));

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

    let cpu = error(&["run", "--model", &path, "--prompt", "x"]);
    assert!(cpu.contains("cpu") && cpu.contains("backend.name = \"ort\""), "{cpu}");
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
    assert!(missing.contains("cannot load the tokenizer") && missing.contains("tokenizer.json"), "{missing}");
}

/// A copy of a graph as others export it, with what stands beside it.
fn exported_by_others(name: &str) -> TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ort/tests/fixtures/rewrite").join(name);
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

#[test]
fn graphs_of_other_exporters_draft_and_use_their_end_tokens() {
    for name in ["genai-llama-int4", "genai-qwen3-fp32", "optimum-llama", "optimum-mistral-window"] {
        let folder = exported_by_others(name);
        let model = folder.path().display().to_string();
        let run = |more: &[&str]| {
            let mut command = upcycle();
            command.args(["run", "--backend", "ort", "--model", &model, "--raw", "--prompt", "ABCABCABC"]);
            let output = harness::succeed(command.args(["-n", "60", "--json"]).args(more));
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            (answer, String::from_utf8(output.stderr).unwrap())
        };
        let (plain, _) = run(&["--drafter", "none", "--isolate"]);
        let (drafted, said) = run(&["--drafter", "recycling"]);
        assert_eq!(drafted["tokens"], plain["tokens"], "{name}");
        let tokens: Vec<u64> =
            plain["tokens"].as_array().unwrap().iter().map(|token| token.as_u64().unwrap()).collect();
        // 3 is named by generation_config.json and genai_config.json alone.
        let end = tokens.iter().position(|token| [1, 3].contains(token));
        assert!(end.is_none_or(|end| end + 1 == tokens.len()) && !tokens.is_empty(), "{name}: {tokens:?}");
        let chains = said.contains("scores only chains") && said.contains("2 comparisons");
        assert_eq!(chains, name == "optimum-mistral-window", "{said}");
    }
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
    let ort = list.as_array().unwrap().iter().find(|backend| backend["name"] == "ort").unwrap();
    assert_eq!(ort["state"], "ready");
    assert!(ort["devices"].as_array().unwrap().contains(&"cpu".into()), "{ort}");
}

#[test]
fn an_unusable_library_is_an_error_that_names_the_setup_script() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libonnxruntime.so");
    fs::write(&library, "no library").unwrap();
    let text = harness::stdout(upcycle().arg("backends").env("ORT_DYLIB_PATH", &library));
    assert!(text.contains("compiled in, but") && text.contains("./scripts/setup-ort.sh"), "{text}");
}

fn check_cuda() -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut command = Command::new(root.join("scripts/check-cuda.sh"));
    command.args(["--binary", env!("CARGO_BIN_EXE_upcycle")]);
    command
}

#[test]
fn the_check_of_a_gpu_says_where_there_is_none() {
    if Path::new("/dev/nvidiactl").exists() {
        return println!("skipped: there is a GPU");
    }
    let output = check_cuda().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no NVIDIA GPU") && said.contains("nothing was run"), "{said}");
    assert_eq!(output.status.code(), Some(1));
    let output = check_cuda().args(["--provider", "abacus"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cuda or cpu, not abacus"), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn the_check_of_a_gpu_can_be_rehearsed_without_one() {
    let mut command = check_cuda();
    // The laws are run by the crate's own tests.
    command.args(["--provider", "cpu", "--size", "tiny", "--tests", "/bin/true"]);
    let output = command.output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{errors}");
    for part in [
        "candle: not run, because this program was built without",
        "ort: with cpu",
        "t(n)/t(1)",
        "    81 ",
        "decoding: not run",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}
