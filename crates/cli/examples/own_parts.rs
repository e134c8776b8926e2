//! The command line with a backend and a drafter of one's own.
//!
//! `cargo run -p upcycle-cli --example own_parts -- run --model MODEL.gguf --backend naive --drafter repeat --prompt Hi`

use std::process::ExitCode;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use upcycle::{DrafterSetup, ModelSource, Registry};
use upcycle_core::{DraftContext, DraftTree, Drafter, NodeId};
use upcycle_testkit::NaiveVerifier;
use upcycle_text::Tokenizer;

/// `[backend.naive]`
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct NaiveOptions {
    /// The seed of its logits.
    seed: u64,
}

/// `[drafter.repeat]`
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RepeatOptions {
    /// How often the last token is guessed to come again.
    times: usize,
}

struct Repeat(usize);

impl Drafter for Repeat {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
        let (Some(&last), mut node) = (context.tokens.last(), NodeId::ROOT) else { return };
        for _ in 0..self.0 {
            let Ok(child) = tree.push(node, last, None) else { return };
            node = child;
        }
    }
}

fn registry() -> Registry {
    let mut registry = Registry::builtin();
    registry.register_backend(
        "naive",
        "random logits behind a model's tokenizer",
        &["cpu"],
        |options: &NaiveOptions, model: ModelSource<'_>, _| {
            let gguf = model.gguf.ok_or("it needs the tokenizer of a GGUF file")?;
            let vocab = Tokenizer::from_gguf(gguf)?.vocab_size();
            Ok(Box::new(NaiveVerifier::new(vocab, options.seed)))
        },
    );
    registry.register_drafter(
        "repeat",
        "the last token, again",
        |options: &RepeatOptions, _: &DrafterSetup<'_>| Ok(Box::new(Repeat(options.times))),
    );
    registry
}

fn main() -> ExitCode {
    upcycle_cli::main_with(&registry())
}

#[test]
fn both_are_configured_and_answer() {
    use upcycle::{ConfigBuilder, CostCache, LoadedModel, PromptStyle};

    let registry = registry();
    let mut builder = ConfigBuilder::new(&registry);
    let model = upcycle_testkit::real_model().display().to_string();
    for (key, value) in [
        ("model.path", model.as_str()),
        ("backend.name", "naive"),
        ("backend.naive.seed", "3"),
        ("drafter.name", "repeat"),
        ("drafter.repeat.times", "2"),
        ("drafter.budget", "2"),
    ] {
        builder.flag("a test", key, value).unwrap();
    }
    let slip = builder.flag("a test", "backend.naive.sed", "1").unwrap_err().to_string();
    assert!(slip.contains("did you mean `seed`?"), "{slip}");

    let config = builder.build().unwrap();
    assert!(config.to_toml().unwrap().contains("[drafter.repeat]\ntimes = 2"));
    let model = LoadedModel::load(&config, &registry, &mut |_| {}).unwrap();
    let (mut decoder, text) =
        model.into_decoder(config.drafter(), &registry, &CostCache::disabled()).unwrap();
    let prompt = text.encode("Hi", PromptStyle::Raw).unwrap();
    let mut generation = decoder.generate(&prompt, upcycle_core::Request::greedy(8)).unwrap();
    assert_eq!(generation.by_ref().filter(|token| token.is_ok()).count(), 8);
    assert!(generation.stats().drafted > 0);
}
