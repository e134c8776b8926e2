//! Several texts at once: every step scores one draft for each of them in a single pass.
//!
//! `cargo run -p upcycle-core --example several_sequences`

use upcycle_core::{AdjacencyMatrix, Decoder, Request, Session, TokenRecycling, TreeTemplate};
use upcycle_testkit::NaiveVerifier; // use a backend's verifier here

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let drafter = TokenRecycling::new(AdjacencyMatrix::new(1000, 8)?, TreeTemplate::paper_80());
    let mut decoder = Decoder::new(NaiveVerifier::new(1000, 42), drafter).with_budget(16);

    let mut sessions: Vec<Session> = Vec::new();
    for prompt in [&[1, 2, 3][..], &[4], &[5, 6]] {
        sessions.push(decoder.open(prompt, Request::greedy(32))?);
    }
    while sessions.iter().any(|session| session.finish_reason().is_none()) {
        decoder.step(&mut sessions)?;
    }
    for session in sessions {
        println!("{:?}", session.output());
        // All sequences learn into the same matrix and draft from it.
        let stats = decoder.close(session);
        println!("  {:.2} tokens per step", stats.tokens_per_step());
    }
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
