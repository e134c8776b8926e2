//! Proof: measures every backend and drafter beside its peers in one run, and draws what it found.
//!
//! 1. [`prompts`]: what is asked.
//! 2. [`results`]: what a run writes, as types; `docs/benchmark.md` says what each field means.
//! 3. [`peers`]: other programs that answer the same prompts.
//! 4. [`report`]: the page, the table of numbers.
//! 5. [`trace`]: one generation, step by step, as a page.
#![forbid(unsafe_code)]

pub mod peers;
pub mod prompts;
pub mod report;
pub mod results;
pub mod trace;
