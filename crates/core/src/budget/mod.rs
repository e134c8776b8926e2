//! How many nodes pay, on this machine, now.

mod live;
mod wake;

use crate::{CostCurve, NodeId};
use live::{Estimate, LiveCost};
use wake::Wake;

/// The most draft nodes of a pass that are ever considered.
pub const MAX_NODES: usize = 256;

/// The share of the time that passes which are run to learn their cost may lose, and what they may lose when nothing was spent
/// yet, in plain passes: one percent of an answer of a hundred tokens, together, and what the last of them came to lose
/// beyond what it promised.
const PROBE_SHARE: f64 = 0.0075;
const CREDIT: f64 = 0.15;
/// The most that is saved up for trials, in plain passes.
const PURSE: f64 = 2.0;
/// What a trial is charged at most, in times of what it was held to take.
const HICCUP: f64 = 2.0;

/// Passes after which plain decoding may take only so large a share of what it is held to take: it is what drafts are held
/// against, and is timed anew unless they promise far more.
const FRESH: u64 = 16;
const PLAIN_DOUBT: f64 = 0.6;
/// Plain passes of such a trial: the first ones stand too near to drafts.
const IN_A_ROW: usize = 3;

/// What a draft must promise beside plain decoding. Costs and chances are estimates, and the best of many estimates is one
/// that is too good: a smaller promise is not kept on average.
const WORTH: f64 = 1.03;

/// A cost last timed this many steps ago may be all wrong; one timed a tenth of them ago, a tenth too high.
const DOUBT: f64 = 2000.0;

/// A node that may be scored: the chance that it is on the accepted path, the tree it is of, and its place there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Offer {
    pub(crate) path: f32,
    pub(crate) tree: u32,
    pub(crate) node: NodeId,
}

/// What a pass will cost and bring, as chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Plan {
    /// Draft nodes, over all sequences of the pass.
    pub nodes: usize,
    /// Tokens that the pass is expected to emit.
    pub tokens: f64,
    /// Seconds that it is expected to take.
    pub seconds: f64,
    /// Whether more (or fewer) nodes than pay best are scored, to learn what they cost.
    pub probe: bool,
}

/// Chooses the size of each pass: the number of nodes n that maximises `(1 + gain(n)) / (cost(n) + drafting)`, where
/// gain is the sum of the chances that the n most probable nodes come true, and cost is what such a pass takes here.
///
/// n = 0 is plain decoding, and is chosen where nothing pays. Costs are learned while decoding: sizes that were never
/// timed, or long ago, are tried when they might pay and while such trials lose less than 1 % of the time. With a
/// saved curve and [`deterministic`](Self::deterministic), only that curve counts, so that the sizes (and, on engines
/// that are not row-invariant, near-ties) are the same on every run.
#[derive(Clone, Debug)]
pub struct AutoBudget {
    cost: LiveCost,
    fixed: bool,
    max_nodes: usize,
    /// Seconds of a step outside the pass itself.
    overhead: f64,
    /// Seconds that may still be spent on trials; none before the first.
    purse: Option<f64>,
    /// A running maximum of the sizes chosen.
    reach: f64,
    estimates: Vec<Estimate>,
    plan: Plan,
    /// Tokens a second at the best size known.
    pace: f64,
    passes: u64,
    probes: u64,
    nodes: u64,
    wake: Wake,
    /// Whether plain decoding is tried once more, since its last trial stood near to drafts.
    again: bool,
}

impl Default for AutoBudget {
    fn default() -> Self {
        Self::new(None)
    }
}

impl AutoBudget {
    /// Starts from `saved`, or from nothing, and learns on.
    #[must_use]
    pub fn new(saved: Option<CostCurve>) -> Self {
        let reach = if saved.is_some() { 8.0 } else { 4.0 };
        Self {
            cost: LiveCost::new(saved),
            fixed: false,
            max_nodes: MAX_NODES,
            overhead: 0.0,
            purse: None,
            reach,
            estimates: Vec::with_capacity(2 * MAX_NODES),
            plan: Plan::default(),
            pace: f64::INFINITY,
            passes: 0,
            probes: 0,
            nodes: 0,
            wake: Wake::new(),
            again: false,
        }
    }

    /// Takes sizes from `saved` alone, never from a clock.
    #[must_use]
    pub fn deterministic(saved: CostCurve) -> Self {
        Self { fixed: true, ..Self::new(Some(saved)) }
    }

    /// Considers at most `nodes` nodes a pass (and never more than [`MAX_NODES`]).
    #[must_use]
    pub fn with_max_nodes(mut self, nodes: usize) -> Self {
        self.max_nodes = nodes.min(MAX_NODES);
        self
    }

    /// Whether the sizes depend on a saved curve alone.
    #[must_use]
    pub fn is_deterministic(&self) -> bool {
        self.fixed
    }

    /// What was last chosen.
    #[must_use]
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// The mean number of nodes chosen per pass.
    #[must_use]
    pub fn mean_nodes(&self) -> f64 {
        self.nodes as f64 / self.passes.max(1) as f64
    }

    /// The share of passes that were trials.
    #[must_use]
    pub fn probe_share(&self) -> f64 {
        self.probes as f64 / self.passes.max(1) as f64
    }

    /// The seconds that a pass of `rows` rows over `context` tokens is expected to take; none before the first.
    #[must_use]
    pub fn seconds(&self, rows: usize, context: usize) -> Option<f64> {
        let mut out = vec![Estimate { seconds: 0.0, age: None }; rows + 1];
        self.cost.fill(context, &mut out);
        self.cost.is_known().then(|| out[rows].seconds)
    }

    /// The nodes worth drafting, for each of the pass's sequences: what might be chosen now.
    pub(crate) fn most(&self) -> usize {
        let most = if self.fixed { 64 } else { (self.reach * 2.0) as usize + 4 };
        most.min(self.max_nodes)
    }

    /// Sorts `offers` by falling chance and chooses how many of them are scored: the first so many, of which each
    /// one's parent is always one too. The pass has `rows` rows without any of them, `sequences` of which emit a token
    /// for sure, over `context` tokens.
    pub(crate) fn choose(
        &mut self,
        offers: &mut [Offer],
        (rows, sequences): (usize, usize),
        context: usize,
    ) -> usize {
        offers.sort_unstable_by(|a, b| {
            b.path.total_cmp(&a.path).then(a.node.cmp(&b.node)).then(a.tree.cmp(&b.tree))
        });
        let most = offers.len().min(self.max_nodes);
        self.passes += 1;
        if !self.cost.is_known() {
            // The first pass is plain: it is what everything else is held against.
            self.plan = Plan { tokens: sequences as f64, ..Plan::default() };
            return 0;
        }
        self.estimates.clear();
        self.estimates.resize(rows + most + 1, Estimate { seconds: 0.0, age: None });
        self.cost.fill(context, &mut self.estimates);
        let plain = self.estimates[rows].seconds;
        let wake = self.wake.of_a_draft() * plain;
        let (mut best, mut hopeful) = ((0, 0.0), (0, 0.0));
        let mut tokens = sequences as f64;
        let mut plan = Plan::default();
        let mut around = self.overhead;
        for nodes in 0..=most {
            if nodes > 0 {
                tokens += f64::from(offers[nodes - 1].path);
                around = self.overhead + wake;
            }
            let Estimate { seconds, age } = self.estimates[rows + nodes];
            let pace = tokens / (seconds + around);
            let bar = if best.0 == 0 && nodes > 0 { best.1 * WORTH } else { best.1 };
            if pace > bar && age.is_some() {
                best = (nodes, pace);
                plan = Plan { nodes, tokens, seconds, probe: false };
            }
            // What was timed long ago, or never, may be cheaper than it is held to be, though not than no node.
            let hoped = match (nodes, age) {
                (0, Some(age)) if age >= FRESH => seconds * PLAIN_DOUBT,
                (0, _) => seconds,
                (_, Some(age)) => (seconds * (1.0 - (age as f64 / DOUBT).min(0.5))).max(plain),
                (_, None) => (seconds * 0.7).max(plain),
            };
            let pace = tokens / (hoped + around);
            if pace > hopeful.1 * 1.0001 {
                hopeful = (nodes, pace);
            }
        }
        self.pace = best.1;
        let hopeful = hopeful.0;
        let nodes = if self.again && best.0 != 0 {
            Some(0)
        } else if !self.fixed && hopeful != best.0 {
            if self.purse.is_none() {
                self.purse = Some(CREDIT * plain);
            }
            self.dare(hopeful, best, offers, rows, sequences)
        } else {
            None
        };
        if let Some(nodes) = nodes {
            let tokens = sequences as f64 + offers[..nodes].iter().map(|o| f64::from(o.path)).sum::<f64>();
            plan = Plan { nodes, tokens, seconds: self.estimates[rows + nodes].seconds, probe: true };
            self.probes += 1;
        }
        self.plan = plan;
        self.nodes += plan.nodes as u64;
        self.reach = (self.reach * 0.95).max(plan.nodes as f64);
        plan.nodes
    }

    /// A trial of about `nodes` nodes, if there is anything to learn and the purse can bear it.
    fn dare(
        &self,
        nodes: usize,
        best: (usize, f64),
        offers: &[Offer],
        rows: usize,
        sequences: usize,
    ) -> Option<usize> {
        // Not beyond twice the rows that were timed.
        let timed =
            (0..self.estimates.len()).rev().find(|&n| self.estimates[n].age.is_some()).unwrap_or(rows);
        let nodes = nodes.min((2 * timed.max(1)).saturating_sub(rows)).min(offers.len());
        if nodes == best.0 {
            return None;
        }
        let tokens = sequences as f64 + offers[..nodes].iter().map(|o| f64::from(o.path)).sum::<f64>();
        let loss = self.estimates[rows + nodes].seconds + self.overhead - tokens / best.1;
        (loss.max(0.0) <= self.purse.unwrap_or(0.0)).then_some(nodes)
    }

    /// Learns what the pass that was chosen took, and brought.
    pub(crate) fn learn(&mut self, taken: Taken) {
        let Taken { rows, context, tokens, seconds, overhead } = taken;
        if self.fixed || !(seconds > 0.0 && seconds.is_finite()) {
            return;
        }
        let each = self.estimates.get(1).map_or(seconds, |e| e.seconds);
        let mut purse = self.purse.unwrap_or(CREDIT * each);
        if self.plan.probe {
            // By what it brought, not by what it promised: in a text where promises are not kept, trials lose by that too.
            // The machine's own delays are not its fault.
            let took = seconds.min(HICCUP * self.plan.seconds);
            purse -= took + self.overhead - tokens as f64 / self.pace;
        }
        self.purse = Some((purse + PROBE_SHARE * seconds).min(PURSE * each));
        self.overhead += (overhead.clamp(0.0, seconds) - self.overhead) * 0.1;
        let plain = self.plan.nodes == 0;
        let seconds = match self.estimates.get(rows) {
            Some(expected) if plain => self.wake.plain(seconds, expected.seconds),
            _ => seconds,
        };
        if !plain {
            self.wake.drafted();
        }
        self.again = plain && self.plan.probe && self.wake.behind() < IN_A_ROW;
        self.cost.learn(rows, context, seconds);
    }
}

/// What a pass that scored drafts took and brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// All of its rows.
    pub(crate) rows: usize,
    /// Cached tokens that a row attended to.
    pub(crate) context: usize,
    /// Tokens that were drawn, over all sequences.
    pub(crate) tokens: usize,
    /// Seconds of the pass alone.
    pub(crate) seconds: f64,
    /// Seconds around it.
    pub(crate) overhead: f64,
}
