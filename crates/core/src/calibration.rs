//! Turns the raw probabilities of a drafter into probabilities of acceptance, learned online.

use crate::token::TokenId;
use crate::tree::{DraftTree, NodeId};

/// Raw probabilities are grouped by tenths; the lowest tenth is split at `LOW_EDGES`.
const RAW_BINS: usize = 13;
const LOW_EDGES: [f32; 3] = [0.0125, 0.025, 0.05];
/// Nodes without a raw probability are grouped by rank among their siblings and by depth, up to these.
const RANKS: usize = 8;
const DEPTHS: usize = 6;
/// The raw probability assumed for a node without one, by rank. Acceptance rates of the paper's tree, measured on 30 prompts.
const RAW_BY_RANK: [f32; RANKS] = [0.43, 0.09, 0.05, 0.04, 0.02, 0.01, 0.01, 0.01];
/// Observations of a group are averaged over about this many of the latest.
const MEMORY: f32 = 400.0;
/// The weight of the raw probability, in observations.
const PRIOR: f32 = 4.0;

/// The observations of one group of nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    raw_sum: f32,
    accepted: f32,
    seen: f32,
}

/// One bin of a reliability table: predicted and observed acceptance.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reliability {
    /// Nodes that were tested: their parent was on the accepted path.
    pub tested: u64,
    /// The mean predicted probability of these nodes, after calibration.
    pub predicted: f64,
    /// The share of these nodes that was accepted.
    pub accepted: f64,
}

/// Corrects the raw probabilities that a drafter gives its nodes by how often such nodes were accepted. Nodes without a raw
/// probability get one by their rank, and are grouped by rank and depth.
///
/// A raw probability is multiplied by the ratio of accepted nodes to summed raw probabilities in its group. Recent steps count
/// most. If a drafter is always wrong, its calibrated probabilities fall towards 0.
///
/// ```
/// use upcycle_core::{Calibration, DraftTree, NodeId, TreeLimits};
///
/// let mut calibration = Calibration::new();
/// let mut tree = DraftTree::new();
/// for _ in 0..100 {
///     tree.reset(1, TreeLimits::UNBOUNDED);
///     tree.push(NodeId::ROOT, 2, Some(0.9))?;
///     calibration.learn(&tree, &[7]);
/// }
/// assert!(calibration.probability(&tree, NodeId::new(1)) < 0.06, "it was never right");
/// # Ok::<(), upcycle_core::PushError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Calibration {
    /// `[RAW_BINS + DEPTHS * RANKS]`: nodes with a raw probability by it, then others by depth and rank.
    tallies: [Tally; RAW_BINS + DEPTHS * RANKS],
    /// By tenths of the calibrated probability, since the beginning: tested, sum of predictions, accepted.
    table: [(u64, f64, u64); 10],
}

impl Default for Calibration {
    fn default() -> Self {
        Self::new()
    }
}

impl Calibration {
    /// A calibration that has seen nothing. It does not change any probability yet.
    #[must_use]
    pub fn new() -> Self {
        Self { tallies: [Tally::default(); RAW_BINS + DEPTHS * RANKS], table: [(0, 0.0, 0); 10] }
    }

    /// The raw probability of a node, and the index of its group's tally.
    fn raw_and_group(tree: &DraftTree, node: NodeId) -> (f32, usize) {
        if let Some(raw) = tree.probability(node) {
            let low = LOW_EDGES.partition_point(|&edge| edge <= raw);
            let bin = if raw < 0.1 { low } else { (3 + (raw * 10.0) as usize).min(RAW_BINS - 1) };
            return (raw, bin);
        }
        let siblings = tree.parent(node).into_iter().flat_map(|parent| tree.children(parent));
        let rank = siblings.take_while(|&sibling| sibling != node).count().min(RANKS - 1);
        let depth = (tree.depths()[node.index()] as usize).clamp(1, DEPTHS) - 1;
        (RAW_BY_RANK[rank], RAW_BINS + depth * RANKS + rank)
    }

    fn calibrated(&self, raw: f32, tally: usize) -> f32 {
        let Tally { raw_sum, accepted, .. } = self.tallies[tally];
        let scale = (accepted + PRIOR * raw) / (raw_sum + PRIOR * raw).max(1e-6);
        (raw * scale).min(1.0)
    }

    /// The probability that `node` is accepted if its parent is; 1 for the root.
    ///
    /// # Panics
    /// If `node` is not a node of `tree`.
    #[must_use]
    pub fn probability(&self, tree: &DraftTree, node: NodeId) -> f32 {
        if node == NodeId::ROOT {
            return 1.0;
        }
        let (raw, tally) = Self::raw_and_group(tree, node);
        self.calibrated(raw, tally)
    }

    /// Learns which nodes of `tree` were right. The model sampled the tokens `sampled`, from the root down. Each sampled token
    /// shows which child of its node, if any, was right. `tree` is the tree before it was pruned, so that pruned nodes are
    /// tested too.
    pub fn learn(&mut self, tree: &DraftTree, sampled: &[TokenId]) {
        let mut next = Some(NodeId::ROOT);
        for &token in sampled {
            let Some(node) = next else { return };
            next = tree.child(node, token);
            for child in tree.children(node) {
                let (raw, index) = Self::raw_and_group(tree, child);
                let predicted = self.calibrated(raw, index);
                let accepted = tree.tokens()[child.index()] == token;
                let tally = &mut self.tallies[index];
                if tally.seen >= MEMORY {
                    let keep = 1.0 - 1.0 / MEMORY;
                    tally.raw_sum *= keep;
                    tally.accepted *= keep;
                    tally.seen *= keep;
                }
                tally.raw_sum += raw;
                tally.accepted += f32::from(u8::from(accepted));
                tally.seen += 1.0;
                let bin = &mut self.table[((predicted * 10.0) as usize).min(9)];
                *bin = (bin.0 + 1, bin.1 + f64::from(predicted), bin.2 + u64::from(accepted));
            }
        }
    }

    /// Predicted and observed acceptance so far, `[10]`, by tenths of the predicted probability.
    #[must_use]
    pub fn reliability(&self) -> [Reliability; 10] {
        self.table.map(|(tested, predicted, accepted)| {
            let n = tested.max(1) as f64;
            Reliability { tested, predicted: predicted / n, accepted: accepted as f64 / n }
        })
    }
}
