//! The backend llama-cpp on the command line.

use std::path::Path;

use serde_json::Value;

use crate::harness::{failure, model, succeed, upcycle};

fn stdout(arguments: &[&str]) -> String {
    let output = succeed(upcycle().args(arguments));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "llama.cpp is quiet");
    String::from_utf8(output.stdout).unwrap()
}

fn error(arguments: &[&str]) -> String {
    failure(upcycle().args(arguments))
}

#[test]
fn a_prompt_is_answered_with_trees_as_without() {
    let model = model().display().to_string();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/llama-cpp-cpu.toml");
    let config = config.display().to_string();
    let run = |more: &[&str]| {
        let prompt = [
            "run",
            "--config",
            &config,
            "--model",
            &model,
            "--prompt",
            "Write the numbers from one to twenty, with commas.",
            "-n",
            "40",
            "--json",
        ];
        serde_json::from_str::<Value>(&stdout(&[&prompt[..], more].concat())).unwrap()
    };
    let answer = run(&["--drafter", "recycling", "--set", "drafter.budget=8"]);
    let tokens = answer["tokens"].as_array().unwrap().len() as u64;
    assert!(answer["stats"]["steps"].as_u64().unwrap() < tokens, "drafts are accepted: {answer}");
    let plain = run(&["--drafter", "none"]);
    assert_eq!(plain["tokens"], answer["tokens"], "no near-tie in this text");
}

#[test]
fn the_ready_files_are_sound_and_the_backend_is_listed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    for name in ["llama-cpp-cpu.toml", "llama-cpp-cuda.toml"] {
        let text = stdout(&["config", "check", &folder.join(name).display().to_string()]);
        assert!(text.contains("name = \"llama-cpp\"") && text.contains("[backend.llama-cpp]"), "{text}");
    }
    let list: Value = serde_json::from_str(&stdout(&["backends", "--json"])).unwrap();
    let llama = list.as_array().unwrap().iter().find(|backend| backend["name"] == "llama-cpp").unwrap();
    assert_eq!(llama["state"], "ready");
    assert!(llama["devices"].as_array().unwrap().contains(&"cpu".into()), "{llama}");
}

#[test]
fn a_missing_gpu_and_an_invalid_adapter_are_errors() {
    let model = model().display().to_string();
    let run = |set: &str| {
        error(&["run", "--model", &model, "--backend", "llama-cpp", "--set", set, "--prompt", "x"])
    };
    let gpu = run("backend.llama-cpp.n_gpu_layers=1");
    assert!(cfg!(feature = "llama-cpp-cuda") || gpu.contains("llama-cpp-cuda"), "{gpu}");
    let adapter = run(&format!("backend.llama-cpp.lora.path={model}"));
    assert!(adapter.contains("cannot apply the adapter"), "{adapter}");
    let memory = run("backend.llama-cpp.n_ctx=1000000000");
    assert!(memory.contains("MiB"), "{memory}");
    let slip = run("backend.llama-cpp.thread=2");
    assert!(slip.contains("threads"), "{slip}");
}
