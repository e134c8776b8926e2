//! What an engine is doing, in numbers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use upcycle_core::Stats;

/// The load of an engine and its totals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineStatus {
    /// Requests being answered.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Tokens in the KV cache, for running and for finished requests.
    pub cached_tokens: usize,
    /// Totals of all answers so far.
    pub totals: EngineTotals,
}

/// Sums over all finished answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineTotals {
    /// Answers that came to their end.
    pub answers: u64,
    /// Tokens of their prompts.
    pub prompt_tokens: u64,
    /// Tokens of their prompts that were in the cache.
    pub cached_prompt_tokens: u64,
    /// Passes over drafts.
    pub steps: u64,
    /// Draft tokens scored.
    pub drafted: u64,
    /// Draft tokens accepted.
    pub accepted: u64,
    /// Draft tokens scored, by depth: the first entry is depth 1.
    pub drafted_by_depth: Vec<u64>,
    /// Draft tokens accepted, by depth: the first entry is depth 1.
    pub accepted_by_depth: Vec<u64>,
    /// Draft tokens scored, by source of the drafter.
    pub drafted_by_source: [u64; 8],
    /// Draft tokens accepted, by source of the drafter.
    pub accepted_by_source: [u64; 8],
    /// Tokens emitted; those of unfinished answers too.
    pub generated_tokens: u64,
}

/// Shared by the engine's thread, which writes, and its handles, which read.
#[derive(Debug, Default)]
pub(super) struct Counters {
    running: AtomicUsize,
    waiting: AtomicUsize,
    cached_tokens: AtomicUsize,
    generated_tokens: AtomicU64,
    totals: Mutex<EngineTotals>,
}

impl Counters {
    pub(super) fn set(&self, running: usize, waiting: usize, cached_tokens: usize) {
        self.running.store(running, Relaxed);
        self.waiting.store(waiting, Relaxed);
        self.cached_tokens.store(cached_tokens, Relaxed);
    }

    pub(super) fn add_tokens(&self, tokens: usize) {
        self.generated_tokens.fetch_add(tokens as u64, Relaxed);
    }

    pub(super) fn add_answer(&self, stats: &Stats, prompt_tokens: usize) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.answers += 1;
        totals.prompt_tokens += prompt_tokens as u64;
        totals.cached_prompt_tokens += prompt_tokens.saturating_sub(stats.prefilled) as u64;
        totals.steps += stats.steps() as u64;
        totals.drafted += stats.drafted as u64;
        totals.accepted += stats.accepted as u64;
        add(&mut totals.drafted_by_depth, &stats.drafted_by_depth);
        add(&mut totals.accepted_by_depth, &stats.accepted_by_depth);
        for source in 0..stats.drafted_by_source.len() {
            totals.drafted_by_source[source] += stats.drafted_by_source[source];
            totals.accepted_by_source[source] += stats.accepted_by_source[source];
        }
    }

    /// `queued` requests have not reached the engine's thread.
    pub(super) fn status(&self, queued: usize) -> EngineStatus {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        totals.generated_tokens = self.generated_tokens.load(Relaxed);
        EngineStatus {
            running: self.running.load(Relaxed),
            waiting: self.waiting.load(Relaxed) + queued,
            cached_tokens: self.cached_tokens.load(Relaxed),
            totals,
        }
    }
}

fn add(sums: &mut Vec<u64>, more: &[u64]) {
    sums.resize(sums.len().max(more.len()), 0);
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}
