//! What a pass costs: t(n), the time to score n rows over 256 cached tokens, and t(n)/t(1).
//!
//! `cargo run --release -p upcycle-candle --example cost -- MODEL.gguf [file|f32] [threads]`
//!
//! State the processor and its features with every figure.

use std::error::Error;
use std::time::{Duration, Instant};

use upcycle_candle::{CandleVerifier, Model, Options};
use upcycle_core::{Commit, DraftTree, NodeId, Rows, SeqId, Step, TopK, Verifier};

/// Tokens cached before the passes that are timed.
const CONTEXT: u32 = 256;
/// Rows of the passes that are timed.
const ROWS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 81];
/// Rounds over all of them; interleaved, so that a slow moment of the machine falls on all alike.
const ROUNDS: usize = 7;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("expected the path of a GGUF file")?;
    let mut settings = String::new();
    if let Some(weights) = arguments.next() {
        settings += &format!("weights = '{weights}'\n");
    }
    if let Some(threads) = arguments.next() {
        settings += &format!("threads = {threads}\n");
    }
    let options: Options = toml::from_str(&settings)?;
    let start = Instant::now();
    let model = Model::load(&path, &options)?;
    println!("{path}, {options:?}: {} threads, loaded in {:.0?}", model.threads(), start.elapsed());

    let mut verifier = CandleVerifier::new(model);
    let mut top = TopK::new(8);
    let seq = verifier.open()?;
    let prompt: Vec<u32> = (0..CONTEXT).map(|i| 1000 + i * 7 % 4000).collect();
    let start = Instant::now();
    pass(&mut verifier, seq, &prompt, Rows::Last, &mut top)?;
    println!("prefill of {CONTEXT} tokens: {:.0?}", start.elapsed());
    let path: Vec<NodeId> = (0..prompt.len()).map(NodeId::new).collect();
    verifier.commit(&[Commit { seq, path: &path }])?;

    let mut times = vec![Vec::new(); ROWS.len()];
    for _ in 0..ROUNDS {
        for (&rows, times) in ROWS.iter().zip(&mut times) {
            times.push(pass(&mut verifier, seq, &prompt[..rows], Rows::All, &mut top)?);
        }
    }
    let mut one = None;
    for (rows, times) in ROWS.iter().zip(&mut times) {
        times.sort_unstable();
        let median = times[times.len() / 2].as_secs_f64() * 1e3;
        let one = *one.get_or_insert(median);
        println!("t({rows}) = {median:.2} ms, t({rows})/t(1) = {:.2}", median / one);
    }
    Ok(())
}

/// Times one pass; nothing of it is committed.
fn pass(
    verifier: &mut CandleVerifier,
    seq: SeqId,
    tokens: &[u32],
    rows: Rows,
    top: &mut TopK,
) -> Result<Duration, Box<dyn Error>> {
    let tree = DraftTree::chain(tokens);
    let start = Instant::now();
    verifier.forward(&[Step { seq, tree: &tree, rows }], top)?;
    Ok(start.elapsed())
}
