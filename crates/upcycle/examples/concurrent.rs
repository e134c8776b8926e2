//! Several requests at once over one model, from several threads.
//!
//! `cargo run --release -p upcycle --example concurrent -- model.gguf "Why is the sky blue?" "Why is grass green?"`

use std::error::Error;
use std::thread;

use upcycle::{Engine, Message, Request};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("expected a model and prompts")?;
    let engine = Engine::builder().model(model).build()?;
    answer_all(&engine, &arguments.collect::<Vec<_>>());
    Ok(())
}

fn answer_all(engine: &Engine, prompts: &[String]) {
    thread::scope(|scope| {
        for prompt in prompts {
            scope.spawn(move || {
                let request = Request::chat([Message::user(prompt)]).max_tokens(64);
                match engine.generate(request).and_then(|mut answer| answer.text()) {
                    Ok(text) => println!("{prompt}\n  {text}"),
                    Err(error) => eprintln!("{prompt}\n  error: {error}"),
                }
            });
        }
    });
}

#[test]
fn it_runs() {
    let engine = Engine::builder()
        .model(upcycle_testkit::real_model())
        .set("drafter.budget", "8")
        .set("decode.max_tokens", "8")
        .build()
        .unwrap();
    answer_all(&engine, &["Why is the sky blue?".to_owned(), "Why is grass green?".to_owned()]);
    assert_eq!(engine.status().totals.answers, 2);
}
