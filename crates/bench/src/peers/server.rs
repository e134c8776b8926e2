//! `llama-server` as a child process.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use upcycle_core::TokenId;

use super::client::{Client, PeerAnswer, RequestError};
use super::error::PeerError;
use super::process::{POLL_INTERVAL, Process};
use super::spec::PeerSpec;
use crate::machine;

/// How long to wait for the server's end after a failed connection: an ending server closes it a little earlier.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To load its model.
    pub start: Duration,
    /// For one answer.
    pub answer: Duration,
}

impl Default for Timeouts {
    /// Two minutes for the model, ten for an answer.
    fn default() -> Self {
        Self { start: Duration::from_secs(120), answer: Duration::from_secs(600) }
    }
}

/// A running `llama-server` with a loaded model. It answers one request at a time.
///
/// It listens on a free port of the loopback interface and ignores `LLAMA_*` and `GGML_*` variables. It has its own process
/// group, so Ctrl-C does not reach it. Dropping the value ends it. On Unix it also ends when this process ends in any way.
#[derive(Debug)]
pub struct LlamaServer {
    process: Process,
    client: Client,
    version: String,
    command_line: String,
}

impl LlamaServer {
    /// Starts `program` with a model file and waits until it is ready, with the default [`Timeouts`]. A prompt and its answer
    /// may have `context` tokens together (0: the model's own limit).
    ///
    /// # Errors
    /// [`PeerError`]. No process is left running.
    pub fn start(
        program: &Path,
        model: &Path,
        spec: &PeerSpec,
        threads: usize,
        context: usize,
    ) -> Result<Self, PeerError> {
        Self::start_within(Timeouts::default(), program, model, spec, threads, context)
    }

    /// Like [`start`](Self::start), with other timeouts.
    ///
    /// # Errors
    /// [`PeerError`]. No process is left running.
    pub fn start_within(
        timeout: Timeouts,
        program: &Path,
        model: &Path,
        spec: &PeerSpec,
        threads: usize,
        context: usize,
    ) -> Result<Self, PeerError> {
        let begin = Instant::now();
        let start = Start { program, begin, timeout };
        let version = start.version()?;
        let mut process = Process::start(program, &spec.arguments(model, threads, context))?;
        loop {
            if let Some(address) = process.address() {
                let client = Client::new(address, timeout.answer);
                if client.is_ready(start.left()) {
                    let command_line = spec.command_line(program, model, threads, context);
                    return Ok(Self { process, client, version, command_line });
                }
            }
            if let Some(status) = process.ended() {
                let log_tail = process.final_log();
                return Err(PeerError::DiedAtStart { path: program.to_owned(), status, log_tail });
            }
            start.go_on(&process)?;
        }
    }

    /// Its version, such as `0.5.0-dev (build 0, commit 0c1e57098)`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its command line, as [`PeerSpec::command_line`] writes it.
    #[must_use]
    pub fn command_line(&self) -> &str {
        &self.command_line
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Answers a prompt greedily. The whole prompt is read again each time. The answer ends after an end token of the model
    /// file, which is included, at `max_tokens`, or when the context is full.
    ///
    /// # Errors
    /// [`PeerError`]. After [`PeerError::Died`] every further request fails in the same way.
    pub fn answer(&mut self, prompt: &[TokenId], max_tokens: usize) -> Result<PeerAnswer, PeerError> {
        if prompt.is_empty() || max_tokens == 0 {
            return Err(PeerError::EmptyRequest { prompt: prompt.len(), max_tokens });
        }
        // Another program may use the port of an ended server.
        self.check(Duration::ZERO)?;
        self.client.ask(prompt, max_tokens).map_err(|trouble| match trouble {
            RequestError::Answer(error) => error,
            RequestError::Connection(source) => self.check(EXIT_TIMEOUT).err().unwrap_or_else(|| {
                PeerError::Connection { reason: source.to_string(), log_tail: self.process.log_tail() }
            }),
        })
    }

    /// Its largest resident set in bytes since the start or [`reset_peak_memory`](Self::reset_peak_memory); none if the system
    /// does not provide it.
    #[must_use]
    pub fn peak_memory(&self) -> Option<u64> {
        machine::peak_memory(Some(self.process.id()))
    }

    /// Resets [`peak_memory`](Self::peak_memory), if the system can.
    pub fn reset_peak_memory(&mut self) {
        machine::reset_peak_memory(Some(self.process.id()));
    }

    /// Checks that it does not end within `timeout`.
    fn check(&mut self, timeout: Duration) -> Result<(), PeerError> {
        match self.process.ended_within(timeout) {
            None => Ok(()),
            Some(status) => Err(PeerError::Died { status, log_tail: self.process.final_log() }),
        }
    }
}

/// A start in progress.
struct Start<'a> {
    program: &'a Path,
    begin: Instant,
    timeout: Timeouts,
}

impl Start<'_> {
    /// The version that `--version` prints.
    fn version(&self) -> Result<String, PeerError> {
        let mut process = Process::start(self.program, &["--version".into()])?;
        let status = loop {
            if let Some(status) = process.ended() {
                break status;
            }
            self.go_on(&process)?;
        };
        let log_tail = process.final_log();
        if !status.success() {
            return Err(PeerError::DiedAtStart { path: self.path(), status, log_tail });
        }
        let version = log_tail.lines().find_map(|line| line.strip_prefix("version: ")).map(str::to_owned);
        version.ok_or_else(|| PeerError::InvalidAnswer {
            reason: "expected a line `version: …` from `--version`".to_owned(),
            answer: log_tail,
        })
    }

    fn left(&self) -> Duration {
        // ureq treats a timeout of zero as no limit.
        self.timeout.start.saturating_sub(self.begin.elapsed()).max(POLL_INTERVAL)
    }

    /// Waits for one interval, unless the time is up.
    fn go_on(&self, process: &Process) -> Result<(), PeerError> {
        let waited = self.begin.elapsed();
        if waited >= self.timeout.start {
            return Err(PeerError::NotReady { path: self.path(), waited, log_tail: process.log_tail() });
        }
        thread::sleep(POLL_INTERVAL);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.program.to_owned()
    }
}
