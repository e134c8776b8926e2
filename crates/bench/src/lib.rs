//! Proof: measures every backend and drafter beside its peers in one run, and draws what it found.
//!
//! 1. [`prompts`]: what is asked.
//! 2. [`arm`] and [`plan`]: what is measured, as the command line names it.
//! 3. [`runner`]: measures, arms interleaved prompt by prompt; [`peers`] are other programs that answer the same prompts;
//!    [`cost`] times passes by their rows.
//! 4. [`statistics`] and [`summary`]: from records to figures.
//! 5. [`results`]: what a run writes, as types, and [`output`], its files; `docs/benchmark.md` says what each field means.
//! 6. [`report`]: the page, the table of numbers.
//! 7. [`trace`]: one generation, step by step, as a page.
#![forbid(unsafe_code)]

pub mod arm;
pub mod cost;
pub mod machine;
pub mod output;
pub mod peers;
pub mod plan;
pub mod prompts;
pub mod report;
pub mod results;
pub mod runner;
pub mod statistics;
pub mod summary;
pub mod trace;
