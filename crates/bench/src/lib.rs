//! Measures backends and drafters against plain decoding and other programs, and traces single generations.
//!
//! - [`prompts`]: reads files of prompts. [`trace`]: one generation, step by step, as an HTML page. [`results`]: the types
//!   of `results.json`. These three are always compiled.
//! - With the feature `measure`: [`arm`] and [`plan`] say what to measure, [`runner`] measures it, [`peers`] runs other
//!   programs, [`cost`] times passes by their number of rows, [`peer_command`]
//!   has another program time its own, [`statistics`] and [`summary`] turn records into figures,
//!   [`report`] makes the page and the tables, [`files`] writes them. `docs/benchmark.md` explains every field.
#![forbid(unsafe_code)]

#[cfg(feature = "measure")]
pub mod arm;
#[cfg(feature = "measure")]
pub mod cost;
#[cfg(feature = "measure")]
mod error;
#[cfg(feature = "measure")]
pub mod files;
#[cfg(feature = "measure")]
pub mod machine;
#[cfg(feature = "measure")]
pub mod model_file;
#[cfg(feature = "measure")]
pub mod peer_command;
#[cfg(feature = "measure")]
pub mod peers;
#[cfg(feature = "measure")]
pub mod plan;
pub mod prompts;
#[cfg(feature = "measure")]
pub mod report;
pub mod results;
#[cfg(feature = "measure")]
pub mod runner;
#[cfg(feature = "measure")]
pub mod statistics;
#[cfg(feature = "measure")]
pub mod summary;
pub mod trace;

#[cfg(feature = "measure")]
pub use error::BenchError;
