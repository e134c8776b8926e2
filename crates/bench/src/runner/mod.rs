//! Measures a run: all arms answer every prompt, interleaved, round after round.
//!
//! 1. [`Runner::prepare`] loads all models, starts the peers and encodes the prompts, so errors show before the first
//!    measurement.
//! 2. [`Runner::run`] warms up and measures. Each round begins with the cost of passes by their rows. Then all arms answer
//!    each prompt in turn, starting with another arm each time. Every answer is compared with plain decoding's.
//! 3. Measurements are saved line by line. A resumed run continues where the journal ends.

mod answer;
mod arm_runner;
mod journal;
mod judge;
mod loaded_setup;
mod manifest;
mod measured;
mod observer;
mod prepare;
mod run;
mod verifier_slot;

pub use journal::{prepare_folder, read_manifest};
pub use manifest::RunManifest;
pub use observer::RunObserver;
pub use run::{FinishedRun, Runner};
