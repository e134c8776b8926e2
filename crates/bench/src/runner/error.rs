//! Why a run could not be made.

use std::path::PathBuf;

use upcycle::{ConfigError, DrafterError, LoadError, PromptError};
use upcycle_checkpoint::gguf::GgufError;
use upcycle_core::{SamplingError, VerifyError};

use crate::arm::ArmError;
use crate::report::ReportError;
use crate::results::SCHEMA;

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An arm cannot be.
    #[error(transparent)]
    Arm(#[from] ArmError),
    /// A model cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model of a peer cannot be read.
    #[error("{} cannot be used", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: GgufError,
    },
    /// A prompt has no tokens.
    #[error("question {question} cannot become tokens")]
    Prompt {
        /// Its id.
        question: String,
        /// Why not.
        #[source]
        source: PromptError,
    },
    /// No prompt is left to ask.
    #[error("none of the {asked} prompts fits the context; the first: {reason}")]
    NothingToAsk {
        /// Prompts that there were.
        asked: usize,
        /// Why the first one is left out.
        reason: String,
    },
    /// A drafter cannot be made.
    #[error("no drafter for arm {arm}")]
    Drafter {
        /// The arm.
        arm: String,
        /// Why not.
        #[source]
        source: DrafterError,
    },
    /// Snapshots are asked for where there are none.
    #[error(
        "arm {arm} has no snapshot to start from: only `recycling` keeps one, and its configuration has to name one that \
         exists as drafter.snapshot; measure other arms, or choose `cold` or `carried`"
    )]
    NoSnapshot {
        /// The arm.
        arm: String,
    },
    /// The sampling cannot be.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A pass failed while its cost was measured.
    #[error("setup {setup} failed while the cost of its passes was measured")]
    Cost {
        /// The setup.
        setup: String,
        /// Why.
        #[source]
        source: VerifyError,
    },
    /// A file.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The folder holds a run.
    #[error("{} holds a run; go on with it by --resume {}, or name another folder", folder.display(), folder.display())]
    Occupied {
        /// The folder.
        folder: PathBuf,
    },
    /// A file is not one of a run.
    #[error("{} is not a file of a run", path.display())]
    NotARun {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// A file is of another version.
    #[error(
        "{} has version {found} of the format, and this program reads version {SCHEMA}; use the program that wrote it, or \
         measure again", path.display()
    )]
    OtherSchema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The report cannot be made.
    #[error("the report cannot be made")]
    Report(#[from] ReportError),
    /// A run cannot be resumed, since something has changed.
    #[error(
        "this run cannot be resumed: {what}; figures of the two would be ratios of things measured apart"
    )]
    Changed {
        /// What.
        what: String,
    },
}
