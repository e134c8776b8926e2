//! The targets: everything that reads external input.

use std::hint::black_box;
use std::io::Cursor;
use std::num::NonZeroUsize;
use std::path::Path;
use std::{fs, str};

use prost::Message as _;
use upcycle::{ConfigBuilder, Registry};
use upcycle_checkpoint::gguf::Gguf;
use upcycle_core::{AdjacencyMatrix, CostCurve, Decoder, NullDrafter, Request, TreeTemplate};
use upcycle_cpu::{CpuVerifier, Model, Options};
use upcycle_onnx::rewrite::{OptimumInterface, rewrite};
use upcycle_onnx::schema::{Element, Model as Onnx};
use upcycle_text::{ChatTemplate, Message, Specials, TemplateTokens, Tokenizer};

use crate::seeds::{self, FINGERPRINT, K, VOCAB};
use crate::server;

/// One kind of input.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also of its folder in `corpus/`.
    pub name: &'static str,
    /// Valid inputs to mutate.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Reads an input and uses it if it is valid. Returns whether it is.
    pub read: fn(&[u8]) -> bool,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "gguf", seeds: seeds::gguf, read: gguf },
    Target { name: "model", seeds: seeds::models, read: model },
    Target { name: "safetensors", seeds: seeds::safetensors, read: safetensors },
    Target { name: "checkpoint-config", seeds: seeds::checkpoint_configs, read: checkpoint_config },
    Target { name: "toml", seeds: seeds::configurations, read: configuration },
    Target { name: "tree", seeds: seeds::trees, read: tree },
    Target { name: "snapshot", seeds: seeds::snapshots, read: snapshot },
    Target { name: "tokenizer-json", seeds: seeds::tokenizers, read: tokenizer },
    Target { name: "template", seeds: seeds::templates, read: template },
    Target { name: "prompts", seeds: seeds::prompts, read: prompts },
    Target { name: "costs", seeds: seeds::costs, read: costs },
    Target { name: "results", seeds: seeds::results, read: results },
    Target { name: "onnx", seeds: seeds::graphs, read: graph },
    Target { name: "chat-body", seeds: seeds::chat_bodies, read: server::chat },
    Target { name: "completion-body", seeds: seeds::completion_bodies, read: server::completion },
    Target { name: "response-body", seeds: seeds::response_bodies, read: server::response },
    Target { name: "tokenize-body", seeds: seeds::tokenize_bodies, read: server::tokenize },
    Target { name: "detokenize-body", seeds: seeds::detokenize_bodies, read: server::detokenize },
];

const TEXT: &str = "ab c <|end|> é 🦀\n";

fn use_tokenizer(tokenizer: &Tokenizer) {
    for specials in [Specials::Parse, Specials::Plain] {
        if let Ok(tokens) = tokenizer.encode(TEXT, specials) {
            black_box(tokenizer.decode(&tokens).ok());
        }
    }
}

fn use_template(template: &ChatTemplate) {
    let messages = [Message::system("s"), Message::user(TEXT), Message::assistant("a"), Message::user("u")];
    black_box(template.render(&messages, true).ok());
}

fn gguf(bytes: &[u8]) -> bool {
    let Ok(gguf) = Gguf::read(&mut Cursor::new(bytes)) else { return false };
    if let Ok(tokenizer) = Tokenizer::from_gguf(&gguf) {
        use_tokenizer(&tokenizer);
    }
    if let Ok(Some(template)) = ChatTemplate::from_gguf(&gguf, &TemplateTokens::default()) {
        use_template(&template);
    }
    true
}

/// Loads a model and decodes with it.
fn load(path: &Path) -> bool {
    let mut options = Options::default();
    options.threads = NonZeroUsize::new(1);
    let Ok(model) = Model::load(path, &options) else { return false };
    let mut decoder = Decoder::new(CpuVerifier::new(model), NullDrafter);
    if let Ok(generation) = decoder.generate(&[1, 2], Request::greedy(3)) {
        black_box(generation.count());
    }
    true
}

/// Calls `read` on a file with these bytes.
fn with_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path) -> bool) -> bool {
    let Ok(folder) = tempfile::tempdir() else { return false };
    let path = folder.path().join(name);
    fs::write(&path, bytes).is_ok() && read(&path)
}

fn model(bytes: &[u8]) -> bool {
    with_file("model.gguf", bytes, load)
}

fn safetensors(bytes: &[u8]) -> bool {
    with_file("model.safetensors", bytes, |path| {
        fs::write(path.with_file_name("config.json"), seeds::CHECKPOINT_CONFIG).is_ok() && load(path)
    })
}

fn checkpoint_config(bytes: &[u8]) -> bool {
    let Some(tensors) = seeds::safetensors().into_iter().next() else { return false };
    with_file("config.json", bytes, |path| {
        fs::write(path.with_file_name("model.safetensors"), tensors).is_ok() && load(path)
    })
}

fn configuration(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    let read = builder.text(Path::new("fuzz.toml"), text).is_ok();
    match builder.build() {
        Ok(config) => read && config.to_toml().is_ok(),
        Err(_) => false,
    }
}

fn tree(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_ok_and(|text| TreeTemplate::parse(text).is_ok())
}

/// Reads the bytes as they are, and again with a matching checksum to reach the checks behind it.
fn snapshot(bytes: &[u8]) -> bool {
    let mut sealed = bytes[..bytes.len().saturating_sub(4)].to_vec();
    sealed.extend(crc32fast::hash(&sealed).to_le_bytes());
    let load = |path: &Path| AdjacencyMatrix::load(path, VOCAB, K, &FINGERPRINT).is_ok();
    with_file("matrix", bytes, load) | with_file("matrix", &sealed, load)
}

fn tokenizer(bytes: &[u8]) -> bool {
    with_file("tokenizer.json", bytes, |path| {
        Tokenizer::from_file(path).is_ok_and(|tokenizer| {
            use_tokenizer(&tokenizer);
            true
        })
    })
}

fn template(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let tokens = TemplateTokens { bos: Some("<s>".to_owned()), eos: Some("</s>".to_owned()) };
    ChatTemplate::new(text, &tokens).is_ok_and(|template| {
        use_template(&template);
        true
    })
}

fn prompts(bytes: &[u8]) -> bool {
    upcycle_bench::prompts::parse("fuzz.jsonl", bytes).is_ok()
}

fn costs(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    CostCurve::parse(text).is_ok_and(|curve| {
        black_box((curve.seconds(1, 1), curve.seconds(1000, 1_000_000)));
        true
    })
}

fn results(bytes: &[u8]) -> bool {
    with_file("results.json", bytes, |path| {
        upcycle_bench::files::read(path).is_ok_and(|results| {
            black_box(upcycle_bench::report::text(&results, 80));
            black_box(upcycle_bench::report::html(&results).ok());
            true
        })
    })
}

/// Any graph, read as an Optimum-style one.
fn graph(bytes: &[u8]) -> bool {
    let interface = |cache| OptimumInterface {
        layers: 2,
        kv_heads: 2,
        head_dim: 16,
        vocab: 48,
        cache,
        positions: true,
        max_context: 160,
    };
    Onnx::decode(bytes).is_ok_and(|model| {
        black_box(rewrite(model.clone(), &interface(Element::Float)).is_ok());
        black_box(rewrite(model, &interface(Element::Float16)).is_ok());
        true
    })
}
