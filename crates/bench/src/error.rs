//! Errors of a run.

use std::error::Error;
use std::path::{Path, PathBuf};

use upcycle::{ConfigError, DecoderError, LoadError, PromptError};
use upcycle_checkpoint::gguf::GgufError;
use upcycle_core::{SamplingError, VerifyError};

use crate::arm::ArmError;
use crate::peer_command::PeerCommandError;
use crate::report::ReportError;
use crate::results::SCHEMA;

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An arm is wrong.
    #[error(transparent)]
    Arm(#[from] ArmError),
    /// A model cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The model of a peer cannot be read.
    #[error("cannot use {}", path.display())]
    Model {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: GgufError,
    },
    /// A prompt cannot be encoded.
    #[error("cannot encode the prompt of question {question}")]
    Prompt {
        /// Its id.
        question: String,
        /// The cause.
        #[source]
        source: PromptError,
    },
    /// All prompts are skipped.
    #[error("none of the {prompts} prompts can be used; the first: {reason}")]
    NoPrompts {
        /// The number of prompts.
        prompts: usize,
        /// Why the first one is skipped.
        reason: String,
    },
    /// A drafter cannot be made.
    #[error("cannot make the drafter of arm {arm}")]
    Drafter {
        /// The arm.
        arm: String,
        /// The cause.
        #[source]
        source: Box<DecoderError>,
    },
    /// An arm has no snapshot to start from.
    #[error(
        "`--tables snapshot` needs drafter.snapshot for arm {arm}: set it to an existing file, measure other arms, or choose \
         `--tables empty` or `--tables carried`"
    )]
    NoSnapshot {
        /// The arm.
        arm: String,
    },
    /// The sampling parameters are invalid.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A pass failed while its cost was measured.
    #[error("cannot measure the cost of passes of {setup}")]
    Cost {
        /// The setup.
        setup: String,
        /// The cause.
        #[source]
        source: VerifyError,
    },
    /// The other program's times cannot be used.
    #[error(transparent)]
    PeerCommand(#[from] PeerCommandError),
    /// A file or folder.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The failed action, such as `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The folder already holds a run.
    #[error("{} already holds a run; continue it with --resume {}, or choose another folder", folder.display(), folder.display())]
    FolderInUse {
        /// The folder.
        folder: PathBuf,
    },
    /// A file does not have the expected content.
    #[error("{} is not a file of a run", path.display())]
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// A file has another version.
    #[error(
        "{} has version {found} of the format; this program reads version {SCHEMA}. Use the program that wrote it, or \
         measure again", path.display()
    )]
    OtherSchema {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// The report cannot be made.
    #[error("cannot make the report")]
    Report(#[from] ReportError),
    /// A run cannot be resumed, because something changed.
    #[error("cannot resume this run: {difference}; measurements before and after cannot be compared")]
    Changed {
        /// What changed.
        difference: String,
    },
}

impl BenchError {
    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }
}

/// An error and its causes on one line.
pub(crate) fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in std::iter::successors(error.source(), |&error| error.source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}
