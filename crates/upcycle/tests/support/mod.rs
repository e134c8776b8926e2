//! An engine over a model without weights, whose tokens are single characters.

use upcycle::{ConfigBuilder, CostCache, Engine, LoadedModel, Registry, Text};
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{Gguf, StringArray};
use upcycle_testkit::NaiveVerifier;
use upcycle_text::{ModelSampling, Tokenizer};

pub(crate) const VOCAB: usize = 64;

/// A tokenizer whose tokens are single characters.
fn tokenizer() -> Tokenizer {
    let tokens: StringArray =
        (0..VOCAB as u32).map(|id| char::from_u32('0' as u32 + id).unwrap().to_string()).collect();
    let file = GgufWriter::new()
        .metadata("tokenizer.ggml.model", "gpt2")
        .metadata("tokenizer.ggml.pre", "gpt-2")
        .metadata("tokenizer.ggml.tokens", tokens)
        .metadata("tokenizer.ggml.token_type", vec![1; VOCAB])
        .metadata("tokenizer.ggml.merges", StringArray::new())
        .to_bytes()
        .unwrap();
    Tokenizer::from_gguf(&Gguf::read(&mut std::io::Cursor::new(file)).unwrap()).unwrap()
}

pub(crate) fn engine_with(verifier: NaiveVerifier, registry: &Registry, settings: &[(&str, &str)]) -> Engine {
    engine_of(verifier, ModelSampling::default(), registry, settings)
}

pub(crate) fn engine_of(
    verifier: NaiveVerifier,
    sampling: ModelSampling,
    registry: &Registry,
    settings: &[(&str, &str)],
) -> Engine {
    let mut builder = ConfigBuilder::new(registry);
    builder.flag("a test", "drafter.budget", "8").unwrap();
    for (key, value) in settings {
        builder.flag("a test", key, value).unwrap();
    }
    let model = LoadedModel {
        text: Text { tokenizer: tokenizer(), template: None, template_error: None },
        sampling,
        verifier: Box::new(verifier),
        backend: "naive".to_owned(),
        cost_key: String::new(),
        path: "naive.gguf".into(),
    };
    Engine::start(model, &builder.build().unwrap(), registry, &CostCache::disabled()).unwrap()
}
