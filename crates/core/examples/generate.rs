//! The smallest program: a verifier, a drafter, a decoder of both, and tokens as they are accepted.
//!
//! `cargo run -p upcycle-core --example generate`

use upcycle_core::{AdjacencyMatrix, Decoder, Request, TokenRecycling, TreeTemplate};
use upcycle_testkit::NaiveVerifier; // use a backend's verifier here

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let verifier = NaiveVerifier::new(1000, 42);
    let drafter = TokenRecycling::new(AdjacencyMatrix::new(1000, 8)?, TreeTemplate::paper_80());
    let mut decoder = Decoder::new(verifier, drafter).with_budget(16);

    let mut generation = decoder.generate(&[1, 2, 3], Request::greedy(64))?;
    for token in &mut generation {
        print!("{} ", token?);
    }
    println!("\n{:.2} tokens per step", generation.stats().tokens_per_step());
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
