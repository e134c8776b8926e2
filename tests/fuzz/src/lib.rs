//! Fuzzing of everything that Upcycle reads. Every input must end in a value or a typed error, without a panic or a hang, and with
//! bounded memory.
//!
//! A [`Target`] reads one kind of input. On stable Rust, inputs are [mutations](mutate) of its seeds with a fixed random sequence, so
//! runs are reproducible: `cargo test -p upcycle-fuzz` tries ten thousand per target, and `scripts/fuzz.sh N` tries N.
//! `scripts/fuzz-guided.sh` drives the same targets with libFuzzer, through the crate in `fuzz/`.
//!
//! `corpus/<target>/` contains inputs that reach code the seeds do not, and inputs that once failed. They are tried first.
#![forbid(unsafe_code)]

pub mod mutate;
pub mod run;
pub mod seeds;
mod server;
mod targets;

pub use targets::{TARGETS, Target};
