//! A prompt answered by whatever a configuration says: its model, its backend, its drafter.
//!
//! `cargo run --release -p upcycle --example answer -- configs/cpu.toml "Why is the sky blue?"`

use std::error::Error;
use std::io::Write;
use std::path::Path;

use upcycle::{ConfigBuilder, CostCache, Engine, PromptStyle, Registry};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, prompt] = &arguments[..] else { return Err("expected a configuration and a prompt".into()) };
    let registry = Registry::builtin();
    let mut builder = ConfigBuilder::new(&registry);
    builder.file(Path::new(config))?;
    answer(&registry, &builder, prompt)
}

fn answer(registry: &Registry, builder: &ConfigBuilder, prompt: &str) -> Result<(), Box<dyn Error>> {
    let config = builder.build()?;
    let engine = Engine::load(&config, registry, &mut |_| ())?;
    let (mut decoder, text) = engine.into_decoder(config.drafter(), registry, &CostCache::user_cache())?;

    let prompt = text.encode(prompt, PromptStyle::Chat)?;
    let stop = text.stop_strings(config.decode())?;
    let mut detokenizer = text.tokenizer.detokenizer();
    let mut generation = decoder.generate(&prompt, text.request(config.decode(), &stop))?;
    for token in &mut generation {
        print!("{}", detokenizer.push(token?)?);
        std::io::stdout().flush()?;
    }
    println!("{}\n{:.2} tokens a step", detokenizer.finish(), generation.stats().tokens_per_step());
    Ok(())
}

#[test]
fn it_runs() {
    let registry = Registry::builtin();
    let mut builder = ConfigBuilder::new(&registry);
    let model = upcycle_testkit::real_model().display().to_string();
    for (key, value) in [("model.path", &*model), ("drafter.budget", "8"), ("decode.max_tokens", "8")] {
        builder.flag("a test", key, value).unwrap();
    }
    answer(&registry, &builder, "Why is the sky blue?").unwrap();
}
