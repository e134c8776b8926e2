//! One step over many sessions: draft, forward, accept, commit, observe.

use std::mem;
use std::time::Duration;

use super::error::{DecodeError, StepError, StepFailure};
use super::{Budget, Decoder};
use crate::budget::PassTiming;
use crate::drafter::{Drafter, Outcome, Phase};
use crate::input::{RowSelection, TreeInput};
use crate::session::{PathCut, Session};
use crate::verifier::{Commit, Verifier, VerifyError};

/// A session in the current pass.
#[derive(Debug)]
pub(super) struct ActiveSession<'a> {
    /// Its position among the sessions that the caller gave.
    pub(super) index: usize,
    /// The index of its tree among the inputs of the pass.
    pub(super) input: usize,
    /// What to keep and emit, once the paths are sampled.
    pub(super) cut: PathCut,
    pub(super) session: &'a mut Session,
}

impl<V: Verifier, D: Drafter> Decoder<V, D> {
    /// Advances every session that is not finished, in one forward pass: by a chunk of its prompt or by a draft.
    ///
    /// If the sessions do not all fit in one pass, those that have waited longest go first, and the others wait for a later
    /// step. [`Session::new_tokens`] is empty for a session that waited, failed or had finished before.
    ///
    /// # Errors
    /// [`StepError`] says which sessions did not advance, by their positions among those given, and why. A row that is not
    /// finite stops only its session: the pass runs again without it. An engine failure stops all sessions of the pass. A
    /// failed session is unchanged.
    pub fn step<'s>(&mut self, sessions: impl IntoIterator<Item = &'s mut Session>) -> Result<(), StepError> {
        self.close_dropped();
        let mut active: Vec<ActiveSession<'_>> = reuse_buffer(mem::take(&mut self.active));
        for (index, session) in sessions.into_iter().enumerate() {
            session.new_from = session.tokens.len();
            if session.finish.is_none() {
                active.push(ActiveSession { index, input: 0, cut: PathCut::default(), session });
            }
        }
        let mut failures = Vec::new();
        self.keep_longest_waiting(&mut active);
        self.run_pass(&mut active, &mut failures);
        self.active = reuse_buffer(active);
        if failures.is_empty() { Ok(()) } else { Err(StepError { failures }) }
    }

    /// Advances one session; does nothing if it is finished.
    ///
    /// # Errors
    /// [`DecodeError::Verify`]. The session is then unchanged.
    pub fn step_one(&mut self, session: &mut Session) -> Result<(), DecodeError> {
        let stepped = self.step([session]);
        Ok(stepped.map_err(|error| error.into_failures().swap_remove(0).error)?)
    }

    /// Keeps as many sessions as fit in one pass. Those that have waited longest go first.
    fn keep_longest_waiting(&mut self, active: &mut Vec<ActiveSession<'_>>) {
        let limits = self.verifier.limits();
        let max_sessions = limits.max_rows.min(limits.max_leaves).max(1);
        if active.len() > max_sessions {
            active.sort_unstable_by_key(|active| (active.session.last_pass, active.index));
            active.truncate(max_sessions);
            active.sort_unstable_by_key(|active| active.index);
        }
        self.passes += 1;
        for active in active {
            active.session.last_pass = self.passes;
        }
    }

    /// Drafts, scores, accepts, commits and observes. Sessions that fail leave `active`.
    fn run_pass(&mut self, active: &mut Vec<ActiveSession<'_>>, failures: &mut Vec<StepFailure>) {
        if active.is_empty() {
            return;
        }
        let has_prefill = active.iter().any(|active| active.session.phase() == Phase::Prefill);
        let _span = if has_prefill {
            tracing::debug_span!("prefill", sessions = active.len()).entered()
        } else {
            tracing::trace_span!("step", sessions = active.len()).entered()
        };
        let begin = self.clock.now();
        self.draft(active);
        self.choose_size(active);
        let forward_time = self.forward(active, failures);
        self.accept(active, failures);
        let commit_time = self.commit(active, failures);

        let sessions = || active.iter().map(|active| &*active.session);
        let rows: usize = sessions().map(|session| session.tree.len()).sum();
        let prompts = || sessions().filter(|session| session.phase() == Phase::Prefill);
        let prompt_rows: usize = prompts().map(|session| session.tree.len()).sum();
        let cached_tokens = sessions().map(|session| session.committed).sum::<usize>() / active.len().max(1);
        let tokens = sessions().map(|session| session.accepted_path.sampled.len()).sum();
        self.observe(active, forward_time, commit_time);

        if has_prefill && failures.is_empty() {
            self.prefill_pace.learn(rows, forward_time);
        }
        // After a failure, `rows` does not match the measured time.
        let comparable = rows > prompt_rows && failures.is_empty();
        let overhead = self.since(begin).saturating_sub(forward_time).as_secs_f64();
        if let (Budget::Auto(budget), true) = (&mut self.budget, comparable) {
            budget.learn(PassTiming {
                rows: rows - prompt_rows,
                prompt_rows,
                cached_tokens,
                tokens,
                seconds: forward_time.as_secs_f64(),
                overhead,
            });
        }
    }

    /// Scores all trees in one pass and returns its time. Runs the pass again without a session whose row is not finite.
    fn forward(&mut self, active: &mut Vec<ActiveSession<'_>>, failures: &mut Vec<StepFailure>) -> Duration {
        while !active.is_empty() {
            let start = self.clock.now();
            let mut inputs: Vec<TreeInput<'_>> = reuse_buffer(mem::take(&mut self.inputs));
            inputs.extend(active.iter().map(|active| {
                let rows = match active.session.phase() {
                    Phase::Prefill => self.drafter.prompt_rows(),
                    Phase::Decode => RowSelection::All,
                };
                TreeInput { seq: active.session.seq, tree: &active.session.tree, rows }
            }));
            let scored = self.verifier.forward(&inputs, &mut self.top);
            self.inputs = reuse_buffer(inputs);
            let Err(error) = scored else {
                for (input, active) in active.iter_mut().enumerate() {
                    active.input = input;
                }
                return self.since(start);
            };
            let at_fault = match error {
                VerifyError::NotFinite { row } => Some(row.input),
                VerifyError::UnknownSequence { seq } => {
                    active.iter().position(|active| active.session.seq == seq)
                }
                _ => None,
            };
            match at_fault.filter(|&input| input < active.len()) {
                Some(input) => failures.push(failure([active.remove(input)], error)),
                None => failures.push(failure(active.drain(..), error)),
            }
        }
        Duration::ZERO
    }

    /// Samples each session's path. A row that cannot be read stops only its session.
    fn accept(&mut self, active: &mut Vec<ActiveSession<'_>>, failures: &mut Vec<StepFailure>) {
        let mut next = 0;
        while next < active.len() {
            match self.sample_path(&mut active[next]) {
                Ok(()) => next += 1,
                Err(error) => failures.push(failure([active.remove(next)], error)),
            }
        }
    }

    /// Commits the KV of each accepted path and returns the time that it took.
    fn commit(&mut self, active: &mut Vec<ActiveSession<'_>>, failures: &mut Vec<StepFailure>) -> Duration {
        if active.is_empty() {
            return Duration::ZERO;
        }
        let start = self.clock.now();
        let mut commits: Vec<Commit<'_>> = reuse_buffer(mem::take(&mut self.commits));
        commits.extend(active.iter().map(|ActiveSession { session, cut, .. }| Commit {
            seq: session.seq,
            path: &session.accepted_path.nodes[..cut.kept_nodes],
        }));
        let committed = self.verifier.commit(&commits);
        self.commits = reuse_buffer(commits);
        if let Err(error) = committed {
            failures.push(failure(active.drain(..), error));
        }
        self.since(start)
    }

    /// Emits the tokens. Drafter and calibration learn from the pass.
    fn observe(&mut self, active: &mut [ActiveSession<'_>], forward_time: Duration, commit_time: Duration) {
        let max_context = self.verifier.limits().max_context;
        for ActiveSession { input, cut, session, .. } in active {
            let (phase, committed) = (session.phase(), session.committed);
            if phase == Phase::Decode {
                let drafted = match self.budget {
                    Budget::Fixed(_) => &session.tree,
                    Budget::Auto(_) => &session.unpruned_tree,
                };
                self.calibration.learn(drafted, &session.accepted_path.sampled);
            }
            session.advance(*cut, max_context);
            let start = self.clock.now();
            self.drafter.observe(&Outcome {
                seq: session.seq,
                phase,
                prefix: &session.tokens[..committed],
                tree: &session.tree,
                accepted: &session.accepted_path,
                top: &self.top,
                input: *input,
            });
            let observe_time = self.since(start);
            let times = &mut session.stats.time;
            match phase {
                Phase::Prefill => times.prefill += forward_time + commit_time + observe_time,
                Phase::Decode => {
                    times.forward += forward_time;
                    times.commit += commit_time;
                    times.observe += observe_time;
                }
            }
        }
    }
}

/// The failure of these sessions with `error`.
fn failure<'a>(sessions: impl IntoIterator<Item = ActiveSession<'a>>, error: VerifyError) -> StepFailure {
    StepFailure { sessions: sessions.into_iter().map(|active| active.index).collect(), error }
}

/// Reuses the memory of a vector for elements of another lifetime: collecting from an emptied vector happens in place.
fn reuse_buffer<A, B>(mut vec: Vec<A>) -> Vec<B> {
    vec.clear();
    vec.into_iter().map(|_| unreachable!("the vector was emptied")).collect()
}
