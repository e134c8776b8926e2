//! Fetching from a mock hub: redirects, ranges, refusals, lost connections.

mod server;

use std::fs;
use std::path::PathBuf;

use server::{Content, Server};
use upcycle_hub::{Hub, HubError, Reference};

fn reference(text: &str) -> Reference {
    Reference::parse(text).unwrap().unwrap()
}

/// Test content of this length.
fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 31 % 251) as u8).collect()
}

fn content(files: &[(&str, usize)]) -> Content {
    let files = files.iter().map(|&(name, len)| (name.to_owned(), bytes(len))).collect();
    Content { files, ..Content::default() }
}

struct Cached {
    folder: tempfile::TempDir,
}

impl Cached {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }
    fn hub(&self, server: &Server) -> Hub {
        Hub::at(&server.endpoint, &self.folder.path().join("hub"))
    }
}

fn fetch(hub: &Hub, text: &str) -> Result<PathBuf, HubError> {
    hub.fetch(&reference(text), &mut |_, _| ())
}

#[test]
fn a_file_is_fetched_once() {
    for direct in [false, true] {
        let server =
            Server::start(Content { direct, ..content(&[("model.gguf", 100_000), ("sub/b.gguf", 10)]) });
        let cache = Cached::new();
        let hub = cache.hub(&server);
        let mut calls = Vec::new();
        let path = hub
            .fetch(&reference("hf:owner/repo/model.gguf"), &mut |done, total| calls.push((done, total)))
            .unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes(100_000));
        assert_eq!(path.file_name().unwrap(), "model.gguf");
        assert_eq!(calls.last(), Some(&(100_000, 100_000)));
        assert!(calls.is_sorted_by_key(|call| call.0), "{calls:?}");
        assert_eq!(fs::read(fetch(&hub, "hf:owner/repo/sub/b.gguf").unwrap()).unwrap(), bytes(10));

        let before = server.asked("");
        assert_eq!(fetch(&hub, "hf:owner/repo/model.gguf").unwrap(), path);
        assert_eq!(fetch(&hub.offline(), "hf:owner/repo/model.gguf").unwrap(), path);
        assert_eq!(server.asked(""), before, "a cached file needs no request");
    }
}

#[test]
fn a_repository_of_safetensors_is_a_folder() {
    let files = [
        ("README.md", 5),
        ("config.json", 50),
        ("tokenizer.json", 60),
        ("model-00001-of-00002.safetensors", 70),
        ("model-00002-of-00002.safetensors", 80),
        ("model.safetensors.index.json", 90),
        ("../escape.gguf", 9),
    ];
    let server = Server::start(content(&files));
    let cache = Cached::new();
    let folder = fetch(&cache.hub(&server), "hf:owner/repo").unwrap();
    let mut found: Vec<(String, usize)> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().display().to_string(), fs::read(&path).unwrap().len()))
        .collect();
    found.sort();
    let mut expected: Vec<(String, usize)> =
        files[1..6].iter().map(|&(name, len)| (name.to_owned(), len)).collect();
    expected.sort();
    assert_eq!(found, expected);
    let before = server.asked("");
    assert_eq!(fetch(&cache.hub(&server).offline(), "hf:owner/repo").unwrap(), folder);
    assert_eq!(server.asked(""), before);
}

#[test]
fn one_of_several_gguf_files_must_be_named() {
    let server = Server::start(content(&[("m.Q4_0.gguf", 10), ("README.md", 3)]));
    let cache = Cached::new();
    assert!(fetch(&cache.hub(&server), "hf:owner/repo").unwrap().ends_with("m.Q4_0.gguf"));
    let server = Server::start(content(&[("m.Q4_0.gguf", 10), ("m.Q8_0.gguf", 10)]));
    let error = fetch(&Cached::new().hub(&server), "hf:owner/repo").unwrap_err().to_string();
    assert!(error.contains("m.Q4_0.gguf, m.Q8_0.gguf") && error.contains("hf:owner/repo/FILE"), "{error}");
}

#[test]
fn interrupted_downloads_resume() {
    let server = Server::start(Content { cuts: 2, ..content(&[("model.gguf", 80_000)]) });
    let path = fetch(&Cached::new().hub(&server), "hf:owner/repo/model.gguf").map(fs::read);
    assert_eq!(path.unwrap().unwrap(), bytes(80_000));
    assert_eq!((server.asked(" 40000-"), server.asked(" 60000-")), (1, 1), "{:?}", server.requests.lock());
}

#[test]
fn the_next_call_resumes_after_all_retries_failed() {
    let server = Server::start(Content { cuts: 100, ..content(&[("model.gguf", 1 << 20)]) });
    let cache = Cached::new();
    let hub = cache.hub(&server);
    let failed = fetch(&hub, "hf:owner/repo/model.gguf").unwrap_err();
    assert!(matches!(failed, HubError::Fetch { .. }), "{failed}");
    server.content.lock().unwrap().cuts = 0;
    server.requests.lock().unwrap().clear();
    let path = fetch(&hub, "hf:owner/repo/model.gguf").unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes(1 << 20));
    assert_eq!(server.asked("resolve/main/model.gguf 0-0"), 1);
    let again = server.requests.lock().unwrap().clone();
    assert!(!again.iter().any(|request| request.ends_with(" 0-")), "the download did not restart: {again:?}");
}

#[test]
fn corrupted_downloads_are_deleted() {
    let server = Server::start(Content { corrupt: true, ..content(&[("model.gguf", 1000)]) });
    let cache = Cached::new();
    let hub = cache.hub(&server);
    let error = fetch(&hub, "hf:owner/repo/model.gguf").unwrap_err();
    assert!(matches!(error, HubError::Corrupted { .. }), "{error}");
    server.content.lock().unwrap().corrupt = false;
    assert_eq!(fs::read(fetch(&hub, "hf:owner/repo/model.gguf").unwrap()).unwrap(), bytes(1000));
}

#[test]
fn refusals_name_a_remedy() {
    let server = Server::start(content(&[("model.gguf", 10)]));
    let cache = Cached::new();
    for text in ["hf:owner/repo/none.gguf", "hf:owner/other", "hf:owner/repo/model.gguf@v9"] {
        let error = fetch(&cache.hub(&server), text).unwrap_err();
        assert!(matches!(&error, HubError::NotFound { what, .. } if what == text), "{error}");
    }
    let offline = fetch(&cache.hub(&server).offline(), "hf:owner/repo/model.gguf").unwrap_err();
    assert!(matches!(offline, HubError::Offline { .. }), "{offline}");

    let server =
        Server::start(Content { token: Some("secret".to_owned()), ..content(&[("model.gguf", 10)]) });
    let hub = cache.hub(&server);
    for text in ["hf:owner/repo/model.gguf", "hf:owner/repo"] {
        let denied = fetch(&hub, text).unwrap_err();
        assert!(matches!(denied, HubError::Denied { status: 401, with_token: false, .. }), "{denied}");
        assert!(denied.to_string().contains("HF_TOKEN"));
    }
    let denied = fetch(&hub.clone().with_token("wrong"), "hf:owner/repo").unwrap_err().to_string();
    assert!(
        denied.contains("the token that was sent does not allow it") && !denied.contains("wrong"),
        "{denied}"
    );
    assert!(fetch(&hub.with_token("secret"), "hf:owner/repo").is_ok());
    assert!(server.asked("/stored/") > 0 && server.asked(server::LEAKED) == 0, "only the hub gets the token");

    let gone = Hub::at("http://127.0.0.1:1", &cache.folder.path().join("empty"));
    assert!(matches!(fetch(&gone, "hf:owner/repo/model.gguf"), Err(HubError::Fetch { .. })));
}
