//! A prompt answered by whatever a configuration says: its model, its backend, its drafter.
//!
//! `cargo run --release -p upcycle --example answer -- configs/cpu.toml "Why is the sky blue?"`

use std::error::Error;
use std::io::Write;

use upcycle::{Engine, EngineBuilder, Message, Request};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [config, prompt] = &arguments[..] else { return Err("expected a configuration and a prompt".into()) };
    answer(Engine::builder().config_file(config), prompt)
}

fn answer(builder: EngineBuilder, prompt: &str) -> Result<(), Box<dyn Error>> {
    let engine = builder.build()?;
    let mut answer = engine.generate(Request::chat([Message::user(prompt)]))?;
    for piece in &mut answer {
        print!("{}", piece?.text);
        std::io::stdout().flush()?;
    }
    println!("\n{:.2} tokens a step", answer.stats().tokens_per_step());
    Ok(())
}

#[test]
fn it_runs() {
    let mut builder = Engine::builder().model(upcycle_testkit::real_model());
    for (key, value) in [("drafter.budget", "8"), ("decode.max_tokens", "8")] {
        builder = builder.set(key, value);
    }
    answer(builder, "Why is the sky blue?").unwrap();
}
