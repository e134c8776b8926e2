//! Trees grown best first from several sources at once, each node with a calibrated probability.

mod copying;
mod corpus;
mod frequent;
mod mixer;
mod rows;
mod runners_up;
mod source;
mod texts;

use std::collections::BinaryHeap;
use std::path::Path;

pub use copying::SuffixMatcher;
pub use corpus::{Corpus, CorpusBuilder};
pub use frequent::Frequent;
use mixer::Menu;
use mixer::Mixer;
pub use rows::{AdjacencySource, NgramCache, WIDTH};
pub use runners_up::TopKHistory;
pub use source::{MAX_SOURCES, Place, Proposals, Scored, Source, WINDOW};
pub use texts::Texts;

use crate::drafter::{Context, Drafter, Footprint, Outcome, Phase};
use crate::matrix::AdjacencyMatrix;
use crate::snapshot::{Fingerprint, SnapshotError};
use crate::token::{SeqId, TokenId};
use crate::top::RowSelection;
use crate::tree::{DraftTree, NodeId};
use crate::tree_limits::TreeFull;

/// A place in the heap: a token that may be drafted below a node that is.
#[derive(Clone, Copy, Debug)]
struct Branch {
    /// The chance that the whole path to it is right.
    path: f32,
    own: f32,
    parent: NodeId,
    token: TokenId,
    /// Who proposes it, as bits.
    label: u8,
    /// Earlier ones first where paths are equally likely.
    order: u32,
}

impl PartialEq for Branch {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Branch {}
impl PartialOrd for Branch {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Branch {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.path.total_cmp(&other.path).then(other.order.cmp(&self.order))
    }
}

/// Paths less likely than this are not drafted, whatever the limits.
const FLOOR: f32 = 1e-3;

/// Drafts the most probable nodes that its sources propose.
pub struct MixedDrafter {
    sources: Vec<Box<dyn Source>>,
    mixer: Mixer,
    prompt_rows: RowSelection,
    heap: BinaryHeap<Branch>,
    menu: Menu,
    proposals: Proposals,
}

impl MixedDrafter {
    /// A drafter over `sources`, of which the first [`MAX_SOURCES`] count.
    #[must_use]
    pub fn new(mut sources: Vec<Box<dyn Source>>) -> Self {
        sources.truncate(MAX_SOURCES);
        Self {
            mixer: Mixer::new(&sources),
            sources,
            prompt_rows: RowSelection::Last,
            heap: BinaryHeap::new(),
            menu: Menu::default(),
            proposals: Proposals::default(),
        }
    }

    /// Learns from these rows of the prompt.
    #[must_use]
    pub fn with_prompt_rows(mut self, rows: RowSelection) -> Self {
        self.prompt_rows = rows;
        self
    }

    /// The adjacency matrix among its sources, if there is one.
    #[must_use]
    pub fn matrix(&self) -> Option<&AdjacencyMatrix> {
        self.sources.iter().find_map(|source| source.matrix())
    }

    /// What follows `place`, with probabilities, into `menu`.
    fn consult(&mut self, place: Place<'_>) {
        self.menu.clear();
        for (index, source) in self.sources.iter().enumerate() {
            self.proposals.clear();
            source.propose(place, &mut self.proposals);
            self.menu.add(index, &self.proposals);
        }
        self.mixer.mix(&mut self.menu);
    }
}

impl Drafter for MixedDrafter {
    fn draft(&mut self, context: Context<'_>, tree: &mut DraftTree) {
        for source in &mut self.sources {
            source.follow(context);
        }
        let seq = context.seq;
        self.heap.clear();
        let mut window = [0; WINDOW];
        let mut order = 0;
        let mut grown = Some((NodeId::ROOT, 1.0_f32));
        loop {
            if let Some((node, path)) = grown.take()
                && (tree.depths()[node.index()] as usize) < tree.limits().depth
            {
                let mut start = WINDOW;
                let mut next = Some(node);
                while let (Some(at), 1..) = (next, start) {
                    start -= 1;
                    window[start] = tree.tokens()[at.index()];
                    next = tree.parent(at);
                }
                for &token in context.tokens[..context.tokens.len() - 1].iter().rev().take(start) {
                    start -= 1;
                    window[start] = token;
                }
                let depth = tree.depths()[node.index()] as usize;
                self.consult(Place { seq, recent: &window[start..], depth });
                for candidate in &self.menu.candidates {
                    let below = path * candidate.p;
                    if below >= FLOOR {
                        self.heap.push(Branch {
                            path: below,
                            own: candidate.p,
                            parent: node,
                            token: candidate.token,
                            label: candidate.label(),
                            order,
                        });
                        order += 1;
                    }
                }
            }
            if tree.drafted() >= tree.limits().nodes {
                break;
            }
            let Some(best) = self.heap.pop() else { break };
            match tree.push(best.parent, best.token, Some(best.own)) {
                Ok(node) => {
                    tree.label(node, best.label);
                    grown = Some((node, best.path));
                }
                Err(TreeFull::Nodes) => break,
                Err(TreeFull::Depth | TreeFull::Leaves) => {}
            }
        }
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        let mut window = [0; WINDOW];
        let scored = Scored::new(outcome);
        if outcome.phase == Phase::Decode {
            for (&node, &token) in outcome.accepted.nodes.iter().zip(&outcome.accepted.sampled) {
                self.consult(scored.place(node, &mut window));
                self.mixer.learn(&self.menu, token);
            }
        }
        for source in &mut self.sources {
            source.observe(scored);
        }
    }

    fn forget(&mut self, seq: SeqId) {
        for source in &mut self.sources {
            source.forget(seq);
        }
    }

    fn clear(&mut self) {
        for source in &mut self.sources {
            source.clear();
        }
        self.mixer = Mixer::new(&self.sources);
    }

    fn save(&self, path: &Path, fingerprint: &Fingerprint) -> Result<bool, SnapshotError> {
        self.matrix().map_or(Ok(false), |matrix| matrix.save(path, fingerprint).map(|()| true))
    }

    fn load(&mut self, path: &Path, fingerprint: &Fingerprint) -> Result<bool, SnapshotError> {
        for source in &mut self.sources {
            if let Some(matrix) = source.matrix() {
                let matrix = AdjacencyMatrix::load(path, matrix.vocab(), matrix.k(), fingerprint)?;
                source.set_matrix(matrix);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn k(&self) -> usize {
        WIDTH
    }

    fn prompt_rows(&self) -> RowSelection {
        self.prompt_rows
    }

    fn sources(&self) -> Vec<&'static str> {
        self.sources.iter().map(|source| source.name()).collect()
    }

    fn footprint(&self) -> Footprint {
        let bytes = self.sources.iter().map(|source| source.bytes()).sum();
        Footprint { bytes, rows: self.matrix().map_or(0, AdjacencyMatrix::rows) }
    }
}

impl std::fmt::Debug for MixedDrafter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.sources.iter().map(|source| source.name()).collect();
        f.debug_struct("MixedDrafter").field("sources", &names).finish_non_exhaustive()
    }
}
