//! From what a drafter claims to what comes true: probabilities calibrated on line, for any drafter.

use crate::{DraftTree, NodeId, TokenId};

/// Claims are told apart by their probability in steps of a tenth, the lowest tenth in four.
const CLAIMS: usize = 13;
/// Nodes without a claim are told apart by rank among their siblings and by depth, up to these.
const RANKS: usize = 8;
const DEPTHS: usize = 6;
/// What a node without a claim is worth by its rank, before anything was seen.
const BY_RANK: [f32; RANKS] = [0.43, 0.09, 0.05, 0.04, 0.02, 0.01, 0.01, 0.01];
/// Observations after which old ones fade.
const MEMORY: f32 = 400.0;
/// How many observations a claim is worth before anything was seen.
const PRIOR: f32 = 4.0;
/// No draft is certain.
const CEILING: f32 = 0.99;

/// What was claimed and what came true, for nodes of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    claimed: f32,
    came_true: f32,
    seen: f32,
}

/// One row of a reliability table.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reliability {
    /// Nodes whose parent was on the accepted path, so that they were put to the test.
    pub tested: u64,
    /// The mean probability that they were given, after calibration.
    pub predicted: f64,
    /// The share of them that came true.
    pub accepted: f64,
}

/// Turns the probabilities that a drafter claims for its nodes (or, without claims, their rank and depth) into the
/// chance that they come true, learned from what was accepted.
///
/// Claims of a kind are scaled by the ratio of what came true to what was claimed, recent steps counting most, so that
/// a drafter that is always wrong is soon believed nothing.
///
/// ```
/// use upcycle_core::{Calibration, DraftTree, NodeId, TreeLimits};
///
/// let mut calibration = Calibration::new();
/// let mut tree = DraftTree::new();
/// for _ in 0..100 {
///     tree.restart(1, TreeLimits::UNBOUNDED);
///     tree.push(NodeId::ROOT, 2, Some(0.9))?;
///     calibration.learn(&tree, &[7]);
/// }
/// assert!(calibration.chance(&tree, NodeId::new(1)) < 0.06, "it never came true");
/// # Ok::<(), upcycle_core::TreeFull>(())
/// ```
#[derive(Clone, Debug)]
pub struct Calibration {
    claims: [Tally; CLAIMS],
    unclaimed: [[Tally; RANKS]; DEPTHS],
    /// By tenths of the calibrated chance, over the whole life: tested, sum predicted, came true.
    table: [(u64, f64, u64); 10],
}

impl Default for Calibration {
    fn default() -> Self {
        Self::new()
    }
}

fn bucket(claim: f32) -> usize {
    if claim < 0.1 {
        [0.0125, 0.025, 0.05].partition_point(|&edge| edge <= claim)
    } else {
        (3 + (claim * 10.0) as usize).min(CLAIMS - 1)
    }
}

impl Calibration {
    /// Believes every claim at first.
    #[must_use]
    pub fn new() -> Self {
        Self {
            claims: [Tally::default(); CLAIMS],
            unclaimed: [[Tally::default(); RANKS]; DEPTHS],
            table: [(0, 0.0, 0); 10],
        }
    }

    fn kind(tree: &DraftTree, node: NodeId) -> (f32, Result<usize, (usize, usize)>) {
        match tree.probability(node) {
            Some(claim) => (claim, Ok(bucket(claim))),
            None => {
                let siblings = tree.parent(node).into_iter().flat_map(|parent| tree.children(parent));
                let rank = siblings.take_while(|&sibling| sibling != node).count().min(RANKS - 1);
                let depth = (tree.depths()[node.index()] as usize).clamp(1, DEPTHS) - 1;
                (BY_RANK[rank], Err((depth, rank)))
            }
        }
    }

    fn tally(&self, kind: Result<usize, (usize, usize)>) -> &Tally {
        match kind {
            Ok(bucket) => &self.claims[bucket],
            Err((depth, rank)) => &self.unclaimed[depth][rank],
        }
    }

    /// The chance that `node` is right given that its parent is; 1 for the root.
    ///
    /// # Panics
    /// If `node` is not a node of `tree`.
    #[must_use]
    pub fn chance(&self, tree: &DraftTree, node: NodeId) -> f32 {
        if node == NodeId::ROOT {
            return 1.0;
        }
        let (claim, kind) = Self::kind(tree, node);
        let tally = self.tally(kind);
        // As if the claim had been tried a few times before and had held.
        let scale = (tally.came_true + PRIOR * claim) / (tally.claimed + PRIOR * claim).max(1e-6);
        (claim * scale).min(CEILING)
    }

    /// Learns from a draft: from the root downwards, the model drew the tokens of `sampled`, so that the children of the
    /// nodes on that way came true or did not. `tree` is the tree as it was drafted, before it was cut: what was not
    /// scored is tested all the same.
    pub fn learn(&mut self, tree: &DraftTree, sampled: &[TokenId]) {
        let mut next = Some(NodeId::ROOT);
        for &token in sampled {
            let Some(node) = next else { return };
            next = tree.child(node, token);
            for child in tree.children(node) {
                let chance = self.chance(tree, child);
                let true_now = tree.tokens()[child.index()] == token;
                let (claim, kind) = Self::kind(tree, child);
                let tally = match kind {
                    Ok(bucket) => &mut self.claims[bucket],
                    Err((depth, rank)) => &mut self.unclaimed[depth][rank],
                };
                if tally.seen >= MEMORY {
                    let keep = 1.0 - 1.0 / MEMORY;
                    tally.claimed *= keep;
                    tally.came_true *= keep;
                    tally.seen *= keep;
                }
                tally.claimed += claim;
                tally.came_true += f32::from(u8::from(true_now));
                tally.seen += 1.0;
                let row = &mut self.table[((chance * 10.0) as usize).min(9)];
                *row = (row.0 + 1, row.1 + f64::from(chance), row.2 + u64::from(true_now));
            }
        }
    }

    /// How well predictions held so far, by tenths of the predicted chance.
    #[must_use]
    pub fn reliability(&self) -> [Reliability; 10] {
        self.table.map(|(tested, predicted, came_true)| {
            let n = tested.max(1) as f64;
            Reliability { tested, predicted: predicted / n, accepted: came_true as f64 / n }
        })
    }
}
