//! A server over a model without weights, and a client.
#![allow(dead_code, reason = "each test uses a part")]

use std::net::SocketAddr;

use axum::http::HeaderMap;
use serde_json::Value;
use upcycle::{ConfigBuilder, CostCache, Engine, LoadedModel, Registry, ServerOptions, Text};
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{Gguf, StringArray};
use upcycle_testkit::NaiveVerifier;
use upcycle_text::{ChatTemplate, ModelSampling, Tokenizer};
use ureq::http::Response;
use ureq::{Agent, Body};

pub(crate) const VOCAB: usize = 96;

pub(crate) fn engine(settings: &[(&str, &str)]) -> Engine {
    engine_with(NaiveVerifier::new(VOCAB, 3), &Registry::builtin(), settings)
}

/// Tokens are single characters, from the space on.
pub(crate) fn engine_with(verifier: NaiveVerifier, registry: &Registry, settings: &[(&str, &str)]) -> Engine {
    let tokens: StringArray = (0..VOCAB as u32)
        // Byte-level vocabularies write a space as `Ġ`.
        .map(|id| {
            char::from_u32(' ' as u32 + id).map(|c| if c == ' ' { 'Ġ' } else { c }).unwrap().to_string()
        })
        .collect();
    let file = GgufWriter::new()
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", "gpt-2")
        .metadata("tokenizer.ggml.tokens", tokens)
        .metadata("tokenizer.ggml.token_type", vec![1; VOCAB])
        .metadata("tokenizer.ggml.merges", StringArray::new())
        .metadata("tokenizer.chat_template", "{% for m in messages %}<{{ m.content }}>{% endfor %}")
        .to_bytes()
        .unwrap();
    let gguf = Gguf::read(&mut std::io::Cursor::new(file)).unwrap();
    let tokenizer = Tokenizer::from_gguf(&gguf).unwrap();
    let text = Text {
        template: ChatTemplate::from_gguf(&gguf, tokenizer.template_tokens()).unwrap(),
        tokenizer,
        template_error: None,
    };
    let mut builder = ConfigBuilder::new(registry);
    for (key, value) in [("drafter.budget", "8")].iter().chain(settings) {
        builder.flag("a test", key, value).unwrap();
    }
    let model = LoadedModel {
        text,
        sampling: ModelSampling::default(),
        verifier: Box::new(verifier),
        backend: "naive".to_owned(),
        cost_key: String::new(),
        path: "naive.gguf".into(),
    };
    Engine::start(model, &builder.build().unwrap(), registry, &CostCache::disabled()).unwrap()
}

/// A server on a free port of this machine, until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    agent: Agent,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub(crate) fn start(engine: Engine) -> Self {
        Self::with(engine, &ServerOptions::default(), &[])
    }

    pub(crate) fn with(engine: Engine, options: &ServerOptions, keys: &[String]) -> Self {
        let router = upcycle_serve::router(engine, options, keys).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
        let agent = Agent::config_builder().http_status_as_error(false).build().into();
        Self { address, agent, _runtime: runtime }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn post_response(&self, path: &str, body: &Value) -> Response<Body> {
        self.agent.post(self.url(path)).send(&body.to_string()).unwrap()
    }

    pub(crate) fn post_text(&self, path: &str, body: &str) -> (u16, Value) {
        let mut response = self.agent.post(self.url(path)).send(body).unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.post_text(path, &body.to_string())
    }

    /// The data of server-sent events. The end of OpenAI's streams is left out.
    pub(crate) fn stream(&self, path: &str, body: &Value) -> Vec<Value> {
        let mut response = self.post_response(path, body);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let text = response.body_mut().read_to_string().unwrap();
        let data =
            text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        self.get_with(path, &[])
    }

    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut response = self.get_response(path, headers);
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    }

    pub(crate) fn headers(&self, path: &str, headers: &[(&str, &str)]) -> HeaderMap {
        self.get_response(path, headers).headers().clone()
    }

    fn get_response(&self, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
        let request = self.agent.get(self.url(path));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).call().unwrap()
    }
}
