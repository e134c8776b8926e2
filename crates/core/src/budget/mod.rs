//! Chooses how many draft nodes a pass scores: the number that gives the most tokens per second on this machine.
//!
//! - **Gain.** A pass of one sequence with `n` draft nodes is expected to emit `1 + g(n)` tokens. `g(n)` is the sum of the `n`
//!   greatest path probabilities, after [calibration](crate::calibration).
//! - **Cost.** The pass has `n + 1` rows and takes `t(n + 1)` seconds. The online cost model starts from a saved [`CostCurve`]
//!   and learns from every pass. The time includes the slowdown that a draft causes in the plain passes after it.
//! - **Prompts.** Most rows of a prompt skip the output head, so they cost less than draft rows. From passes that also read
//!   prompts, the budget learns how many draft rows a prompt row costs.
//! - **Choice.** The budget maximises `(1 + g(n)) / t(n + 1)`. `n = 0` is plain decoding. It is chosen unless drafts are
//!   expected to give at least 3 % more tokens per second.
//! - **Exploration.** A size that was timed long ago, or never, may cost less than estimated. It is tried if it would be the
//!   best size at an optimistic cost. All such trials together may lose 0.75 % of the decoding time. The loss of a trial is
//!   computed from the tokens that it emitted.

mod online_cost;
mod slowdown;

pub use crate::budget::online_cost::Contradiction;
use crate::budget::online_cost::{Estimate, OnlineCostModel};
use crate::budget::slowdown::PostDraftSlowdown;
use crate::cost::CostCurve;
use crate::tree::NodeId;

/// The largest number of draft nodes in a pass.
pub const MAX_NODES: usize = 256;

/// The share of the time that exploration may lose.
const EXPLORE_SHARE: f64 = 0.0075;
/// The explore credit stays within plus and minus this many times the seconds of a plain pass.
const MAX_EXPLORE_CREDIT: f64 = 2.0;

/// Drafts must be expected to give this many times the tokens per second of plain decoding. Costs and probabilities are
/// estimates, and the best of many estimates is on average too good.
const MIN_SPEEDUP: f64 = 1.03;

/// Plain decoding is the baseline of all decisions. After this many passes without a plain one, it is assumed to cost only
/// `OPTIMISTIC_PLAIN` of its estimate. So it is timed again unless a draft would be better even then.
const PLAIN_STALE_AFTER: u64 = 16;
const OPTIMISTIC_PLAIN: f64 = 0.6;
/// Plain decoding is timed again by this many plain passes in a row, because a pass with draft nodes slows the first of them.
const PLAIN_RETIMINGS: usize = 3;

/// The optimistic cost of a size falls linearly with the age of its timing. It would reach 0 after this many passes, but is never
/// below that of a plain pass.
const STALE_AFTER: f64 = 2000.0;
/// The optimistic cost of a size that was never timed, as a share of its estimate.
const OPTIMISTIC_UNKNOWN: f64 = 0.7;

/// How fast the cost of a prompt row follows a new observation.
const PROMPT_ROW_RATE: f64 = 0.1;

/// A drafted node that may be scored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CandidateNode {
    /// The probability that it is on the accepted path.
    pub(crate) path_probability: f32,
    /// The index of its tree in the pass.
    pub(crate) tree: u32,
    pub(crate) node: NodeId,
}

/// A pass without its draft nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlainPass {
    /// Sequences that decode: each has one row and emits at least one token.
    pub(crate) sequences: usize,
    /// Rows of prompts.
    pub(crate) prompt_rows: usize,
    /// Cached tokens that a row attends to, on average.
    pub(crate) cached_tokens: usize,
}

/// The measured time and the emitted tokens of a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PassTiming {
    /// Its rows, without those of prompts.
    pub(crate) rows: usize,
    /// Rows of prompts.
    pub(crate) prompt_rows: usize,
    /// Cached tokens that a row attends to, on average.
    pub(crate) cached_tokens: usize,
    /// Emitted tokens, over all sequences.
    pub(crate) tokens: usize,
    /// Seconds of the forward pass.
    pub(crate) seconds: f64,
    /// Seconds of the rest of the step.
    pub(crate) overhead: f64,
}

/// The size chosen for a pass, with its expected tokens and time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct SizeDecision {
    /// Draft nodes, over all sequences.
    nodes: usize,
    /// Expected tokens, over all sequences.
    tokens: f64,
    /// Expected seconds of the forward pass.
    seconds: f64,
    /// Whether the size was chosen to learn its cost, and not because it is the best.
    explores: bool,
}

/// Chooses the number of draft nodes of each pass by expected tokens per second; see the [module](self).
///
/// A [`deterministic`](Self::deterministic) budget uses only a saved curve. The sizes are then the same on every run. So the
/// text is repeatable even on a backend whose logits change with the number of rows in a pass, if no other sequence shares its
/// passes.
#[derive(Clone, Debug)]
pub struct AutoBudget {
    cost: OnlineCostModel,
    deterministic: bool,
    /// The cost of a prompt row in draft rows.
    prompt_row_cost: f64,
    /// Seconds of a step outside the forward pass.
    overhead: f64,
    /// Seconds that exploration may still lose.
    explore_credit: f64,
    /// A decaying maximum of the chosen sizes.
    recent_max: f64,
    estimates: Vec<Estimate>,
    decision: SizeDecision,
    /// Expected tokens per second of the best known size.
    best_rate: f64,
    passes: u64,
    explored: u64,
    slowdown: PostDraftSlowdown,
    /// Whether the next pass times plain decoding again.
    retime_plain: bool,
}

impl Default for AutoBudget {
    fn default() -> Self {
        Self::new(None)
    }
}

impl AutoBudget {
    /// A budget that starts from the costs `saved`, or from none, and keeps learning.
    #[must_use]
    pub fn new(saved: Option<CostCurve>) -> Self {
        Self {
            cost: OnlineCostModel::new(saved),
            deterministic: false,
            prompt_row_cost: 1.0,
            overhead: 0.0,
            explore_credit: 0.0,
            recent_max: 8.0,
            estimates: Vec::with_capacity(2 * MAX_NODES),
            decision: SizeDecision::default(),
            best_rate: f64::INFINITY,
            passes: 0,
            explored: 0,
            slowdown: PostDraftSlowdown::new(),
            retime_plain: false,
        }
    }

    /// A budget that uses only the costs `saved` and never a clock.
    #[must_use]
    pub fn deterministic(saved: CostCurve) -> Self {
        Self { deterministic: true, ..Self::new(Some(saved)) }
    }

    /// The share of passes that explored.
    #[must_use]
    pub fn explore_share(&self) -> f64 {
        self.explored as f64 / self.passes.max(1) as f64
    }

    /// The saved costs that the estimates started from.
    #[must_use]
    pub fn saved(&self) -> Option<&CostCurve> {
        self.cost.saved()
    }

    /// How the times of passes contradict the saved costs; `None` if they agree, or if too few passes were timed.
    #[must_use]
    pub fn contradiction(&self) -> Option<Contradiction> {
        self.cost.contradiction()
    }

    /// The most nodes worth drafting for each sequence of the next pass.
    pub(crate) fn max_draft(&self) -> usize {
        let max_nodes = if self.deterministic { 64 } else { (self.recent_max * 2.0) as usize + 4 };
        max_nodes.min(MAX_NODES)
    }

    /// Sorts `candidates` by descending path probability and returns how many of them to score. The parent of each of these
    /// is among them.
    pub(crate) fn choose(&mut self, candidates: &mut [CandidateNode], pass: PlainPass) -> usize {
        candidates.sort_unstable_by(|a, b| {
            let by_probability = b.path_probability.total_cmp(&a.path_probability);
            by_probability.then(a.node.cmp(&b.node)).then(a.tree.cmp(&b.tree))
        });
        let max_nodes = candidates.len().min(MAX_NODES);
        let candidates = &candidates[..max_nodes];
        self.passes += 1;
        if !self.cost.is_known() {
            // The first pass is plain: it is the baseline.
            self.decision = SizeDecision { tokens: pass.sequences as f64, ..SizeDecision::default() };
            return 0;
        }
        self.estimates.resize(pass.sequences + pass.prompt_rows + max_nodes + 1, Estimate::UNKNOWN);
        self.cost.fill(pass.cached_tokens, &mut self.estimates);
        let (best, optimistic) = self.best_sizes(candidates, pass);
        self.best_rate = best.tokens / (best.seconds + self.overhead_of(best.nodes, pass));
        self.decision = if pass.prompt_rows > 0 {
            // Its time would not show what a size costs, so it does not explore.
            best
        } else if self.retime_plain && best.nodes != 0 {
            self.exploring_decision(0, candidates, pass)
        } else if self.deterministic {
            best
        } else {
            self.try_explore(optimistic, best, candidates, pass).unwrap_or(best)
        };
        self.explored += u64::from(self.decision.explores);
        self.recent_max = (self.recent_max * 0.95).max(self.decision.nodes as f64);
        self.decision.nodes
    }

    /// The number of draft rows that cost as much as the pass without drafts.
    fn plain_rows(&self, pass: PlainPass) -> usize {
        pass.sequences + (self.prompt_row_cost * pass.prompt_rows as f64).round() as usize
    }

    /// The best size by estimated cost, and the best size by optimistic cost.
    fn best_sizes(&self, candidates: &[CandidateNode], pass: PlainPass) -> (SizeDecision, usize) {
        let plain_rows = self.plain_rows(pass);
        let plain = self.estimates[plain_rows].seconds;
        let (mut best, mut best_rate) = (SizeDecision::default(), 0.0);
        let (mut optimistic, mut optimistic_rate) = (0, 0.0);
        let mut tokens = pass.sequences as f64;
        for nodes in 0..=candidates.len() {
            if nodes > 0 {
                tokens += f64::from(candidates[nodes - 1].path_probability);
            }
            let Estimate { seconds, age } = self.estimates[plain_rows + nodes];
            let overhead = self.overhead_of(nodes, pass);
            let rate = tokens / (seconds + overhead);
            let min_speedup = if best.nodes == 0 && nodes > 0 { MIN_SPEEDUP } else { 1.0 };
            if (nodes == 0 || age.is_some()) && rate > best_rate * min_speedup {
                best = SizeDecision { nodes, tokens, seconds, explores: false };
                best_rate = rate;
            }
            // A draft never costs less than plain decoding.
            let optimistic_seconds = match (nodes, age) {
                (0, Some(age)) if age >= PLAIN_STALE_AFTER => seconds * OPTIMISTIC_PLAIN,
                (0, _) => seconds,
                (_, Some(age)) => (seconds * (1.0 - age as f64 / STALE_AFTER)).max(plain),
                (_, None) => (seconds * OPTIMISTIC_UNKNOWN).max(plain),
            };
            let rate = tokens / (optimistic_seconds + overhead);
            if rate > optimistic_rate {
                (optimistic, optimistic_rate) = (nodes, rate);
            }
        }
        (best, optimistic)
    }

    /// Seconds outside the forward pass: the rest of the step, and the slowdown that a draft causes in later passes.
    fn overhead_of(&self, nodes: usize, pass: PlainPass) -> f64 {
        let slowdown = if nodes > 0 { self.slowdown.per_drafted_pass() } else { 0.0 };
        self.overhead + slowdown * self.estimates[self.plain_rows(pass)].seconds
    }

    /// An exploring decision for `nodes` nodes.
    fn exploring_decision(
        &self,
        nodes: usize,
        candidates: &[CandidateNode],
        pass: PlainPass,
    ) -> SizeDecision {
        let gain: f64 = candidates[..nodes].iter().map(|c| f64::from(c.path_probability)).sum();
        let seconds = self.estimates[self.plain_rows(pass) + nodes].seconds;
        SizeDecision { nodes, tokens: pass.sequences as f64 + gain, seconds, explores: true }
    }

    /// Explores about `nodes` nodes, if the expected loss fits the explore credit.
    fn try_explore(
        &self,
        nodes: usize,
        best: SizeDecision,
        candidates: &[CandidateNode],
        pass: PlainPass,
    ) -> Option<SizeDecision> {
        if nodes == best.nodes {
            return None;
        }
        let decision = self.exploring_decision(nodes, candidates, pass);
        let loss = decision.seconds + self.overhead - decision.tokens / self.best_rate;
        (loss.max(0.0) <= self.explore_credit).then_some(decision)
    }

    /// Learns from the time and the tokens of the pass of the last decision.
    pub(crate) fn learn(&mut self, timing: PassTiming) {
        let PassTiming { rows, prompt_rows, cached_tokens, tokens, seconds, overhead } = timing;
        if self.deterministic || !(seconds > 0.0 && seconds.is_finite()) {
            return;
        }
        if prompt_rows > 0 {
            self.learn_prompt_rows(rows, prompt_rows, seconds);
            return;
        }
        let SizeDecision { nodes, explores, .. } = self.decision;
        self.explore_credit += EXPLORE_SHARE * seconds;
        if explores {
            // By the tokens that the pass emitted, not by those expected: wrong expectations are a loss of exploration too.
            self.explore_credit -= seconds + self.overhead - tokens as f64 / self.best_rate;
        }
        let single_row = self.estimates.get(1).map_or(seconds, |estimate| estimate.seconds);
        let max_credit = MAX_EXPLORE_CREDIT * single_row;
        self.explore_credit = self.explore_credit.clamp(-max_credit, max_credit);
        self.overhead += (overhead.clamp(0.0, seconds) - self.overhead) * 0.1;
        let mut undisturbed = seconds;
        if nodes > 0 {
            self.slowdown.record_drafted_pass();
        } else if let Some(expected) = self.estimates.get(rows) {
            undisturbed = self.slowdown.record_plain(seconds, expected.seconds);
        }
        self.retime_plain = nodes == 0 && explores && self.slowdown.plain_passes() < PLAIN_RETIMINGS;
        self.cost.learn(rows, cached_tokens, undisturbed);
    }

    /// Learns the cost of prompt rows from a pass that also decoded `rows` rows.
    fn learn_prompt_rows(&mut self, rows: usize, prompt_rows: usize, seconds: f64) {
        if !self.cost.is_known() {
            return;
        }
        // The draft rows that would take as long.
        let alike = self.estimates.iter().position(|estimate| estimate.seconds >= seconds);
        let alike = alike.unwrap_or(self.estimates.len());
        let cost = (alike.saturating_sub(rows) as f64 / prompt_rows as f64).min(1.0);
        self.prompt_row_cost += (cost - self.prompt_row_cost) * PROMPT_ROW_RATE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_prompt_rows_is_learned_from_passes_that_also_decode() {
        let seconds = |rows: f64| 0.004 + 0.001 * rows;
        let points = [1, 2, 4, 8, 16, 32, 64, 128, 256].map(|rows| (rows, seconds(rows as f64)));
        let curve = CostCurve::new(String::new(), vec![(64, points.to_vec())]).unwrap();
        for share in [0.2, 0.5, 1.0] {
            let mut budget = AutoBudget::new(Some(curve.clone()));
            let pass = PlainPass { sequences: 2, prompt_rows: 50, cached_tokens: 64 };
            let mut candidates = [CandidateNode { path_probability: 0.9, tree: 0, node: NodeId::new(1) }; 4];
            for _ in 0..60 {
                let nodes = budget.choose(&mut candidates, pass);
                let rows = pass.sequences + nodes;
                budget.learn(PassTiming {
                    rows,
                    prompt_rows: pass.prompt_rows,
                    cached_tokens: 64,
                    tokens: 2,
                    seconds: seconds(rows as f64 + share * 50.0),
                    overhead: 0.0,
                });
            }
            let nodes = budget.choose(&mut candidates, pass);
            let expected = seconds((pass.sequences + nodes) as f64 + share * 50.0);
            let ratio = budget.decision.seconds / expected;
            assert!((0.95..1.05).contains(&ratio), "{share}: {ratio}");
            assert!(!budget.decision.explores);
        }
    }
}
