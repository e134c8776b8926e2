//! The mixed drafter: grows trees best first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::path::Path;

use crate::drafter::{DraftContext, Drafter, Footprint, Outcome, Phase};
use crate::input::RowSelection;
use crate::matrix::AdjacencyMatrix;
use crate::mixed::mixer::{MergedCandidates, Mixer};
use crate::mixed::ranking_bins::RANKING_LEN;
use crate::mixed::source::{CandidateSource, MAX_CONTEXT_TOKENS, MAX_SOURCES, PredictionContext, Proposals};
use crate::snapshot::{Fingerprint, SnapshotError};
use crate::token::{SeqId, TokenId};
use crate::tree::{DraftTree, NodeId};
use crate::tree_limits::PushError;

/// Less probable paths are never drafted.
const MIN_PATH_PROBABILITY: f32 = 1e-3;

/// A token that may be drafted below a node of the tree.
#[derive(Clone, Copy, Debug)]
struct Branch {
    /// The probability that the whole path to it is accepted.
    path_probability: f32,
    /// The probability that it is accepted if its parent is.
    probability: f32,
    parent: NodeId,
    token: TokenId,
    /// The sources that propose it: bit `i` stands for source `i`.
    source_bits: u8,
    /// Of equally probable paths, the one found first is drafted first.
    order: u32,
}

impl PartialEq for Branch {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Branch {}
impl PartialOrd for Branch {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Branch {
    fn cmp(&self, other: &Self) -> Ordering {
        self.path_probability.total_cmp(&other.path_probability).then(other.order.cmp(&self.order))
    }
}

/// Drafts the most probable tokens that its sources propose.
///
/// The tree grows from the root, one node at a time: always the node with the most probable path. Its possible children, the
/// candidates of all sources in that context, then compete with the others. So nodes are added in descending order of path
/// probability, and a smaller budget gets a prefix of the same tree. After each pass the drafter learns from every token of
/// the accepted path how much weight each source deserves.
///
/// Drafting costs `O(n * c * (s + log(n * c)))` for `n` nodes, `s` sources and `c` candidates in a context, plus what the
/// sources cost.
pub struct MixedDrafter {
    sources: Vec<Box<dyn CandidateSource>>,
    mixer: Mixer,
    prompt_rows: RowSelection,
    heap: BinaryHeap<Branch>,
    /// Branches of this draft so far.
    branches: u32,
    merged: MergedCandidates,
    proposals: Proposals,
}

impl MixedDrafter {
    /// A drafter over `sources`. Sources beyond the first [`MAX_SOURCES`] are dropped.
    #[must_use]
    pub fn new(mut sources: Vec<Box<dyn CandidateSource>>) -> Self {
        sources.truncate(MAX_SOURCES);
        Self {
            mixer: Mixer::new(&sources),
            sources,
            prompt_rows: RowSelection::Last,
            heap: BinaryHeap::new(),
            branches: 0,
            merged: MergedCandidates::default(),
            proposals: Proposals::default(),
        }
    }

    /// Learns from these rows of the prompt.
    #[must_use]
    pub fn with_prompt_rows(mut self, rows: RowSelection) -> Self {
        self.prompt_rows = rows;
        self
    }

    /// The adjacency matrix, if a source has one.
    #[must_use]
    pub fn matrix(&self) -> Option<&AdjacencyMatrix> {
        self.sources.iter().find_map(|source| source.matrix())
    }

    /// Asks all sources, and merges and mixes their proposals.
    fn predict(&mut self, context: PredictionContext<'_>) {
        self.merged.clear();
        for (index, source) in self.sources.iter().enumerate() {
            self.proposals.clear();
            source.propose(context, &mut self.proposals);
            self.merged.add(index, &self.proposals);
        }
        self.mixer.mix(&mut self.merged);
    }

    /// Adds the candidates after `node` to the heap.
    fn expand(&mut self, context: DraftContext<'_>, tree: &DraftTree, node: NodeId, path_probability: f32) {
        let before = &context.tokens[..context.tokens.len() - 1];
        let mut window = [0; MAX_CONTEXT_TOKENS];
        self.predict(PredictionContext::from_tree(context.seq, before, tree, node, &mut window));
        for candidate in &self.merged.candidates {
            let path_probability = path_probability * candidate.probability;
            if path_probability >= MIN_PATH_PROBABILITY {
                self.heap.push(Branch {
                    path_probability,
                    probability: candidate.probability,
                    parent: node,
                    token: candidate.token,
                    source_bits: candidate.source_bits(),
                    order: self.branches,
                });
                self.branches += 1;
            }
        }
    }
}

impl Drafter for MixedDrafter {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
        for source in &mut self.sources {
            source.before_draft(context);
        }
        self.heap.clear();
        self.branches = 0;
        let limits = tree.limits();
        let mut grown = Some((NodeId::ROOT, 1.0));
        loop {
            if let Some((node, path_probability)) = grown.take()
                && (tree.depths()[node.index()] as usize) < limits.depth
            {
                self.expand(context, tree, node, path_probability);
            }
            if tree.draft_len() >= limits.nodes {
                break;
            }
            let Some(best) = self.heap.pop() else { break };
            match tree.push(best.parent, best.token, Some(best.probability)) {
                Ok(node) => {
                    tree.set_source_bits(node, best.source_bits);
                    grown = Some((node, best.path_probability));
                }
                Err(PushError::Nodes) => break,
                Err(PushError::Depth | PushError::Leaves) => {}
            }
        }
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        if outcome.phase == Phase::Decode {
            let mut window = [0; MAX_CONTEXT_TOKENS];
            for (&node, &token) in outcome.accepted.nodes.iter().zip(&outcome.accepted.sampled) {
                self.predict(PredictionContext::from_outcome(outcome, node, &mut window));
                self.mixer.learn(&self.merged, token);
            }
        }
        for source in &mut self.sources {
            source.observe(outcome);
        }
    }

    fn drop_sequence(&mut self, seq: SeqId) {
        for source in &mut self.sources {
            source.drop_sequence(seq);
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
        RANKING_LEN
    }

    fn prompt_rows(&self) -> RowSelection {
        self.prompt_rows
    }

    fn sources(&self) -> Vec<&'static str> {
        self.sources.iter().map(|source| source.name()).collect()
    }

    fn footprint(&self) -> Footprint {
        let bytes = self.sources.iter().map(|source| source.bytes()).sum();
        Footprint { bytes, filled_matrix_rows: self.matrix().map_or(0, AdjacencyMatrix::filled_rows) }
    }
}

impl std::fmt::Debug for MixedDrafter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MixedDrafter").field("sources", &self.sources()).finish_non_exhaustive()
    }
}
