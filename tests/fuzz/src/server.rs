//! Bodies of requests, sent to a server over a tiny model.

use std::sync::OnceLock;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;
use upcycle::{CostCache, Engine, ServerOptions};
use upcycle_checkpoint::gguf::StringArray;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_testkit::tiny::{Tiny, write};

/// One token for each byte, and one that ends an answer.
fn model() -> GgufWriter {
    // Byte-level vocabularies write other bytes as characters from U+0100 on.
    let bytes = (0..=255_u8).map(|byte| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        0..=b' ' => char::from_u32(0x100 + u32::from(byte)).unwrap_or_default(),
        0x7f..=0xa0 => char::from_u32(0x121 + u32::from(byte - 0x7f)).unwrap_or_default(),
        0xad => '\u{143}',
    });
    let tokens: StringArray = bytes.map(String::from).chain(["<end>".to_owned()]).collect();
    let vocabulary = GgufWriter::new()
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", "gpt-2")
        .metadata("tokenizer.ggml.tokens", tokens)
        .metadata("tokenizer.ggml.token_type", [vec![1; 256], vec![3]].concat())
        .metadata("tokenizer.ggml.merges", StringArray::new())
        .metadata("tokenizer.ggml.eos_token_id", 256_u32)
        .metadata(
            "tokenizer.chat_template",
            "{% for m in messages %}{{ m.role[0] }}{{ m.content }}{% endfor %}",
        );
    // So short that even 64 answers are quick.
    Tiny { width: 32, heads: 2, kv_heads: 1, layers: 1, vocab: 257, context: 48, ..Tiny::default() }
        .with_vocabulary(vocabulary, None)
}

/// A server, made for the first input.
fn server() -> &'static (Runtime, Router) {
    static SERVER: OnceLock<(Runtime, Router)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let file = write(&model());
        let engine = Engine::builder()
            .model(file.path())
            .set("backend.cpu.threads", "1")
            .set("drafter.budget", "4")
            .cost_cache(CostCache::disabled())
            .build()
            .unwrap_or_else(|error| panic!("the model is valid: {error}"));
        let router = upcycle_serve::router(engine, &ServerOptions::default(), &[]);
        let runtime = Builder::new_current_thread().enable_all().build();
        (runtime.unwrap_or_else(|error| panic!("{error}")), router.unwrap_or_else(|error| panic!("{error}")))
    })
}

/// Sends a body and reads the whole response. Whether it is a success; an error of the server is a panic.
fn post(path: &str, bytes: &[u8]) -> bool {
    let (runtime, router) = server();
    runtime.block_on(async {
        let request = Request::post(path).body(Body::from(bytes.to_vec()));
        let Ok(request) = request else { return false };
        let response = router.clone().oneshot(request).await;
        let Ok(response) = response;
        let status = response.status();
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
        let body = String::from_utf8_lossy(&body);
        // Text has its quotes escaped.
        let failed = status.is_server_error() || body.contains("\"type\":\"server_error\"");
        assert!(!failed, "{status}: {body}");
        status == StatusCode::OK
    })
}

pub(crate) fn chat(bytes: &[u8]) -> bool {
    post("/v1/chat/completions", bytes)
}

pub(crate) fn completion(bytes: &[u8]) -> bool {
    post("/v1/completions", bytes)
}

pub(crate) fn response(bytes: &[u8]) -> bool {
    post("/v1/responses", bytes)
}

pub(crate) fn tokenize(bytes: &[u8]) -> bool {
    post("/tokenize", bytes)
}

pub(crate) fn detokenize(bytes: &[u8]) -> bool {
    post("/detokenize", bytes)
}
