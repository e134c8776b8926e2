//! Trials: a child process loads a file before this process does.
//!
//! llama.cpp ends the process for many damaged files, by a failed assertion, an exception or an invalid access. This crate checks
//! for the known causes, but not even llama.cpp knows all of them. A trial turns such an end into a typed error. To use a model, the
//! child maps the weights into memory and scores one token with them.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::error::LoadError;
use crate::model::Model;
use crate::native;
use crate::options::Options;
use crate::vocabulary::Vocabulary;

/// The program to run as the child, and its arguments.
static CHILD: OnceLock<(PathBuf, Vec<String>)> = OnceLock::new();

/// The most bytes of the child's log to keep.
const LOG_LIMIT: u64 = 1 << 20;

/// A load, as the child is told of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trial<'a> {
    path: Cow<'a, Path>,
    /// None for the vocabulary alone.
    options: Option<Cow<'a, Options>>,
    extent: Extent,
}

/// How much a trial reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Extent {
    Headers,
    /// The weights too, to score a token.
    Weights,
}

impl<'a> Trial<'a> {
    pub(crate) fn new(path: &'a Path, options: Option<&'a Options>, extent: Extent) -> Self {
        Self { path: path.into(), options: options.map(Cow::Borrowed), extent }
    }
}

/// Tries every later load of this process in a child process first: `program` with `arguments`. The program must pass them to
/// [`answer_trial`] and end with its exit code. Usually it is this program itself. Only the first call counts.
pub fn try_loads_in(program: PathBuf, arguments: Vec<String>) {
    // A second call may come from another part of the program. Its child would do the same.
    let _ = CHILD.set((program, arguments));
}

/// The child's side of a trial: reads a request from standard input, loads the file, scores a token, and returns the exit code.
#[must_use]
pub fn answer_trial() -> ExitCode {
    native::log_to_stderr();
    let answer = || -> Result<(), Box<dyn std::error::Error>> {
        let request: Trial<'static> = serde_json::from_reader(std::io::stdin().lock())?;
        match (&request.options, request.extent) {
            (Some(options), Extent::Weights) => Model::rehearse(&request.path, options)?,
            (Some(options), Extent::Headers) => drop(Model::check(&request.path, options)?),
            (None, _) => Vocabulary::load(&request.path)?.rehearse(),
        }
        Ok(())
    };
    match answer() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a trial in the child, if the program has named one. A file that the child refuses is left to the load that follows,
/// which refuses it with a typed error.
///
/// # Errors
/// [`LoadError::Ended`], [`LoadError::Trial`].
pub(crate) fn run(trial: &Trial<'_>) -> Result<(), LoadError> {
    let Some((program, arguments)) = CHILD.get() else { return Ok(()) };
    let failed = |source| LoadError::Trial { program: program.clone(), source };
    let request = serde_json::to_vec(trial).map_err(|error| failed(error.into()))?;
    let mut child = Command::new(program)
        .args(arguments)
        // Otherwise ggml starts a debugger to print a backtrace.
        .env("GGML_NO_BACKTRACE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // Fails if the child has ended, and the status says so too.
        let _ = stdin.write_all(&request);
    }
    let mut log = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let mut stderr = stderr;
        let kept = stderr.by_ref().take(LOG_LIMIT).read_to_end(&mut log);
        kept.and_then(|_| std::io::copy(&mut stderr, &mut std::io::sink())).map_err(failed)?;
    }
    let status = child.wait().map_err(failed)?;
    if matches!(status.code(), Some(0 | 1)) {
        return Ok(());
    }
    let last = last_line(&String::from_utf8_lossy(&log));
    Err(LoadError::Ended { path: trial.path.to_path_buf(), how: how(status), last })
}

/// The line of a log that tells most about an end: a failed assertion or an exception, otherwise the last one.
fn last_line(log: &str) -> String {
    let mut lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling = |line: &&str| line.contains("GGML_ASSERT") || line.contains("what():");
    let line = lines.clone().find(telling).or_else(|| lines.next_back());
    // An assertion begins with the path of a source file.
    line.map_or("nothing", |line| line.rfind('/').map_or(line, |at| &line[at + 1..])).to_owned()
}

fn how(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        return match signal {
            6 => "SIGABRT".to_owned(),
            7 => "SIGBUS".to_owned(),
            8 => "SIGFPE".to_owned(),
            9 => "SIGKILL".to_owned(),
            11 => "SIGSEGV".to_owned(),
            signal => format!("signal {signal}"),
        };
    }
    status.to_string()
}

#[cfg(test)]
mod tests {
    use super::last_line;

    #[test]
    fn the_assertion_is_told_rather_than_what_follows_it() {
        let log =
            "print_info: n_vocab = 3\n/src/llama-vocab.cpp:9: GGML_ASSERT(a == b) failed\nwarning: bye\n";
        assert_eq!(last_line(log), "llama-vocab.cpp:9: GGML_ASSERT(a == b) failed");
        assert_eq!(last_line("terminate called\n  what():  basic_string\n\n"), "what():  basic_string");
        assert_eq!(last_line("one\ntwo\n"), "two");
        assert_eq!(last_line(""), "nothing");
    }
}
