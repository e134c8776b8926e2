//! The decoding loop: draft, forward, accept, commit, observe.

mod draft;
mod error;
mod generation;
mod prefill;
mod sample_path;
mod step;

use std::fmt;
use std::mem;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::budget::{AutoBudget, CandidateNode};
use crate::calibration::Calibration;
use crate::clock::{Clock, SystemClock};
use crate::drafter::Drafter;
use crate::input::TreeInput;
use crate::logit_bias::LogitBias;
use crate::session::{DroppedSequences, Request, Session};
use crate::stats::Stats;
use crate::token::{SeqId, TokenId};
use crate::top::TopK;
use crate::tree_limits::TreeKind;
use crate::verifier::{Commit, Limits, PREFILL_CHUNK, Verifier};

pub use error::{DecodeError, StepError, StepFailure};
pub use generation::Generation;
use prefill::PrefillPace;
use step::ActiveSession;

/// Decodes any number of sequences with one verifier and one drafter.
///
/// A step is one forward pass over all given sessions. A session in prefill adds a chunk of its prompt to the pass. Every
/// other session adds a draft tree. The text of a session is that of plain decoding, up to the verifier's
/// [`row_tolerance`](Verifier::row_tolerance).
///
/// 1. *draft*: the drafter grows a tree from each session's last token, within budget, backend limits and context. An
///    automatic budget then prunes the trees.
/// 2. *forward*: the verifier scores all trees.
/// 3. *accept*: each session samples tokens along its tree. Stops and limits shorten the path.
/// 4. *commit*: the verifier keeps the KV of the accepted path.
/// 5. *observe*: the drafter sees every scored row and the accepted path.
///
/// # Design
///
/// The decoder owns the loop and nothing else. It schedules no requests and starts no threads. Its caller decides which
/// sessions share a step, and gets control back after each pass. The caller may add and drop sessions between any two
/// steps. So the decoder suits a command line, a benchmark and a server.
///
/// A step may fail. A session changes only after the verifier has committed, so a failed session is unchanged, and the
/// other sessions of the pass are not affected.
///
/// Once its buffers have grown, a step allocates nothing, except for the log probabilities of requests that ask for them.
///
/// # Example
///
/// Two prompts at once; each step is one pass over both:
///
/// ```
/// use upcycle_core::{AdjacencyMatrix, Decoder, Request, TokenRecycling, TreeTemplate};
/// use upcycle_testkit::NaiveVerifier;
///
/// let drafter = TokenRecycling::new(AdjacencyMatrix::new(64, 8)?, TreeTemplate::paper_80());
/// let mut decoder = Decoder::new(NaiveVerifier::new(64, 1), drafter).with_budget(16);
/// let mut sessions = vec![
///     decoder.open(&[1, 2, 3], Request::greedy(40))?,
///     decoder.open(&[4], Request::greedy(20))?,
/// ];
/// while sessions.iter().any(|session| session.finish_reason().is_none()) {
///     decoder.step(&mut sessions)?;
/// }
/// assert_eq!(sessions[1].output().len(), 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Decoder<V, D> {
    verifier: V,
    drafter: D,
    clock: Box<dyn Clock>,
    budget: Budget,
    calibration: Calibration,
    prefill_chunk: usize,
    prefill_pace: PrefillPace,
    /// Passes so far; a session remembers its last one.
    passes: u64,
    /// Sequences whose sessions were dropped since the last step.
    dropped: DroppedSequences,
    top: TopK,
    /// The draft nodes of a pass, reused from pass to pass.
    candidates: Vec<CandidateNode>,
    /// For each node of a tree: the probability of its path, and the probability not yet assigned to its children. Reused
    /// from tree to tree.
    paths: Vec<(f32, f32)>,
    /// Buffers, reused from step to step. All are empty between steps.
    active: Vec<ActiveSession<'static>>,
    inputs: Vec<TreeInput<'static>>,
    commits: Vec<Commit<'static>>,
}

/// How many draft nodes a pass may score.
#[derive(Debug)]
enum Budget {
    Fixed(usize),
    Auto(Box<AutoBudget>),
}

impl<V: Verifier, D: Drafter> Decoder<V, D> {
    /// A decoder with the system clock and without a budget: a draft is as large as the backend and the remaining context allow.
    pub fn new(verifier: V, drafter: D) -> Self {
        let top = TopK::new(drafter.k());
        Self {
            verifier,
            drafter,
            clock: Box::new(SystemClock::default()),
            budget: Budget::Fixed(usize::MAX),
            calibration: Calibration::new(),
            prefill_chunk: PREFILL_CHUNK,
            prefill_pace: PrefillPace::default(),
            passes: 0,
            dropped: DroppedSequences::default(),
            top,
            candidates: Vec::new(),
            paths: Vec::new(),
            active: Vec::new(),
            inputs: Vec::new(),
            commits: Vec::new(),
        }
    }

    /// Measures time with `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Drafts at most `nodes` nodes per step; 0 is plain decoding.
    #[must_use]
    pub fn with_budget(mut self, nodes: usize) -> Self {
        self.budget = Budget::Fixed(nodes);
        self
    }

    /// Lets `budget` choose how many nodes each step scores.
    #[must_use]
    pub fn with_auto_budget(mut self, budget: AutoBudget) -> Self {
        self.budget = Budget::Auto(Box::new(budget));
        self
    }

    /// The budget that chooses sizes; `None` if the size is fixed.
    pub fn auto_budget(&self) -> Option<&AutoBudget> {
        match &self.budget {
            Budget::Fixed(_) => None,
            Budget::Auto(budget) => Some(budget),
        }
    }

    /// What was learned about how often the drafter's nodes are accepted.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Reads prompts in chunks of at most `rows` rows (0 counts as 1).
    #[must_use]
    pub fn with_prefill_chunk(mut self, rows: usize) -> Self {
        self.prefill_chunk = rows.max(1);
        self
    }

    /// While some sessions decode, prompts of others are read in chunks of such a size that a pass takes about `time`. This limits
    /// the time between two tokens of a session, without a guarantee: draft nodes come on top, and a chunk has at least one row.
    /// The decoder learns how long a row takes in passes that read prompts.
    #[must_use]
    pub fn with_max_inter_token(mut self, time: Duration) -> Self {
        self.prefill_pace.max_inter_token = Some(time);
        self
    }

    /// The verifier.
    pub fn verifier(&self) -> &V {
        &self.verifier
    }

    /// The verifier. Do not change sequences of open sessions.
    pub fn verifier_mut(&mut self) -> &mut V {
        &mut self.verifier
    }

    /// The drafter.
    pub fn drafter(&self) -> &D {
        &self.drafter
    }

    /// The drafter, to load or clear what it learned.
    pub fn drafter_mut(&mut self) -> &mut D {
        &mut self.drafter
    }

    /// The verifier and the drafter.
    pub fn into_parts(mut self) -> (V, D) {
        self.close_dropped();
        (self.verifier, self.drafter)
    }

    /// The same decoder with another drafter, which `make` returns. Budget, calibration and open sessions stay.
    pub fn map_drafter<E: Drafter>(self, make: impl FnOnce(D) -> E) -> Decoder<V, E> {
        let Self {
            verifier,
            drafter,
            clock,
            budget,
            calibration,
            prefill_chunk,
            prefill_pace,
            passes,
            dropped,
            ..
        } = self;
        Decoder {
            clock,
            budget,
            calibration,
            prefill_chunk,
            prefill_pace,
            passes,
            dropped,
            ..Decoder::new(verifier, make(drafter))
        }
    }

    /// Opens a session on `prompt`; the steps that follow read the prompt.
    ///
    /// # Errors
    /// [`DecodeError`] for a prompt that is empty, too long or of another vocabulary, for a bias of another vocabulary, or if no
    /// more sequences fit.
    pub fn open(&mut self, prompt: &[TokenId], request: Request) -> Result<Session, DecodeError> {
        self.close_dropped();
        check(prompt, &request, self.verifier.limits())?;
        let seq = self.verifier.open()?;
        Ok(self.new_session(seq, prompt, request))
    }

    fn new_session(&self, seq: SeqId, prompt: &[TokenId], request: Request) -> Session {
        let max_tokens = self.verifier.limits().max_context.min(1 << 20);
        let mut session = Session::new(seq, prompt, request, max_tokens, Arc::clone(&self.dropped));
        // A new session queues behind the sessions that are already waiting.
        session.last_pass = self.passes;
        session
    }

    /// Whether [`fork`](Self::fork) copies what `session` has cached, instead of reading it again.
    pub fn can_fork(&self) -> bool {
        self.verifier.can_fork()
    }

    /// Opens a session on `prompt` with a copy of the longest prefix of it that `session` has cached. `session` is unchanged.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`VerifyError::CannotFork`](crate::VerifyError::CannotFork).
    pub fn fork(
        &mut self,
        session: &Session,
        prompt: &[TokenId],
        request: Request,
    ) -> Result<Session, DecodeError> {
        self.close_dropped();
        check(prompt, &request, self.verifier.limits())?;
        let cached = session.cached_prefix(prompt);
        let seq = self.verifier.fork(session.seq, cached)?;
        let mut forked = self.new_session(seq, prompt, request);
        forked.committed = cached;
        Ok(forked)
    }

    /// Continues a session on a new prompt, as a chat does with its next turn. The KV of the longest common prefix of the
    /// cached tokens and `prompt` is kept; the steps that follow read the rest.
    ///
    /// # Errors
    /// As [`open`](Self::open). The session is then unchanged.
    pub fn resume(
        &mut self,
        session: &mut Session,
        prompt: &[TokenId],
        request: Request,
    ) -> Result<(), DecodeError> {
        check(prompt, &request, self.verifier.limits())?;
        let common = session.cached_prefix(prompt);
        let can_keep =
            common == session.committed || self.verifier.limits().support.kind() != TreeKind::Plain;
        // A model that cannot roll back in part reads the whole prompt again.
        let common = if can_keep { common } else { 0 };
        self.verifier.truncate(session.seq, common)?;
        self.drafter.drop_sequence(session.seq);
        session.committed = common;
        session.request = request;
        session.stats = Stats::default();
        session.reset(prompt);
        Ok(())
    }

    /// Closes a session and returns its statistics. Dropping a session closes it too, before the next step.
    pub fn close(&mut self, mut session: Session) -> Stats {
        let stats = mem::take(&mut session.stats);
        drop(session);
        self.close_dropped();
        stats
    }

    /// Closes the sequences of sessions that were dropped.
    fn close_dropped(&mut self) {
        let dropped = Arc::clone(&self.dropped);
        for seq in dropped.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.close_sequence(seq);
        }
    }

    fn close_sequence(&mut self, seq: SeqId) {
        self.verifier.close(seq);
        self.drafter.drop_sequence(seq);
    }

    fn since(&self, start: Duration) -> Duration {
        self.clock.now().saturating_sub(start)
    }
}

fn check(prompt: &[TokenId], request: &Request, limits: &Limits) -> Result<(), DecodeError> {
    check_prompt(prompt, limits)?;
    check_bias(&request.logit_bias, limits)
}

/// Whether a model with these limits has all tokens of `bias`: what [`Decoder::open`] checks about it.
///
/// # Errors
/// [`DecodeError::BiasOutOfRange`] names a token that it lacks.
pub fn check_bias(bias: &LogitBias, limits: &Limits) -> Result<(), DecodeError> {
    match bias.unknown_token(limits.vocab) {
        Some(token) => Err(DecodeError::BiasOutOfRange { token, vocab: limits.vocab }),
        None => Ok(()),
    }
}

/// Whether a backend with these limits can read `prompt`: what [`Decoder::open`] checks about it.
///
/// # Errors
/// [`DecodeError`] for a prompt that is empty, too long or of another vocabulary.
pub fn check_prompt(prompt: &[TokenId], limits: &Limits) -> Result<(), DecodeError> {
    if prompt.is_empty() {
        return Err(DecodeError::EmptyPrompt);
    }
    if prompt.len() > limits.max_context {
        return Err(DecodeError::PromptTooLong { len: prompt.len(), max: limits.max_context });
    }
    match prompt.iter().find(|&&token| token as usize >= limits.vocab) {
        Some(&token) => Err(DecodeError::TokenOutOfRange { token, vocab: limits.vocab }),
        None => Ok(()),
    }
}

impl<V: fmt::Debug, D: fmt::Debug> fmt::Debug for Decoder<V, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("verifier", &self.verifier)
            .field("drafter", &self.drafter)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
