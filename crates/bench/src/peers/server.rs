//! `llama-server` as a child process.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use upcycle_core::{Sampling, TokenId};

use super::client::{Client, PeerAnswer, Trouble};
use super::process::{LOOK, Process};
use super::{PeerError, PeerSpec};
use crate::machine;

/// How long a failed connection's cause is waited for: a dying server closes it a little before it is gone.
const DYING: Duration = Duration::from_secs(2);

/// How long a peer is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until it has loaded its model.
    pub start: Duration,
    /// For one answer.
    pub answer: Duration,
}

impl Default for Patience {
    /// Two minutes for the model, ten for an answer.
    fn default() -> Self {
        Self { start: Duration::from_secs(120), answer: Duration::from_secs(600) }
    }
}

/// A running `llama-server` with a model in it, which answers one question at a time.
///
/// It listens on the loopback at a port that was free, takes no input and nothing from `LLAMA_*` and `GGML_*`
/// variables, and is in a process group of its own: Ctrl-C in a terminal does not reach it. Dropping the value ends
/// it. On Unix it also ends when this process does, in whatever way.
#[derive(Debug)]
pub struct LlamaServer {
    process: Process,
    client: Client,
    version: String,
    command_line: String,
}

impl LlamaServer {
    /// Starts the program at `program` with a model file and waits until it is ready, as long as [`Patience`] has by
    /// default. Prompts are read and answers decoded with `threads` threads; a prompt and its answer have room for
    /// `context` tokens together (0: as many as the model was made for).
    ///
    /// # Errors
    /// [`PeerError`]; nothing is left running.
    pub fn start(
        program: &Path,
        model: &Path,
        spec: &PeerSpec,
        threads: usize,
        context: usize,
    ) -> Result<Self, PeerError> {
        Self::start_within(Patience::default(), program, model, spec, threads, context)
    }

    /// As [`start`](Self::start), with bounds of the caller's own.
    ///
    /// # Errors
    /// [`PeerError`]; nothing is left running.
    pub fn start_within(
        patience: Patience,
        program: &Path,
        model: &Path,
        spec: &PeerSpec,
        threads: usize,
        context: usize,
    ) -> Result<Self, PeerError> {
        let begin = Instant::now();
        let start = Start { program, begin, patience };
        let version = start.version()?;
        let mut process = Process::start(program, &spec.arguments(model, threads, context))?;
        loop {
            if let Some(address) = process.address() {
                let client = Client::new(address, patience.answer);
                if client.is_ready(start.left()) {
                    let command_line = spec.command_line(program, model, threads, context);
                    return Ok(Self { process, client, version, command_line });
                }
            }
            if let Some(status) = process.ended() {
                let words = process.last_words();
                return Err(PeerError::DiedAtStart { path: program.to_owned(), status, words });
            }
            start.go_on(&process)?;
        }
    }

    /// What it calls its version: `0.5.0-dev (build 0, commit 0c1e57098)`. A build number of 0 is one that was not
    /// known when it was built.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The command that runs it, as [`PeerSpec::command_line`] writes it.
    #[must_use]
    pub fn command_line(&self) -> &str {
        &self.command_line
    }

    /// Its process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks it for its greedy answer. The whole prompt is read anew, whatever was asked before. The answer ends with a
    /// token that the model file names as the end of a text or a turn, which is still part of it, at `max_tokens`, or
    /// where the context is full.
    ///
    /// # Errors
    /// [`PeerError::NothingAsked`] for an empty prompt or an answer of no tokens; otherwise what became of the
    /// server. After [`PeerError::Died`] it is gone, and every further question says so.
    pub fn answer(&mut self, prompt: &[TokenId], max_tokens: usize) -> Result<PeerAnswer, PeerError> {
        self.sample(prompt, max_tokens, Sampling::greedy())
    }

    /// As [`answer`](Self::answer), by settings of the caller's. Above temperature 0 the distribution is ours, but the
    /// draws are the server's own: no answer of ours can be held against it.
    ///
    /// # Errors
    /// As for [`answer`](Self::answer).
    pub fn sample(
        &mut self,
        prompt: &[TokenId],
        max_tokens: usize,
        sampling: Sampling,
    ) -> Result<PeerAnswer, PeerError> {
        if prompt.is_empty() || max_tokens == 0 {
            return Err(PeerError::NothingAsked { prompt: prompt.len(), max_tokens });
        }
        // Another program may listen at the port of a server that is gone.
        self.check(Duration::ZERO)?;
        self.client.ask(prompt, max_tokens, sampling).map_err(|trouble| match trouble {
            Trouble::Answer(error) => error,
            Trouble::Connection(source) => self.check(DYING).err().unwrap_or_else(|| PeerError::Connection {
                reason: source.to_string(),
                words: self.process.words(),
            }),
        })
    }

    /// The largest resident set that it had so far, or since [`reset_peak_memory`](Self::reset_peak_memory), in bytes;
    /// none where the system does not tell (it does on Linux).
    #[must_use]
    pub fn peak_memory(&self) -> Option<u64> {
        machine::peak_memory(Some(self.process.id()))
    }

    /// Lets [`peak_memory`](Self::peak_memory) begin again at what it holds now, where the system can.
    pub fn reset_peak_memory(&mut self) {
        machine::reset_peak_memory(Some(self.process.id()));
    }

    /// That it runs, or that it does not end within `patience`.
    fn check(&mut self, patience: Duration) -> Result<(), PeerError> {
        match self.process.ended_within(patience) {
            None => Ok(()),
            Some(status) => Err(PeerError::Died { status, words: self.process.last_words() }),
        }
    }
}

/// A start that is under way.
struct Start<'a> {
    program: &'a Path,
    begin: Instant,
    patience: Patience,
}

impl Start<'_> {
    /// What `--version` says.
    fn version(&self) -> Result<String, PeerError> {
        let mut process = Process::start(self.program, &["--version".into()])?;
        let status = loop {
            if let Some(status) = process.ended() {
                break status;
            }
            self.go_on(&process)?;
        };
        let words = process.last_words();
        if !status.success() {
            return Err(PeerError::DiedAtStart { path: self.path(), status, words });
        }
        let version = words.lines().find_map(|line| line.strip_prefix("version: ")).map(str::to_owned);
        version.ok_or_else(|| PeerError::Nonsense {
            reason: "expected a line `version: …` from `--version`".to_owned(),
            answer: words,
        })
    }

    fn left(&self) -> Duration {
        // ureq takes no time at all for no limit.
        self.patience.start.saturating_sub(self.begin.elapsed()).max(LOOK)
    }

    /// Waits a moment, unless the time is up.
    fn go_on(&self, process: &Process) -> Result<(), PeerError> {
        let waited = self.begin.elapsed();
        if waited >= self.patience.start {
            return Err(PeerError::NotReady { path: self.path(), waited, words: process.words() });
        }
        thread::sleep(LOOK);
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.program.to_owned()
    }
}
