//! Token Recycling, the paper's drafter (Luo et al., arXiv 2408.08696, section 3).

use std::path::Path;

use crate::drafter::{DraftContext, Drafter, Footprint, Outcome, Phase};
use crate::input::RowSelection;
use crate::matrix::AdjacencyMatrix;
use crate::snapshot::{Fingerprint, SnapshotError};
use crate::template::TreeTemplate;
use crate::token::TokenId;
use crate::tree::{DraftTree, NodeId};
use crate::tree_limits::TreeLimits;

/// Drafts the static tree of a template from the adjacency matrix, and updates the matrix from every scored row.
///
/// If the limits are smaller than the template, it drafts the most probable nodes. Nodes whose entry in the matrix is empty
/// are skipped. Rows are written in node order, and those of the accepted path again at the end. So if a token occurs twice
/// in a tree, its row is well defined. In the authors' code, this order is undefined on a GPU.
#[derive(Clone, Debug)]
pub struct TokenRecycling {
    matrix: AdjacencyMatrix,
    template: TreeTemplate,
    prompt_rows: RowSelection,
    /// The state of each template node in the current draft.
    states: Vec<NodeState>,
}

#[derive(Clone, Copy, Debug)]
struct NodeState {
    /// The token that it would hold; `None` if the matrix is empty there or at an ancestor.
    token: Option<TokenId>,
    selected: bool,
    /// Whether a child of it is selected. The first child adds no leaf.
    has_child: bool,
    /// Its node in the draft tree, once it is pushed.
    node: NodeId,
}

impl TokenRecycling {
    /// A drafter over `matrix`. Template nodes whose rank is at least k of the matrix are never drafted.
    #[must_use]
    pub fn new(matrix: AdjacencyMatrix, template: TreeTemplate) -> Self {
        let empty = NodeState { token: None, selected: false, has_child: false, node: NodeId::ROOT };
        let states = vec![empty; template.len()];
        Self { matrix, template, prompt_rows: RowSelection::Last, states }
    }

    /// Learns from these rows of the prompt. With the default, [`RowSelection::Last`], it learns from no prompt row: the decoder
    /// requests the last row in any case, to sample the first token, and the paper does not learn from it.
    #[must_use]
    pub fn with_prompt_rows(mut self, rows: RowSelection) -> Self {
        self.prompt_rows = rows;
        self
    }

    /// The matrix.
    #[must_use]
    pub fn matrix(&self) -> &AdjacencyMatrix {
        &self.matrix
    }

    /// The template.
    #[must_use]
    pub fn template(&self) -> &TreeTemplate {
        &self.template
    }

    /// Selects the most probable nodes that the matrix has tokens for and that fit `limits`. O(template).
    fn select(&mut self, root: TokenId, limits: TreeLimits) {
        for (index, node) in self.template.nodes().iter().enumerate() {
            let parent = node.parent.map_or(Some(root), |parent| self.states[parent].token);
            let token = parent.and_then(|parent| self.matrix.candidate(parent, node.rank));
            self.states[index] = NodeState { token, selected: false, has_child: false, node: NodeId::ROOT };
        }
        let (mut nodes, mut leaves, mut root_has_child) = (0, 1, false);
        for &index in self.template.by_path_probability() {
            let node = self.template.nodes()[index];
            let possible = self.states[index].token.is_some()
                && node.parent.is_none_or(|parent| self.states[parent].selected);
            if !possible || node.depth > limits.depth {
                continue;
            }
            if nodes == limits.nodes {
                return;
            }
            let has_child = match node.parent {
                Some(parent) => &mut self.states[parent].has_child,
                None => &mut root_has_child,
            };
            if *has_child && leaves == limits.leaves {
                continue;
            }
            leaves += usize::from(*has_child);
            *has_child = true;
            self.states[index].selected = true;
            nodes += 1;
        }
    }
}

impl Drafter for TokenRecycling {
    fn draft(&mut self, _: DraftContext<'_>, tree: &mut DraftTree) {
        let Some(&root) = tree.tokens().first().filter(|_| tree.limits().nodes > 0) else { return };
        self.select(root, tree.limits());
        for (index, node) in self.template.nodes().iter().enumerate() {
            let NodeState { token: Some(token), selected: true, .. } = self.states[index] else { continue };
            let parent = node.parent.map_or(NodeId::ROOT, |parent| self.states[parent].node);
            // Never refused, since `select` stays within the limits.
            let Ok(pushed) = tree.push(parent, token, Some(node.acceptance_probability)) else { return };
            self.states[index].node = pushed;
        }
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        if outcome.phase == Phase::Prefill && self.prompt_rows == RowSelection::Last {
            return;
        }
        let tokens = outcome.tree.tokens();
        for (node, candidates) in outcome.rows_with_candidates() {
            self.matrix.update(tokens[node.index()], candidates.ids);
        }
        for &node in &outcome.accepted.nodes {
            if let Some(candidates) = outcome.candidates(node) {
                self.matrix.update(tokens[node.index()], candidates.ids);
            }
        }
    }

    fn clear(&mut self) {
        self.matrix.clear();
    }

    fn save(&self, path: &Path, fingerprint: &Fingerprint) -> Result<bool, SnapshotError> {
        self.matrix.save(path, fingerprint).map(|()| true)
    }

    fn load(&mut self, path: &Path, fingerprint: &Fingerprint) -> Result<bool, SnapshotError> {
        self.matrix = AdjacencyMatrix::load(path, self.matrix.vocab(), self.matrix.k(), fingerprint)?;
        Ok(true)
    }

    fn k(&self) -> usize {
        self.matrix.k()
    }

    fn prompt_rows(&self) -> RowSelection {
        self.prompt_rows
    }

    fn footprint(&self) -> Footprint {
        Footprint { bytes: self.matrix.bytes(), filled_matrix_rows: self.matrix.filled_rows() }
    }
}
