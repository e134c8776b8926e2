//! What the parts of a step cost on their own, without a model's passes.
//!
//! The state is as after some hundred steps of real decoding: tables warmed by thousands of rows whose tokens are as
//! unevenly used as words are, from a [`language`] that a seeded generator makes up.
//!
//! `cargo bench -p upcycle-bench --no-default-features --bench micro [-- FILTER]`
#![forbid(unsafe_code)]

mod choosing;
mod drafting;
mod language;
mod reading;
mod snapshots;
mod trees;

/// SmolLM2's vocabulary and Qwen2.5's: the smallest and about the largest in use.
const VOCABS: [usize; 2] = [49_152, 152_064];

fn main() {
    divan::main();
}
