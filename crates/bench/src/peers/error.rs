//! What can go wrong with a peer.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a peer could not be started, or did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// The program is not there.
    #[error("there is no llama-server at {path}; build it with scripts/get-peers.sh", path = path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The program is there, but is nothing that runs.
    #[error(
        "{path} cannot be run: expected an executable file; build llama-server with scripts/get-peers.sh",
        path = path.display()
    )]
    NotExecutable {
        /// The file.
        path: PathBuf,
    },
    /// The operating system would not start it.
    #[error(
        "{path} could not be started; was it built for this machine? scripts/get-peers.sh builds it",
        path = path.display()
    )]
    Start {
        /// The program.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It ended before it could answer.
    #[error("{path} ended while it was starting ({status}); {}", last(words), path = path.display())]
    DiedAtStart {
        /// The program.
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        words: String,
    },
    /// It runs, but was not ready to answer in time. It was ended.
    #[error(
        "{path} was not ready to answer within {seconds} s; {}",
        last(words),
        path = path.display(),
        seconds = waited.as_secs_f64()
    )]
    NotReady {
        /// The program.
        path: PathBuf,
        /// How long it was waited for.
        waited: Duration,
        /// The end of its log.
        words: String,
    },
    /// It ended while it was being asked, or between two questions.
    #[error("llama-server ended in the middle of its work ({status}); {}", last(words))]
    Died {
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        words: String,
    },
    /// It runs, but the connection to it failed, or it did not answer in time.
    #[error("llama-server runs, but did not answer ({reason}); {}", last(words))]
    Connection {
        /// What failed.
        reason: String,
        /// The end of its log.
        words: String,
    },
    /// It refused the question.
    #[error("llama-server answered with HTTP status {status}: {message}")]
    Status {
        /// The status; 200 was expected.
        status: u16,
        /// What it said.
        message: String,
    },
    /// It answered something that is no answer.
    #[error(
        "llama-server answered nonsense: {reason}; it answered `{answer}`. Is it the version that \
         scripts/get-peers.sh builds?"
    )]
    Nonsense {
        /// What was expected, and what was found.
        reason: String,
        /// The beginning of what it answered.
        answer: String,
    },
    /// There is nothing to ask.
    #[error(
        "expected a prompt of at least one token and an answer of at least one, found {prompt} and {max_tokens}"
    )]
    NothingAsked {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens of the answer, at most.
        max_tokens: usize,
    },
}

fn last(words: &str) -> String {
    if words.is_empty() { "it said nothing".to_owned() } else { format!("its last words:\n{words}") }
}
