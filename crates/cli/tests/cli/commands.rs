//! The commands beside `run`.

use std::fs;
use std::path::Path;

use upcycle_checkpoint::gguf::StringArray;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_testkit::tiny::{self, Tiny};

use crate::harness::{fail, json, model, stdout, upcycle};

#[test]
fn a_model_is_described() {
    let object = json(upcycle().args(["inspect", "--json"]).arg(model()));
    assert_eq!(object["architecture"], "llama");
    assert_eq!(object["sizes"]["block_count"], 30);
    assert_eq!(object["tokenizer"]["tokens"], 49152);
    assert!(object["types"]["Q4_1"]["tensors"].as_u64().unwrap() > 0, "{object}");
    assert!(object["template"].as_str().unwrap().contains("<|im_start|>"));
    let cpu = &object["backends"][0];
    assert_eq!(
        (&cpu["name"], &cpu["loads"], &cpu["verifies"]),
        (&"cpu".into(), &true.into(), &"tree".into())
    );
    assert_eq!(object["backends"][2]["loads"], false);
    // 30 layers, 3 heads of 64, keys and values.
    assert_eq!((&cpu["kv_bytes"], &object["backends"][2]["kv_bytes"]), (&46080.into(), &().into()));
    let mut half = upcycle();
    half.args(["inspect", "--json"]).arg(model()).env("UPCYCLE_BACKEND__CPU__KV_TYPE", "f16");
    assert_eq!(json(&mut half)["backends"][0]["kv_bytes"], 23040);

    let text = stdout(upcycle().arg("inspect").arg(model()));
    assert!(text.contains("llama") && text.contains("verifies: tree"), "{text}");
    assert!(text.contains("keys and values: 4096 tokens 188.7 MB, 8192 tokens 377.5 MB"), "{text}");
    assert!(fail(upcycle().args(["inspect", "no-such.gguf"]), 2).contains("no-such.gguf"));
}

#[test]
fn a_split_model_is_described_by_its_headers() {
    let folder = tempfile::tempdir().unwrap();
    let tiny = Tiny::default().writer(None);
    let parts = [1, 2].map(|number| folder.path().join(format!("tiny-{number:05}-of-00002.gguf")));
    let whole = folder.path().join("whole.gguf");
    for (writer, path) in tiny.split(2).iter().zip(&parts) {
        fs::write(path, writer.to_bytes().unwrap()).unwrap();
    }
    fs::write(&whole, tiny.to_bytes().unwrap()).unwrap();
    let inspect = |path: &Path| json(upcycle().args(["inspect", "--json"]).arg(path));
    let (one, two) = (inspect(&whole), inspect(&parts[0]));
    for same in ["architecture", "parameters", "sizes", "types", "tokenizer"] {
        assert_eq!(one[same], two[same], "{same}");
    }
    assert_eq!((&one["files"], &two["files"]), (&1.into(), &2.into()));
    assert!(stdout(upcycle().arg("inspect").arg(&parts[0])).contains("in 2 files"));
    let llama_cpp =
        two["backends"].as_array().unwrap().iter().find(|backend| backend["name"] == "llama-cpp").unwrap();
    assert_eq!(llama_cpp["loads"] == true, cfg!(feature = "llama-cpp"), "{llama_cpp}");
    // Without the second part, the first still says what it is.
    fs::remove_file(&parts[1]).unwrap();
    let first = inspect(&parts[0]);
    assert_eq!((&first["architecture"], &first["files"]), (&one["architecture"], &1.into()));
    assert!(first["backends"].as_array().unwrap().iter().all(|backend| backend["loads"] == false), "{first}");
}

#[test]
fn a_folder_is_described() {
    let folder = tempfile::tempdir().unwrap();
    let error = fail(upcycle().arg("inspect").arg(folder.path()), 2);
    assert!(error.contains("is a folder without config.json"), "{error}");
    fs::write(folder.path().join("a.gguf"), "").unwrap();
    assert!(fail(upcycle().arg("inspect").arg(folder.path()), 2).contains("name a GGUF file in it: a.gguf"));
    fs::write(folder.path().join("config.json"), r#"{"model_type": "qwen9", "hidden_size": 64}"#).unwrap();
    let object = json(upcycle().args(["inspect", "--json"]).arg(folder.path()));
    assert_eq!(
        (&object["architecture"], &object["sizes"]["embedding_length"]),
        (&"qwen9".into(), &64.into())
    );
    assert!(object["text_error"].as_str().unwrap().contains("tokenizer"), "{object}");
    assert!(fail(upcycle().args(["inspect", "-"]), 2).contains("standard input"));
}

/// Weights that `cpu` would load, with a vocabulary of a kind that only llama.cpp knows, and a name that would colour the terminal.
#[test]
fn a_model_without_a_usable_tokenizer_loads_nowhere_and_cannot_write_to_the_terminal() {
    let tiny = Tiny { vocab: 2, ..Tiny::default() };
    let vocabulary = GgufWriter::new()
        .metadata("general.name", "a\u{1b}[31m\nb")
        .metadata("tokenizer.ggml.model", "no-such-kind")
        .metadata("tokenizer.ggml.tokens", ["a", "b"].into_iter().collect::<StringArray>());
    let file = tiny::write(&tiny.with_vocabulary(vocabulary, None));
    let object = json(upcycle().args(["inspect", "--json"]).arg(file.path()));
    assert!(object["text_error"].as_str().unwrap().contains("no-such-kind"), "{object}");
    assert_eq!(object["backends"][0]["loads"], false);
    assert!(object["backends"][0]["reason"].as_str().unwrap().contains("no-such-kind"), "{object}");
    let text = stdout(upcycle().arg("inspect").arg(file.path()));
    assert!(text.contains(r"a\u{1b}[31m\nb") && text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
}

#[test]
fn the_backends_are_listed() {
    let list = json(upcycle().args(["backends", "--json"]));
    let names: Vec<&str> =
        list.as_array().unwrap().iter().map(|backend| backend["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["cpu", "candle", "ort", "llama-cpp"]);
    assert_eq!((&list[0]["compiled"], &list[0]["devices"][0]), (&true.into(), &"cpu".into()));
    for (backend, compiled) in
        [(1, cfg!(feature = "candle")), (2, cfg!(feature = "ort")), (3, cfg!(feature = "llama-cpp"))]
    {
        assert_eq!(list[backend]["compiled"], compiled);
        assert_eq!(list[backend]["state"] == "not-compiled", !compiled, "{list}");
    }
    let text = stdout(upcycle().arg("backends"));
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn a_gpu_for_candle_is_listed_or_reported_missing() {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/candle-cuda.toml");
    if !cfg!(feature = "candle") {
        let error = fail(upcycle().args(["config", "check", config]), 2);
        return assert!(error.contains("--features candle"), "{error}");
    }
    assert!(stdout(upcycle().args(["config", "check", config])).contains("device = \"cuda\""));
    let list = json(upcycle().args(["backends", "--json"]));
    let built = list[1]["devices"].as_array().unwrap().contains(&"cuda".into());
    assert_eq!(built, cfg!(feature = "candle-cuda"));
    if !built {
        let error =
            fail(upcycle().args(["run", "--config", config, "--prompt", "x", "--model"]).arg(model()), 1);
        assert!(error.contains("`device` is \"cuda\"") && error.contains("`candle-cuda`"), "{error}");
    }
}

#[test]
fn completions_name_every_flag_of_run() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(upcycle().args(["completions", shell]));
        for flag in ["prompt-file", "compare", "max-tokens"] {
            assert!(script.contains(flag), "{shell} lacks {flag}");
        }
    }
    assert!(fail(upcycle().args(["completions", "csh"]), 2).contains("possible values"));
}

#[test]
fn help_and_version_succeed() {
    assert!(stdout(upcycle().args(["run", "--help"])).contains("UPCYCLE_BACKEND__CPU__WEIGHTS"));
    assert!(stdout(upcycle().arg("--version")).starts_with("upcycle "));
}

#[test]
fn a_command_that_is_not_compiled_in_names_its_feature() {
    for (command, compiled) in [("bench", cfg!(feature = "bench")), ("export", cfg!(feature = "ort"))] {
        if !compiled {
            let error = fail(upcycle().args([command, "--any", "arguments"]), 2);
            assert!(error.contains(&format!("--features {command}").replace("export", "ort")), "{error}");
        }
    }
}

#[test]
fn the_help_states_the_promises() {
    let help = stdout(upcycle().arg("--help"));
    let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for promise in [
        "The drafted text is the plain text, bit for bit, greedy and sampled: own CPU kernels.",
        "The same up to near-ties within a stated rounding margin: ONNX Runtime, llama.cpp, candle's tensors, GPUs.",
    ] {
        assert!(words.contains(promise), "{help}");
    }
}
