//! How a command fails, and with which exit code.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use upcycle::{BuildError, ConfigError, LoadError};

type AnyError = Box<dyn Error + Send + Sync>;

/// Why a command did not end well.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Wrong usage or configuration: exit code 2.
    Usage(AnyError),
    /// Everything else that went wrong: exit code 1.
    Failed(AnyError),
    /// The answer was given and says no, so that nothing is left to say: exit code 1.
    Negative,
    /// Ctrl-C: exit code 130, as shells have it for SIGINT.
    Interrupted,
    /// Whoever reads the output has gone: no error, and nobody to tell.
    PipeClosed,
}

impl Failure {
    pub(crate) fn usage(error: impl Into<AnyError>) -> Self {
        Self::Usage(error.into())
    }

    pub(crate) fn failed(error: impl Into<AnyError>) -> Self {
        Self::Failed(error.into())
    }

    /// A failed write to standard output.
    pub(crate) fn write(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::PipeClosed;
        }
        Self::Failed(Box::new(WriteError(error)))
    }

    /// Tells the person, and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::PipeClosed => ExitCode::SUCCESS,
            Self::Negative => ExitCode::from(1),
            Self::Interrupted => ExitCode::from(130),
            Self::Failed(error) => tell(&*error, 1),
            Self::Usage(error) => tell(&*error, 2),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written")]
struct WriteError(#[source] io::Error);

fn tell(error: &(dyn Error + 'static), code: u8) -> ExitCode {
    // If standard error is closed too, the exit code still tells.
    let _ = io::stderr().write_all(chain(error).as_bytes());
    ExitCode::from(code)
}

/// An error and its causes, a line each.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = format!("error: {error}\n");
    let mut last = error.to_string();
    for cause in std::iter::successors(error.source(), |&error| error.source()) {
        let cause = cause.to_string();
        // Some messages already end with their cause.
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
            LoadError::Build(BuildError::Failed { .. }) => Self::failed(error),
            LoadError::NoModel | LoadError::NoHub | LoadError::Build(_) => Self::usage(error),
            _ => Self::failed(error),
        }
    }
}
