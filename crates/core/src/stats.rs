//! Statistics of a sequence.

use std::time::Duration;

use crate::tree::{DraftTree, NodeId};

/// Time by part. The time of a pass counts in full for each of its sequences, since each waits for the whole pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// All of prefill: forward, accept, commit and observe of the prompt's chunks.
    pub prefill: Duration,
    /// Drafting.
    pub draft: Duration,
    /// The verifier's passes over drafts.
    pub forward: Duration,
    /// Sampling tokens along the trees.
    pub accept: Duration,
    /// Committing accepted paths.
    pub commit: Duration,
    /// The drafter's learning.
    pub observe: Duration,
}

impl Times {
    /// Everything but prefill.
    #[must_use]
    pub fn decode(&self) -> Duration {
        self.draft + self.forward + self.accept + self.commit + self.observe
    }
}

/// Statistics of a sequence.
///
/// Only passes over a draft count as steps here. Prefill passes do not, although the last of them emits the first token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Tokens of the prompt that were scored; those that were still cached do not count.
    pub prefilled: usize,
    /// Draft nodes scored.
    pub drafted: usize,
    /// Draft nodes accepted, without the bonus tokens.
    pub accepted: usize,
    /// Tokens emitted in each step, `[steps]`.
    pub emitted_per_step: Vec<u32>,
    /// Draft nodes scored in each step, `[steps]`.
    pub nodes_per_step: Vec<u32>,
    /// Draft nodes scored, by depth: the first entry is depth 1.
    pub drafted_by_depth: Vec<u64>,
    /// Draft nodes accepted, by depth: the first entry is depth 1.
    pub accepted_by_depth: Vec<u64>,
    /// Draft nodes scored, by the drafter's [sources](crate::Drafter::sources). A node that several proposed counts for
    /// each of them.
    pub drafted_by_source: [u64; 8],
    /// Draft nodes accepted, by source.
    pub accepted_by_source: [u64; 8],
    /// Time by part.
    pub time: Times,
}

impl Stats {
    /// Counts a step that scored `tree`, accepted these of its draft nodes and emitted `emitted` tokens.
    pub(crate) fn record_step(&mut self, tree: &DraftTree, accepted: &[NodeId], emitted: usize) {
        self.drafted += tree.draft_len();
        self.accepted += accepted.len();
        self.emitted_per_step.push(emitted as u32);
        self.nodes_per_step.push(tree.draft_len() as u32);
        for node in tree.nodes().skip(1) {
            count_node(tree, node, &mut self.drafted_by_depth, &mut self.drafted_by_source);
        }
        for &node in accepted {
            count_node(tree, node, &mut self.accepted_by_depth, &mut self.accepted_by_source);
        }
    }

    /// Passes over drafts.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.emitted_per_step.len()
    }

    /// Mean tokens emitted per step, the bonus included: the paper's mean accepted tokens (MAT). 1 for plain decoding, 0 before
    /// the first step.
    #[must_use]
    pub fn tokens_per_step(&self) -> f64 {
        if self.emitted_per_step.is_empty() {
            return 0.0;
        }
        self.emitted_per_step.iter().map(|&n| f64::from(n)).sum::<f64>() / self.steps() as f64
    }

    /// Mean draft nodes scored per step; 0 before the first step.
    #[must_use]
    pub fn drafted_per_step(&self) -> f64 {
        self.drafted as f64 / self.steps().max(1) as f64
    }

    /// How many steps emitted n tokens, for n = 0, 1, 2, …
    #[must_use]
    pub fn emitted_histogram(&self) -> Vec<u64> {
        let mut counts = Vec::new();
        for &n in &self.emitted_per_step {
            add_at(&mut counts, n as usize, 1);
        }
        counts
    }

    /// How many steps scored n draft nodes, for n = 0, 1, 2, …
    #[must_use]
    pub fn nodes_histogram(&self) -> Vec<u64> {
        let mut counts = Vec::new();
        for &n in &self.nodes_per_step {
            add_at(&mut counts, n as usize, 1);
        }
        counts
    }

    /// Tokens per second of decoding, without prefill and the token that it gives; 0 before the first step.
    #[must_use]
    pub fn tokens_per_second(&self) -> f64 {
        per_second(self.emitted_per_step.iter().map(|&n| n as usize).sum(), self.time.decode())
    }

    /// Prompt tokens per second of prefill; 0 before it.
    #[must_use]
    pub fn prefill_tokens_per_second(&self) -> f64 {
        per_second(self.prefilled, self.time.prefill)
    }

    /// Adds the statistics of another sequence, for totals over many prompts.
    pub fn add(&mut self, other: &Stats) {
        self.prefilled += other.prefilled;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
        self.emitted_per_step.extend_from_slice(&other.emitted_per_step);
        self.nodes_per_step.extend_from_slice(&other.nodes_per_step);
        for (depth, &n) in other.drafted_by_depth.iter().enumerate() {
            add_at(&mut self.drafted_by_depth, depth, n);
        }
        for (depth, &n) in other.accepted_by_depth.iter().enumerate() {
            add_at(&mut self.accepted_by_depth, depth, n);
        }
        for source in 0..self.drafted_by_source.len() {
            self.drafted_by_source[source] += other.drafted_by_source[source];
            self.accepted_by_source[source] += other.accepted_by_source[source];
        }
        let (sum, more) = (&mut self.time, &other.time);
        sum.prefill += more.prefill;
        sum.draft += more.draft;
        sum.forward += more.forward;
        sum.accept += more.accept;
        sum.commit += more.commit;
        sum.observe += more.observe;
    }
}

/// Counts a node by depth and by source.
fn count_node(tree: &DraftTree, node: NodeId, by_depth: &mut Vec<u64>, by_source: &mut [u64; 8]) {
    add_at(by_depth, tree.depths()[node.index()] as usize - 1, 1);
    let label = tree.source_bits()[node.index()];
    for (source, count) in by_source.iter_mut().enumerate() {
        *count += u64::from(label >> source & 1);
    }
}

fn per_second(count: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}

/// Adds `n` to the count at `index`, which need not exist yet.
fn add_at(counts: &mut Vec<u64>, index: usize, n: u64) {
    if index >= counts.len() {
        counts.resize(index + 1, 0);
    }
    counts[index] += n;
}
