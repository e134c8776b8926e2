//! Failures of commands and their exit codes.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use upcycle::{BuildError, ConfigError, LoadError};

use crate::interrupt;

type AnyError = Box<dyn Error + Send + Sync>;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong usage or configuration: exit code 2.
    Usage(AnyError),
    /// Any other failure: exit code 1.
    Failed(AnyError),
    /// The output already reports the failure, for example that texts differ: exit code 1.
    Reported,
    /// A signal: exit code 128 and its number, as in shells: 130 for Ctrl-C.
    Interrupted,
    /// The reader of standard output closed it: exit code 0, without a message.
    PipeClosed,
}

impl Failure {
    pub(crate) fn usage(error: impl Into<AnyError>) -> Self {
        Self::Usage(error.into())
    }

    pub(crate) fn failed(error: impl Into<AnyError>) -> Self {
        Self::Failed(error.into())
    }

    /// A command whose cargo feature is not compiled in.
    #[cfg(not(all(feature = "bench", feature = "ort", feature = "serve")))]
    pub(crate) fn missing_feature(feature: &str) -> Self {
        Self::usage(format!(
            "this program was built without the feature `{feature}`; build it with `cargo build --release --package \
             upcycle-cli --features {feature}`"
        ))
    }

    /// A failed write to standard output.
    pub(crate) fn write(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::PipeClosed;
        }
        Self::Failed(Box::new(WriteError(error)))
    }

    /// Prints the message to standard error and returns the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::PipeClosed => ExitCode::SUCCESS,
            Self::Reported => ExitCode::from(1),
            Self::Interrupted => ExitCode::from(interrupt::exit_code()),
            Self::Failed(error) => print(&*error, 1),
            Self::Usage(error) => print(&*error, 2),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
struct WriteError(#[source] io::Error);

fn print(error: &(dyn Error + 'static), code: u8) -> ExitCode {
    // If standard error is closed too, the exit code is all that is left.
    let _ = io::stderr().write_all(chain(error).as_bytes());
    ExitCode::from(code)
}

/// An error and its causes, one line each.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = format!("error: {error}\n");
    let mut last = error.to_string();
    for cause in std::iter::successors(error.source(), |&error| error.source()) {
        let cause = cause.to_string();
        // Some messages already contain their cause.
        if !last.contains(&cause) {
            text.push_str(&format!("  because: {cause}\n"));
            last = cause;
        }
    }
    text
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error)
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Build(BuildError::Load { .. }) => Self::failed(error),
            LoadError::NoModel | LoadError::NoHub | LoadError::Build(_) => Self::usage(error),
            _ => Self::failed(error),
        }
    }
}
