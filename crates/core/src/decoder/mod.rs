//! The decoding loop: draft, forward, accept, commit, observe.

mod draft;
mod error;
mod generation;
mod sample_path;

use std::fmt;
use std::mem;
use std::time::Duration;

use crate::budget::{AutoBudget, Offer, Taken};
use crate::calibration::Calibration;
use crate::clock::{Clock, SystemClock};
use crate::drafter::{Drafter, Outcome, Phase};
use crate::session::{Request, Session};
use crate::stats::Stats;
use crate::verifier::{Commit, TreeInput, Verifier};
use crate::{RowSelection, Shape, TokenId, TopK, TreeLimits};

pub use error::DecodeError;
pub use generation::Generation;

/// Decodes any number of sequences over one verifier with one drafter.
///
/// A step is one forward pass over all sessions given: those that still read their prompt get a chunk of it, the
/// others a draft. Whatever the drafter guesses, each session's text is that of plain decoding with its request.
///
/// 1. *draft*: the drafter grows a tree from each session's last token, within what budget, backend and context allow.
/// 2. *forward*: the verifier scores all trees.
/// 3. *accept*: each session draws its own tokens down its tree; stops and limits cut the accepted_path.
/// 4. *commit*: the verifier keeps the KV of what is emitted.
/// 5. *observe*: the drafter sees every scored row and the accepted path.
pub struct Decoder<V, D> {
    verifier: V,
    drafter: D,
    clock: Box<dyn Clock>,
    budget: Budget,
    calibration: Calibration,
    /// What the drafts of a pass offer, reused from pass to pass.
    offers: Vec<Offer>,
    /// The chance of each node's path, and what its children left of their common chance.
    paths: Vec<(f32, f32)>,
    prefill_chunk: usize,
    top: TopK,
    /// Kept for their memory alone; both are empty between steps.
    steps: Vec<TreeInput<'static>>,
    commits: Vec<Commit<'static>>,
}

/// How many nodes may be scored.
#[derive(Debug)]
enum Budget {
    Fixed(TreeLimits),
    Auto(Box<AutoBudget>),
}

/// Rows of a prefill chunk, where the backend takes that many.
const PREFILL_CHUNK: usize = 512;

impl<V: Verifier, D: Drafter> Decoder<V, D> {
    /// A decoder on the system's clock, with no budget but the backend's limits.
    pub fn new(verifier: V, drafter: D) -> Self {
        let top = TopK::new(drafter.k());
        Self {
            verifier,
            drafter,
            clock: Box::new(SystemClock::default()),
            budget: Budget::Fixed(TreeLimits::UNBOUNDED),
            calibration: Calibration::new(),
            offers: Vec::new(),
            paths: Vec::new(),
            prefill_chunk: PREFILL_CHUNK,
            top,
            steps: Vec::new(),
            commits: Vec::new(),
        }
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Drafts at most `nodes` nodes a step; 0 is plain decoding.
    #[must_use]
    pub fn with_budget(mut self, nodes: usize) -> Self {
        self.budget = Budget::Fixed(TreeLimits { nodes, ..TreeLimits::UNBOUNDED });
        self
    }

    /// Scores at each step as many nodes as pay.
    #[must_use]
    pub fn with_auto_budget(mut self, budget: AutoBudget) -> Self {
        self.budget = Budget::Auto(Box::new(budget));
        self
    }

    /// The budget that chooses sizes; none where the size is fixed.
    pub fn auto_budget(&self) -> Option<&AutoBudget> {
        match &self.budget {
            Budget::Fixed(_) => None,
            Budget::Auto(budget) => Some(budget),
        }
    }

    /// How probable the drafter's nodes are, learned from all that was decoded.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Reads prompts in chunks of at most `rows` rows (0 counts as 1).
    #[must_use]
    pub fn with_prefill_chunk(mut self, rows: usize) -> Self {
        self.prefill_chunk = rows.max(1);
        self
    }

    /// The verifier.
    pub fn verifier(&self) -> &V {
        &self.verifier
    }

    /// The verifier, for what the decoder does not do. Leave sequences of open sessions alone.
    pub fn verifier_mut(&mut self) -> &mut V {
        &mut self.verifier
    }

    /// The drafter.
    pub fn drafter(&self) -> &D {
        &self.drafter
    }

    /// The drafter, to save or clear what it learned.
    pub fn drafter_mut(&mut self) -> &mut D {
        &mut self.drafter
    }

    /// The verifier and the drafter.
    pub fn into_parts(self) -> (V, D) {
        (self.verifier, self.drafter)
    }

    /// The same decoder with another drafter, made of this one: what the budget and the calibration know is kept.
    pub fn map_drafter<E: Drafter>(self, make: impl FnOnce(D) -> E) -> Decoder<V, E> {
        let Self { verifier, drafter, clock, budget, calibration, prefill_chunk, .. } = self;
        Decoder { clock, budget, calibration, prefill_chunk, ..Decoder::new(verifier, make(drafter)) }
    }

    fn check_prompt(&self, prompt: &[TokenId]) -> Result<(), DecodeError> {
        let limits = self.verifier.limits();
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

    /// Opens a session on `prompt`; the prompt is read by the steps that follow.
    ///
    /// # Errors
    /// [`DecodeError`] for a prompt that is empty, too long or of another vocabulary, or if no more sequences fit.
    pub fn open(&mut self, prompt: &[TokenId], request: Request) -> Result<Session, DecodeError> {
        self.check_prompt(prompt)?;
        let max_tokens = self.verifier.limits().max_context.min(1 << 20);
        let seq = self.verifier.open()?;
        Ok(Session::new(seq, prompt, request, max_tokens))
    }

    /// Goes on with a session on a new prompt, as a chat does with its next turn: the KV of the longest common
    /// prefix of what is cached and of `prompt` is kept, the rest is read by the steps that follow.
    ///
    /// # Errors
    /// As [`open`](Self::open); the session is then as it was.
    pub fn resume(
        &mut self,
        session: &mut Session,
        prompt: &[TokenId],
        request: Request,
    ) -> Result<(), DecodeError> {
        self.check_prompt(prompt)?;
        let cached = &session.tokens[..session.committed];
        // The last token of the prompt is always scored: its row gives the first token of the answer.
        let common = cached.iter().zip(&prompt[..prompt.len() - 1]).take_while(|(a, b)| a == b).count();
        let whole = common == session.committed || self.verifier.limits().support.shape() != Shape::Plain;
        // A model that cannot roll back in part starts anew.
        let common = if whole { common } else { 0 };
        self.verifier.truncate(session.seq, common)?;
        self.drafter.forget(session.seq);
        session.committed = common;
        session.request = request;
        session.stats = Stats::default();
        session.restart(prompt);
        Ok(())
    }

    /// Closes a session and returns what it took.
    pub fn close(&mut self, session: Session) -> Stats {
        self.verifier.close(session.seq);
        self.drafter.forget(session.seq);
        session.stats
    }

    /// Decodes one prompt, token by token, as an iterator; dropping it closes the sequence.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn generate(
        &mut self,
        prompt: &[TokenId],
        request: Request,
    ) -> Result<Generation<'_, V, D>, DecodeError> {
        let session = self.open(prompt, request)?;
        Ok(Generation { decoder: self, session: [session], next: prompt.len(), failed: false })
    }

    /// Advances every session that is not finished, in one forward pass: a chunk of its prompt, or a draft.
    ///
    /// Should more sessions be given than fit one pass, the first ones go first.
    ///
    /// # Errors
    /// [`DecodeError::Verify`]; every session's text is then as it was.
    pub fn step(&mut self, sessions: &mut [Session]) -> Result<(), DecodeError> {
        let limits = self.verifier.limits();
        let (max_context, most) = (limits.max_context, limits.max_rows.min(limits.max_leaves).max(1));
        let active = |session: &&mut Session| session.finish.is_none();
        let count = sessions.iter().filter(|session| session.finish.is_none()).count().min(most);
        if count == 0 {
            return Ok(());
        }
        let reading = |session: &Session| session.finish.is_none() && session.phase() == Phase::Prefill;
        let _span = if sessions.iter().any(reading) {
            tracing::debug_span!("prefill", sessions = count).entered()
        } else {
            tracing::trace_span!("step", sessions = count).entered()
        };

        let begin = self.clock.now();
        for session in sessions.iter_mut().filter(active).take(count) {
            self.draft(session, count);
        }
        let context = self.choose_size(sessions, count);

        let start = self.clock.now();
        let mut steps: Vec<TreeInput<'_>> = recycle(mem::take(&mut self.steps));
        steps.extend(sessions.iter().filter(|session| session.finish.is_none()).take(count).map(|session| {
            let rows = match session.phase() {
                Phase::Prefill => self.drafter.prompt_rows(),
                Phase::Decode => RowSelection::All,
            };
            TreeInput { seq: session.seq, tree: &session.tree, rows }
        }));
        self.verifier.forward(&steps, &mut self.top)?;
        self.steps = recycle(steps);
        let forward = self.since(start);

        for (index, session) in sessions.iter_mut().filter(active).take(count).enumerate() {
            self.accept(session, index)?;
        }

        let rows = sessions.iter().filter(|session| session.finish.is_none()).take(count);
        let rows: usize = rows.map(|session| session.tree.len()).sum();
        let start = self.clock.now();
        let mut commits: Vec<Commit<'_>> = recycle(mem::take(&mut self.commits));
        commits.extend(sessions.iter().filter(|session| session.finish.is_none()).take(count).map(
            |session| Commit { seq: session.seq, path: &session.accepted_path.nodes[..session.outcome.keep] },
        ));
        self.verifier.commit(&commits)?;
        self.commits = recycle(commits);
        let commit = self.since(start);

        let mut tokens = 0;
        for (index, session) in sessions.iter_mut().filter(active).take(count).enumerate() {
            let (phase, committed) = (session.phase(), session.committed);
            tokens += session.accepted_path.sampled.len();
            if phase == Phase::Decode {
                let drafted = match self.budget {
                    Budget::Fixed(_) => &session.tree,
                    Budget::Auto(_) => &session.unpruned_tree,
                };
                self.calibration.learn(drafted, &session.accepted_path.sampled);
            }
            session.apply(max_context);
            let start = self.clock.now();
            self.drafter.observe(&Outcome {
                seq: session.seq,
                phase,
                before: &session.tokens[..committed],
                tree: &session.tree,
                accepted: &session.accepted_path,
                top: &self.top,
                input: index,
            });
            let observe = self.since(start);
            let time = &mut session.stats.time;
            if phase == Phase::Prefill {
                time.prefill += forward + commit + observe;
            } else {
                time.forward += forward;
                time.commit += commit;
                time.observe += observe;
            }
        }
        let around = self.since(begin).saturating_sub(forward);
        if let (Budget::Auto(budget), Some(context)) = (&mut self.budget, context) {
            budget.learn(Taken {
                rows,
                context,
                tokens,
                seconds: forward.as_secs_f64(),
                overhead: around.as_secs_f64(),
            });
        }
        Ok(())
    }

    fn since(&self, start: Duration) -> Duration {
        self.clock.now().saturating_sub(start)
    }
}

/// The same memory for elements of another lifetime: an emptied vector collects in place.
fn recycle<A, B>(mut vec: Vec<A>) -> Vec<B> {
    vec.clear();
    vec.into_iter().map(|_| unreachable!("the vector was emptied")).collect()
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
