//! Damaged inputs of every kind that Upcycle reads. Each ends in a value or in a typed error: no panic, no hang, no more
//! memory than the input's size allows.
//!
//! A [`Target`] reads bytes. On stable Rust inputs are [mutated](mutate) from its seeds, by a fixed sequence of numbers, so
//! that every run is the same: `cargo test -p upcycle-fuzz` tries a few thousand of each, `scripts/fuzz.sh N` as many as
//! wanted. `scripts/fuzz-guided.sh` drives the same targets with libFuzzer, through `fuzz/` at the root of the repository.
//!
//! `corpus/<target>/` has inputs that libFuzzer found to reach code that the seeds do not, and what once went wrong. They are
//! tried first.
#![forbid(unsafe_code)]

pub mod mutate;
pub mod run;
pub mod seeds;
mod targets;

pub use targets::{TARGETS, Target};
