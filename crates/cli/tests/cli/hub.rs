//! A model by its name on the hub: from a stand-in for it, on loopback, or refused where it cannot be fetched.

use crate::harness::{fail, upcycle};

#[cfg(feature = "hub")]
#[path = "../../../hub/tests/server/mod.rs"]
mod server;

#[cfg(feature = "hub")]
#[test]
fn a_model_on_the_hub_is_fetched_once_and_answers() {
    use crate::harness::{json, model, stdout, succeed};
    use server::{Content, Server};

    let bytes = std::fs::read(model()).unwrap();
    let content = Content { files: [("model.gguf".to_owned(), bytes)].into(), cuts: 1, ..Content::default() };
    let server = Server::start(content);
    let home = tempfile::tempdir().unwrap();
    let with_hub = |arguments: &[&str]| {
        let mut command = upcycle();
        command.args(arguments).env("HF_HOME", home.path()).env("HF_ENDPOINT", &server.endpoint);
        for name in ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE"] {
            command.env_remove(name);
        }
        command
    };
    let run = ["run", "--model", "hf:owner/repo", "--prompt", "What is the capital of France?", "-n", "8"];
    let fetched = succeed(&mut with_hub(&run));
    assert!(String::from_utf8_lossy(&fetched.stderr).contains("retrying the download"), "{fetched:?}");
    assert_eq!(server.content.lock().unwrap().cuts, 0);
    let asked = server.asked("");
    let cached = stdout(with_hub(&run).env("HF_HUB_OFFLINE", "1"));
    assert_eq!(cached.as_bytes(), fetched.stdout);
    assert_eq!(server.asked(""), asked, "what is cached needs no question");
    let inspected = json(&mut with_hub(&["inspect", "--json", "hf:owner/repo/model.gguf"]));
    assert_eq!(inspected["architecture"], "llama");

    let error = fail(&mut with_hub(&["run", "--model", "hf:owner/repo/none.gguf", "--prompt", "a"]), 1);
    assert!(error.contains("hf:owner/repo/none.gguf does not exist on the hub"), "{error}");
    let file = home.path().join("hub.toml");
    std::fs::write(&file, "model.path = 'hf:owner/repo/none.gguf@v2'\n").unwrap();
    let error = fail(&mut with_hub(&["run", "--config", file.to_str().unwrap(), "--prompt", "a"]), 1);
    assert!(
        error.contains("hf:owner/repo/none.gguf@v2 does not exist on the hub"),
        "a name in a file is no path: {error}"
    );
    let error = fail(&mut with_hub(&["run", "--model", "hf:owner", "--prompt", "a"]), 2);
    assert!(error.contains("expected hf:owner/repo"), "{error}");
}

#[cfg(not(feature = "hub"))]
#[test]
fn without_the_hub_its_names_are_refused() {
    for arguments in
        [&["run", "--prompt", "a", "--model", "hf:owner/repo"][..], &["inspect", "hf:owner/repo"]]
    {
        let error = fail(upcycle().args(arguments), 2);
        assert!(error.contains("--features hub"), "{error}");
    }
}
