//! The backend llama-cpp on the command line.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use upcycle_checkpoint::gguf::StringArray;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_testkit::tiny::Tiny;

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

/// Saves a file with these bytes in a folder.
fn saved(folder: &tempfile::TempDir, bytes: &[u8]) -> String {
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

/// llama.cpp ends its process for this file, which states experts, but not how many are used.
#[test]
fn a_file_that_ends_llama_cpps_process_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let experts = Tiny::default().writer(None).metadata("llama.expert_count", 4_u32);
    let path = saved(&folder, &experts.to_bytes().unwrap());
    let message = error(&["run", "-m", &path, "--backend", "llama-cpp", "--raw", "-p", "a", "-n", "2"]);
    assert!(message.contains("SIGABRT") && message.contains("GGML_ASSERT"), "{message}");
    let inspected = stdout(&["inspect", &path]);
    assert!(inspected.contains("SIGABRT"), "{inspected}");
}

#[test]
fn a_token_twice_is_named_with_both_ids() {
    let tiny = Tiny { vocab: 4, ..Tiny::default() };
    let tokens: StringArray = ["\n", "twice", "b", "twice"].into_iter().collect();
    let vocabulary = GgufWriter::new()
        .metadata("tokenizer.ggml.model", "gemma4")
        .metadata("tokenizer.ggml.merges", StringArray::new())
        .metadata("tokenizer.ggml.tokens", tokens);
    let folder = tempfile::tempdir().unwrap();
    let path = saved(&folder, &tiny.with_vocabulary(vocabulary, None).to_bytes().unwrap());
    let run = error(&["run", "-m", &path, "--backend", "llama-cpp", "--raw", "-p", "a", "-n", "2"]);
    let inspected = stdout(&["inspect", &path]);
    for text in [run, inspected] {
        assert!(text.contains("\"twice\" twice, as 1 and as 3"), "{text}");
    }
}

/// What our tokenizer refuses and llama.cpp does not: no types, ids beyond the vocabulary, a type that does not exist, a merge of
/// unknown tokens, text that is not UTF-8.
#[test]
fn vocabularies_that_only_llama_cpp_accepts_are_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let sound = |change: &dyn Fn(GgufWriter) -> GgufWriter| {
        let bytes = (0..=255_u8).map(|byte| match byte {
            b'!'..=b'~' => char::from(byte).to_string(),
            _ => char::from_u32(0x100 + u32::from(byte)).unwrap().to_string(),
        });
        let vocabulary = GgufWriter::new()
            .metadata("tokenizer.ggml.model", "gpt2")
            .metadata("tokenizer.ggml.pre", "gpt-2")
            .metadata("tokenizer.ggml.tokens", bytes.chain(["caf?".to_owned()]).collect::<StringArray>());
        Tiny { vocab: 257, ..Tiny::default() }.with_vocabulary(change(vocabulary), None).to_bytes().unwrap()
    };
    let merges = |merge: &str| [merge].into_iter().collect::<StringArray>();
    let types = |last: i32| [vec![1; 256], vec![last]].concat();
    let plain = |writer: GgufWriter| {
        writer
            .metadata("tokenizer.ggml.merges", merges("a b"))
            .metadata("tokenizer.ggml.token_type", types(1))
    };
    let mut latin = sound(&plain);
    let at = latin.windows(4).position(|bytes| bytes == b"caf?").unwrap();
    latin[at + 3] = 0xe9;
    let files = [
        sound(&|writer| writer.metadata("tokenizer.ggml.merges", merges("a b"))),
        sound(&|writer| plain(writer).metadata("tokenizer.ggml.bos_token_id", u32::MAX)),
        sound(&|writer| plain(writer).metadata("tokenizer.ggml.eot_token_id", 99_999_u32)),
        sound(&|writer| {
            writer
                .metadata("tokenizer.ggml.merges", merges("a b"))
                .metadata("tokenizer.ggml.token_type", types(7))
        }),
        sound(&|writer| {
            writer
                .metadata("tokenizer.ggml.merges", merges("no such"))
                .metadata("tokenizer.ggml.token_type", types(1))
        }),
        latin,
    ];
    for file in files {
        let path = saved(&folder, &file);
        succeed(upcycle().args(["run", "-m", &path, "-b", "llama-cpp", "--raw", "-p", "hi", "-n", "3"]));
    }
}

/// Threads that spin take the cores from the threads that they wait for, as soon as another process is busy.
#[cfg(target_os = "linux")]
#[test]
fn waiting_threads_sleep_unless_the_user_wants_otherwise() {
    let environment = |set: Option<(&str, &str)>| {
        let mut command = upcycle();
        // It reads its prompt from standard input, and so waits.
        command.args(["run", "--model", &model().display().to_string(), "--backend", "llama-cpp"]);
        command.env_remove("OMP_WAIT_POLICY").env_remove("GOMP_SPINCOUNT").envs(set);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let path = format!("/proc/{}/environ", child.id());
        let mut found = String::new();
        for _ in 0..200 {
            found = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            if found.contains("GOMP_SPINCOUNT=") {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        found
    };
    assert!(environment(None).contains("GOMP_SPINCOUNT=1000\0"));
    assert!(environment(Some(("GOMP_SPINCOUNT", "7"))).contains("GOMP_SPINCOUNT=7\0"));
    assert!(!environment(Some(("OMP_WAIT_POLICY", "active"))).contains("GOMP_SPINCOUNT"));
}
