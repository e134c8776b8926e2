//! Trials: a child process loads and uses a model file before this process does.
//!
//! The libraries below a backend end the process for some damaged files, by a failed assertion, an exception or an invalid access.
//! A trial turns such an end into a typed error. A program names its child with [`try_loads_in`]; usually the child is the program
//! itself. Without it, [`run`] does nothing.

use std::error::Error;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wait_timeout::ChildExt;

/// The program to run as the child, and its arguments.
static CHILD: OnceLock<(PathBuf, Vec<String>)> = OnceLock::new();

/// The most bytes of the child's log to keep.
const LOG_LIMIT: u64 = 1 << 20;

/// A trial may take this long, and a second more for each so many bytes of the file. A slow network share reads faster.
const MIN_LIMIT: Duration = Duration::from_secs(60);
const BYTES_PER_SECOND: u64 = 10_000_000;

/// Why a file did not pass its trial.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// The library ended the child process.
    #[error(
        "{library} ended its process ({how}) while it loaded {path}; its last words were: {last}; the file is damaged or made for \
         another version of {library}: fetch or convert it again",
        path = path.display()
    )]
    Ended {
        /// The library below the backend.
        library: &'static str,
        /// The file.
        path: PathBuf,
        /// The signal or exit code.
        how: String,
        /// The last line that the child logged.
        last: String,
    },
    /// The child did not end in time.
    #[error(
        "{library} did not load {path} within {seconds} s; the file is damaged, or the disk is very slow: fetch it again, or copy \
         it to another disk",
        path = path.display()
    )]
    TimeLimit {
        /// The library below the backend.
        library: &'static str,
        /// The file.
        path: PathBuf,
        /// The limit.
        seconds: u64,
    },
    /// The child process cannot be run.
    #[error("cannot try the file in a child process first: {program} cannot be run", program = program.display())]
    Child {
        /// The program.
        program: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

/// Tries every later load of this process in a child process first: `program` with `arguments`, followed by the name of a backend.
/// The program must pass control to that backend's answer and end with its exit code. Only the first call counts.
pub fn try_loads_in(program: PathBuf, arguments: Vec<String>) {
    // A second call may come from another part of the program. Its child would do the same.
    let _ = CHILD.set((program, arguments));
}

/// Whether this process has a program for trials.
#[must_use]
pub fn is_possible() -> bool {
    CHILD.get().is_some()
}

/// The child's side: reads a request from standard input, attempts it, and returns the exit code.
#[must_use]
pub fn answer<R: DeserializeOwned>(attempt: impl FnOnce(R) -> Result<(), Box<dyn Error>>) -> ExitCode {
    let request = serde_json::from_reader(std::io::stdin().lock());
    match request.map_err(Into::into).and_then(attempt) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a trial of `path` in the child, if the program has named one. `library` is the one below `backend`, for messages. A file
/// that the child refuses is left to the load that follows, which refuses it with a typed error.
///
/// # Errors
/// [`TrialError`].
pub fn run(
    backend: &str,
    library: &'static str,
    path: &Path,
    request: &impl Serialize,
) -> Result<(), TrialError> {
    let Some((program, arguments)) = CHILD.get() else { return Ok(()) };
    let failed = |source| TrialError::Child { program: program.clone(), source };
    let request = serde_json::to_vec(request).map_err(|error| failed(error.into()))?;
    let mut child = Command::new(program)
        .args(arguments)
        .arg(backend)
        // Otherwise ggml starts a debugger to print a backtrace.
        .env("GGML_NO_BACKTRACE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let log = child.stderr.take().map(|stderr| thread::spawn(move || read_log(stderr)));
    if let Some(mut stdin) = child.stdin.take() {
        // Fails if the child has ended, and the status says so too.
        let _ = stdin.write_all(&request);
    }
    let limit = limit(path);
    let Some(status) = wait(&mut child, limit).map_err(failed)? else {
        return Err(TrialError::TimeLimit { library, path: path.to_owned(), seconds: limit.as_secs() });
    };
    if matches!(status.code(), Some(0 | 1)) {
        return Ok(());
    }
    let log = log.and_then(|log| log.join().ok()).unwrap_or_default();
    let last = last_line(&String::from_utf8_lossy(&log));
    Err(TrialError::Ended { library, path: path.to_owned(), how: how(status), last })
}

/// The bytes of the log that are kept. The others are read too, so that the child can write them.
fn read_log(mut stderr: impl Read) -> Vec<u8> {
    let mut log = Vec::new();
    let kept = stderr.by_ref().take(LOG_LIMIT).read_to_end(&mut log);
    // The log only explains an end, so what cannot be read is left out.
    let _ = kept.and_then(|_| std::io::copy(&mut stderr, &mut std::io::sink()));
    log
}

/// The time limit for this file, or for all files of this folder.
fn limit(path: &Path) -> Duration {
    let folder = path.read_dir().into_iter().flatten().flatten().map(|entry| entry.path());
    let files = folder.chain([path.to_owned()]).filter_map(|file| file.metadata().ok());
    let bytes: u64 = files.filter(std::fs::Metadata::is_file).map(|file| file.len()).sum();
    MIN_LIMIT + Duration::from_secs(bytes / BYTES_PER_SECOND)
}

/// Waits for the child; none if it was killed at the limit.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let status = child.wait_timeout(limit)?;
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    Ok(status)
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
    use super::*;

    #[test]
    fn the_assertion_is_told_rather_than_what_follows_it() {
        let log =
            "print_info: n_vocab = 3\n/src/llama-vocab.cpp:9: GGML_ASSERT(a == b) failed\nwarning: bye\n";
        assert_eq!(last_line(log), "llama-vocab.cpp:9: GGML_ASSERT(a == b) failed");
        assert_eq!(last_line("terminate called\n  what():  basic_string\n\n"), "what():  basic_string");
        assert_eq!(last_line("one\ntwo\n"), "two");
        assert_eq!(last_line(""), "nothing");
    }

    #[test]
    fn a_child_that_never_ends_is_killed_at_the_limit() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        assert!(wait(&mut child, Duration::from_millis(20)).unwrap().is_none());
        let mut child = Command::new("true").spawn().unwrap();
        assert!(wait(&mut child, MIN_LIMIT).unwrap().unwrap().success());
    }

    #[test]
    fn the_limit_grows_with_the_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(limit(folder.path()), MIN_LIMIT);
        let file = folder.path().join("a");
        std::fs::File::create(&file).unwrap().set_len(30_000_000).unwrap();
        assert_eq!(limit(&file), MIN_LIMIT + Duration::from_secs(3));
        assert_eq!(limit(folder.path()), MIN_LIMIT + Duration::from_secs(3));
    }
}
