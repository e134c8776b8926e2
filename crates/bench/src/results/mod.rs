//! The types of `results.json`.
//!
//! Times are in seconds, sizes in bytes, shares between 0 and 1. `docs/benchmark.md` documents the file. [`SCHEMA`] changes
//! whenever an old reader would misread a new file.

mod run;
mod steps;
mod summary;

pub use run::{
    Arm, ArmKind, ArmState, Build, Cost, Equality, InitialTables, Machine, Record, Results, SCHEMA, Settings,
    Skipped,
};
pub use steps::{SourceCount, Steps, TimeSplit};
pub use summary::{EqualityCount, Estimate, Prediction, Summary};
