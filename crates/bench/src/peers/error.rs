//! Errors of peers.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a peer did not start or answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The program does not exist.
    #[error("there is no llama-server at {path}; build it with scripts/get-peers.sh", path = path.display())]
    Missing {
        /// Its expected path.
        path: PathBuf,
    },
    /// The file is not executable.
    #[error(
        "{path} cannot be run: expected an executable file; build llama-server with scripts/get-peers.sh",
        path = path.display()
    )]
    NotExecutable {
        /// The file.
        path: PathBuf,
    },
    /// The operating system cannot start it.
    #[error(
        "cannot start {path}; check that it was built for this machine. scripts/get-peers.sh builds it",
        path = path.display()
    )]
    Start {
        /// The program.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// It ended during its start.
    #[error("{path} ended during its start ({status}); {}", shown(log_tail), path = path.display())]
    DiedAtStart {
        /// The program.
        path: PathBuf,
        /// Its exit status.
        status: ExitStatus,
        /// The end of its log.
        log_tail: String,
    },
    /// It was not ready in time, and was stopped.
    #[error(
        "{path} was not ready to answer within {seconds} s; {}",
        shown(log_tail),
        path = path.display(),
        seconds = waited.as_secs_f64()
    )]
    NotReady {
        /// The program.
        path: PathBuf,
        /// The time waited.
        waited: Duration,
        /// The end of its log.
        log_tail: String,
    },
    /// It ended during or between requests.
    #[error("llama-server ended unexpectedly ({status}); {}", shown(log_tail))]
    Died {
        /// Its exit status.
        status: ExitStatus,
        /// The end of its log.
        log_tail: String,
    },
    /// The connection failed, or it did not answer in time.
    #[error("llama-server runs, but did not answer ({reason}); {}", shown(log_tail))]
    Connection {
        /// The cause.
        reason: String,
        /// The end of its log.
        log_tail: String,
    },
    /// It refused the request.
    #[error("llama-server answered with HTTP status {status}: {message}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// Its message.
        message: String,
    },
    /// Its answer is invalid.
    #[error(
        "llama-server sent an invalid answer: {reason}; found `{answer}`. Use the version that scripts/get-peers.sh \
         builds"
    )]
    InvalidAnswer {
        /// What was expected, and what was found.
        reason: String,
        /// The beginning of its answer.
        answer: String,
    },
    /// The prompt or the answer would be empty.
    #[error(
        "expected a prompt of at least one token and an answer of at least one, found {prompt} and {max_tokens}"
    )]
    EmptyRequest {
        /// Tokens of the prompt.
        prompt: usize,
        /// The most tokens of the answer.
        max_tokens: usize,
    },
}

fn shown(log_tail: &str) -> String {
    if log_tail.is_empty() {
        "its log is empty".to_owned()
    } else {
        format!("the end of its log:\n{log_tail}")
    }
}
