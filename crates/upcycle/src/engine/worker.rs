//! The engine's thread: it admits requests, steps their sessions and sends what they emit.

use std::sync::Arc;

use async_channel::Receiver;
use upcycle_core::{DecodeError, Request as Generate, Session, StepError, TokenId, Verifier, VerifyError};

use super::EngineDecoder;
use super::channel::Sender;
use super::error::RequestError;
use super::options::EngineOptions;
use super::request::CacheGroup;
use super::status::Counters;

/// What the thread is asked for.
pub(super) enum Command {
    Answer(Box<Job>),
    /// To be called between two passes.
    Call(Box<dyn FnOnce(&mut EngineDecoder) + Send>),
}

/// A request whose prompt has been encoded.
pub(super) struct Job {
    pub(super) prompt: Vec<TokenId>,
    pub(super) generate: Generate,
    pub(super) group: CacheGroup,
    pub(super) answer: Sender,
}

/// A request that is being answered.
struct Running {
    session: Session,
    group: CacheGroup,
    answer: Sender,
    /// Its error has been sent.
    failed: bool,
}

/// A finished session, kept for prompts that begin as it does.
struct Idle {
    session: Session,
    group: CacheGroup,
}

/// Shorter common prefixes are not reused: recomputing them costs less than one pass.
const LEAST_PREFIX: usize = 16;

pub(super) struct Worker {
    decoder: EngineDecoder,
    commands: Receiver<Command>,
    options: EngineOptions,
    counters: Arc<Counters>,
    /// A request that waits for a place.
    next: Option<Box<Job>>,
    running: Vec<Running>,
    /// The oldest first.
    idle: Vec<Idle>,
}

impl Worker {
    pub(super) fn new(
        decoder: EngineDecoder,
        commands: Receiver<Command>,
        options: EngineOptions,
        counters: Arc<Counters>,
    ) -> Self {
        Self { decoder, commands, options, counters, next: None, running: Vec::new(), idle: Vec::new() }
    }

    /// Works until all senders of commands are gone and every request is answered.
    pub(super) fn run(mut self) {
        while self.admit() {
            self.running.retain(|running| !running.answer.is_closed());
            if !self.running.is_empty() {
                self.step();
            }
            self.evict();
            self.count();
        }
    }

    /// Takes commands, as long as there are places. Waits if there is nothing else to do. `false` once nothing can come.
    fn admit(&mut self) -> bool {
        loop {
            let job = match self.next.take() {
                Some(job) => job,
                None => {
                    let command = if self.running.is_empty() {
                        let Ok(command) = self.commands.recv_blocking() else { return false };
                        command
                    } else {
                        let Ok(command) = self.commands.try_recv() else { return true };
                        command
                    };
                    match command {
                        Command::Answer(job) => job,
                        Command::Call(call) => {
                            call(&mut self.decoder);
                            continue;
                        }
                    }
                }
            };
            if job.answer.is_closed() {
                continue;
            }
            if self.running.len() >= self.options.max_sequences || self.should_wait(&job) {
                self.next = Some(job);
                return true;
            }
            self.start(*job);
        }
    }

    /// Whether a running request is about to read a prefix that this one can copy.
    fn should_wait(&self, job: &Job) -> bool {
        self.decoder.can_fork()
            && job.group != CacheGroup::Private
            && self.running.iter().any(|running| {
                let session = &running.session;
                running.group == job.group
                    && session.prefilled() < session.prompt_len()
                    && common(session.tokens(), &job.prompt)
                        >= session.prefilled().max(LEAST_PREFIX) + LEAST_PREFIX
            })
    }

    fn start(&mut self, job: Job) {
        let Job { prompt, generate, group, answer } = job;
        answer.reserve();
        let opened = self.open(&prompt, generate, &group).map_err(RequestError::from);
        let joined = opened.and_then(|session| {
            self.decoder.drafter_mut().join(session.id(), &group)?;
            Ok(session)
        });
        match joined {
            Ok(session) => self.running.push(Running { session, group, answer, failed: false }),
            Err(error) => answer.send(|news| news.end = Some(Err(error))),
        }
    }

    /// A session on `prompt`, from the cached sequence of its group that shares the longest prefix with it.
    fn open(
        &mut self,
        prompt: &[TokenId],
        generate: Generate,
        group: &CacheGroup,
    ) -> Result<Session, DecodeError> {
        let reusable = |session: &Session, other: &CacheGroup| {
            if other == group && *group != CacheGroup::Private { common(session.cached(), prompt) } else { 0 }
        };
        let best = |lengths: &mut dyn Iterator<Item = usize>| {
            lengths.enumerate().filter(|&(_, len)| len >= LEAST_PREFIX).max_by_key(|&(_, len)| len)
        };
        let idle = best(&mut self.idle.iter().map(|idle| reusable(&idle.session, &idle.group)));
        let running =
            best(&mut self.running.iter().map(|running| reusable(&running.session, &running.group)));
        let full = self.running.len() + self.idle.len() >= self.decoder.verifier().limits().max_seqs;

        let in_running = running.filter(|&(_, len)| idle.is_none_or(|(_, idle)| len > idle));
        if let Some((index, _)) = in_running.filter(|_| self.decoder.can_fork()) {
            if full {
                self.evict_oldest();
            }
            return self.decoder.fork(&self.running[index].session, prompt, generate);
        }
        if let Some((index, len)) = idle {
            // Resuming would discard the idle sequence's tokens after the prefix; a fork keeps them.
            let loses = len < self.idle[index].session.cached().len();
            if loses && !full && self.decoder.can_fork() {
                return self.decoder.fork(&self.idle[index].session, prompt, generate);
            }
            let mut session = self.idle.remove(index).session;
            self.decoder.resume(&mut session, prompt, generate)?;
            return Ok(session);
        }
        if full {
            self.evict_oldest();
        }
        self.decoder.open(prompt, generate)
    }

    /// One pass over all running requests.
    fn step(&mut self) {
        let stepped = self.decoder.step(self.running.iter_mut().map(|running| &mut running.session));
        if let Err(error) = stepped {
            self.recover(error);
        }
        let counters = &self.counters;
        for Running { session, group, failed, .. } in
            self.running.extract_if(.., |running| running.publish(counters))
        {
            if !failed && group != CacheGroup::Private {
                self.idle.push(Idle { session, group });
            }
        }
    }

    /// A failure of many sessions may be the fault of one, or lack of memory: each is tried again by itself.
    fn recover(&mut self, error: StepError) {
        for failure in error.into_failures() {
            if let [index] = failure.sessions[..] {
                self.running[index].fail(failure.error);
                continue;
            }
            tracing::warn!(error = %failure.error, "a pass failed; its requests go on one by one");
            self.idle.clear();
            for index in failure.sessions {
                let running = &mut self.running[index];
                let stepped = self.decoder.step([&mut running.session]);
                if let Some(failure) = stepped.err().and_then(|error| error.into_failures().pop()) {
                    running.fail(failure.error);
                }
            }
        }
    }

    /// Drops the oldest idle sequences beyond the limit of cached tokens.
    fn evict(&mut self) {
        let mut tokens = self.cached_tokens();
        let mut dropped = 0;
        while tokens > self.options.max_cached_tokens && dropped < self.idle.len() {
            tokens -= self.idle[dropped].session.cached().len();
            dropped += 1;
        }
        self.idle.drain(..dropped);
    }

    fn evict_oldest(&mut self) {
        if !self.idle.is_empty() {
            self.idle.remove(0);
        }
    }

    fn cached_tokens(&self) -> usize {
        let running = self.running.iter().map(|running| &running.session);
        let idle = self.idle.iter().map(|idle| &idle.session);
        running.chain(idle).map(|session| session.cached().len()).sum()
    }

    fn count(&self) {
        self.counters.set(self.running.len(), usize::from(self.next.is_some()), self.cached_tokens());
    }
}

impl Running {
    /// Sends what the last pass gave. `true` if that was the end.
    fn publish(&mut self, counters: &Counters) -> bool {
        if self.failed {
            return true;
        }
        let session = &self.session;
        let tokens = session.new_tokens();
        counters.add_tokens(tokens.len());
        // The last sampled token is the bonus token; those before it were drafted.
        let drafted = session.accepted_path().sampled.len().saturating_sub(1);
        self.answer.send(|news| {
            news.prefilled = session.prefilled();
            news.tokens.extend(tokens.iter().enumerate().map(|(index, &token)| (token, index < drafted)));
            news.logprobs.extend_from_slice(session.new_logprobs());
            news.end = session.finish_reason().map(|reason| Ok((reason, Box::new(session.stats().clone()))));
        });
        if session.finish_reason().is_some() {
            counters.add_answer(session.stats(), session.prompt_len());
        }
        session.finish_reason().is_some()
    }

    fn fail(&mut self, error: VerifyError) {
        self.answer.send(|news| news.end = Some(Err(DecodeError::from(error).into())));
        self.failed = true;
    }
}

/// The length of the common prefix.
fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
