//! A child process: its log, its state, and that it ends with this program.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, PipeReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::PeerError;

/// The interval of checks while waiting.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The number of log lines to keep, and the most bytes of one.
const LINES: usize = 20;
const LINE: u64 = 1024;

/// How long to wait for the end of an ended program's log. It arrives at once unless one of its children holds the pipe.
const LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// A running program. Dropping the value ends the program.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    /// Ends the program when this process ends in any way. Its input is a pipe that closes then.
    watchdog: Option<Child>,
    log: Arc<Mutex<Log>>,
}

/// The end of a program's standard output and standard error.
#[derive(Debug, Default)]
struct Log {
    lines: VecDeque<String>,
    /// The address that it listens on.
    address: Option<String>,
    closed: bool,
}

impl Process {
    /// Starts a program without input in its own process group, so that Ctrl-C does not reach it.
    pub(super) fn start(program: &Path, arguments: &[OsString]) -> Result<Self, PeerError> {
        check(program)?;
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => PeerError::NotExecutable { path: program.to_owned() },
            _ => PeerError::Start { path: program.to_owned(), source },
        };
        let (reader, writer) = io::pipe().map_err(failed)?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(writer.try_clone().map_err(failed)?).stderr(writer);
        // Only the recorded arguments may configure it.
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("LLAMA_") || name_text.starts_with("GGML_") {
                command.env_remove(&name);
            }
        }
        own_group(&mut command);
        let child = command.spawn().map_err(failed)?;
        // The command holds the write ends of the pipe. They must close, or its end is never seen.
        drop(command);
        let watchdog = watchdog(child.id());
        let log = Arc::new(Mutex::new(Log::default()));
        let process = Self { child, watchdog, log: Arc::clone(&log) };
        thread::Builder::new()
            .name("peer-log".to_owned())
            .spawn(move || follow(reader, &log))
            .map_err(failed)?;
        Ok(process)
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status; none while it runs.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        // A failed query does not mean that it ended.
        let status = self.child.try_wait().ok().flatten()?;
        // Its process id may be reused from now on.
        self.dismiss();
        Some(status)
    }

    /// Like [`ended`](Self::ended), but waits up to `timeout`.
    pub(super) fn ended_within(&mut self, timeout: Duration) -> Option<ExitStatus> {
        let begin = Instant::now();
        loop {
            let status = self.ended();
            if status.is_some() || begin.elapsed() >= timeout {
                return status;
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// The address that it listens on: `http://127.0.0.1:PORT`.
    pub(super) fn address(&self) -> Option<String> {
        self.log().address.clone()
    }

    /// The end of its log so far.
    pub(super) fn log_tail(&self) -> String {
        self.log().lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// The end of its log after it ended.
    pub(super) fn final_log(&self) -> String {
        let begin = Instant::now();
        while !self.log().closed && begin.elapsed() < LOG_TIMEOUT {
            thread::sleep(POLL_INTERVAL);
        }
        self.log_tail()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dismiss(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            end(&mut watchdog);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.dismiss();
        end(&mut self.child);
    }
}

/// Kills a program and waits for it, so that no zombie remains.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// Checks that the program exists. A script with a missing interpreter fails to start with the same error.
fn check(program: &Path) -> Result<(), PeerError> {
    let path = program.to_owned();
    program.metadata().map(drop).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => PeerError::Missing { path },
        _ => PeerError::Start { path, source },
    })
}

#[cfg(unix)]
fn own_group(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(not(unix))]
fn own_group(_: &mut Command) {}

/// Starts a shell that ends the program when its input closes, which happens when this process ends. Without a shell, only
/// [`Drop`] ends the program.
fn watchdog(process: u32) -> Option<Child> {
    if !cfg!(unix) {
        return None;
    }
    let mut command = Command::new("sh");
    command.args(["-c", "read -r _; kill -9 \"$1\"", "sh", &process.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    own_group(&mut command);
    command.spawn().ok()
}

/// Reads a log until it closes.
fn follow(reader: PipeReader, log: &Mutex<Log>) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    // A longer line continues as the next one.
    while matches!(reader.by_ref().take(LINE).read_until(b'\n', &mut line), Ok(read) if read > 0) {
        let text = String::from_utf8_lossy(&line);
        log.lock().unwrap_or_else(PoisonError::into_inner).push(text.trim_end());
        line.clear();
    }
    log.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
}

impl Log {
    fn push(&mut self, line: &str) {
        if self.address.is_none() {
            self.address = listening(line).map(str::to_owned);
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }
}

/// The address in `… listening on http://127.0.0.1:8080`.
fn listening(line: &str) -> Option<&str> {
    const HOST: &str = "http://127.0.0.1:";
    let (_, address) = line.split_once("listening on ")?;
    let digits = address.strip_prefix(HOST)?.bytes().take_while(u8::is_ascii_digit).count();
    address[HOST.len()..HOST.len() + digits].parse::<u16>().ok()?;
    Some(&address[..HOST.len() + digits])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_its_line() {
        let said = "0.00.401.359 I srv  llama_server: listening on http://127.0.0.1:34191";
        assert_eq!(listening(said), Some("http://127.0.0.1:34191"));
        assert_eq!(listening("listening on http://127.0.0.1:80 - starting"), Some("http://127.0.0.1:80"));
        for other in
            ["", "listening on ", "listening on http://127.0.0.1:", "listening on http://127.0.0.1:99999"]
        {
            assert_eq!(listening(other), None, "{other}");
        }
        assert_eq!(listening("listening on http://example.org:80"), None);
    }

    #[test]
    fn a_log_keeps_only_its_end() {
        let mut log = Log::default();
        for number in 0..3 * LINES {
            log.push(&number.to_string());
        }
        let kept: Vec<_> = (2 * LINES..3 * LINES).map(|number| number.to_string()).collect();
        assert_eq!(log.lines, kept);
    }
}
