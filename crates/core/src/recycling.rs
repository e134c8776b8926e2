//! Token Recycling, the paper's drafter (Luo et al., arXiv 2408.08696, section 3).

use std::path::Path;

use crate::drafter::{Context, Drafter, Footprint, Outcome, Phase};
use crate::matrix::AdjacencyMatrix;
use crate::snapshot::{Fingerprint, SnapshotError};
use crate::template::TreeTemplate;
use crate::token::TokenId;
use crate::top::RowSelection;
use crate::tree::{DraftTree, NodeId};
use crate::tree_limits::{TreeFull, TreeLimits};

/// Drafts the static tree of a template from the adjacency matrix, and refreshes the matrix from every row scored.
///
/// Where the limits are smaller than the template, it drafts the most valuable nodes that exist: a vacant slot gives
/// its place to the next one. Rows are written in node order and the accepted path once more at the end, so that a
/// token that stands twice in a tree has a defined row (the authors' code leaves it undefined on a GPU).
#[derive(Clone, Debug)]
pub struct TokenRecycling {
    matrix: AdjacencyMatrix,
    template: TreeTemplate,
    prompt_rows: RowSelection,
    /// For each template node: the token it would hold now, and what becomes of it.
    plan: Vec<Planned>,
}

#[derive(Clone, Copy, Debug)]
struct Planned {
    /// None where the matrix is vacant here or above.
    token: Option<TokenId>,
    chosen: bool,
    /// Whether a child of it is chosen: the first child adds no leaf.
    has_child: bool,
    node: NodeId,
}

impl TokenRecycling {
    /// A drafter over `matrix`. Template nodes of ranks beyond the matrix's k are never drafted.
    #[must_use]
    pub fn new(matrix: AdjacencyMatrix, template: TreeTemplate) -> Self {
        let vacant = Planned { token: None, chosen: false, has_child: false, node: NodeId::ROOT };
        let plan = vec![vacant; template.len()];
        Self { matrix, template, prompt_rows: RowSelection::Last, plan }
    }

    /// Learns from these rows of the prompt too. The default is [`RowSelection::Last`], with which it learns nothing of the prompt,
    /// as in the paper.
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

    /// Chooses the most valuable nodes that exist and fit `limits`; O(template).
    fn choose(&mut self, root: TokenId, limits: TreeLimits) {
        for (index, node) in self.template.nodes().iter().enumerate() {
            let above = node.parent.map_or(Some(root), |parent| self.plan[parent].token);
            let token = above.and_then(|above| self.matrix.candidate(above, node.rank));
            self.plan[index] = Planned { token, chosen: false, has_child: false, node: NodeId::ROOT };
        }
        let (mut nodes, mut leaves, mut root_has_child) = (0, 1, false);
        for &index in self.template.by_value() {
            let node = self.template.nodes()[index];
            let exists =
                self.plan[index].token.is_some() && node.parent.is_none_or(|above| self.plan[above].chosen);
            if !exists || node.depth > limits.depth {
                continue;
            }
            if nodes == limits.nodes {
                return;
            }
            let has_child = match node.parent {
                Some(above) => &mut self.plan[above].has_child,
                None => &mut root_has_child,
            };
            if *has_child && leaves == limits.leaves {
                continue;
            }
            leaves += usize::from(*has_child);
            *has_child = true;
            self.plan[index].chosen = true;
            nodes += 1;
        }
    }
}

impl Drafter for TokenRecycling {
    fn draft(&mut self, _: Context<'_>, tree: &mut DraftTree) {
        let Some(&root) = tree.tokens().first().filter(|_| tree.limits().nodes > 0) else { return };
        self.choose(root, tree.limits());
        for (index, node) in self.template.nodes().iter().enumerate() {
            let Planned { token: Some(token), chosen: true, .. } = self.plan[index] else { continue };
            let above = node.parent.map_or(NodeId::ROOT, |parent| self.plan[parent].node);
            match tree.push(above, token, Some(node.chance)) {
                Ok(pushed) => self.plan[index].node = pushed,
                Err(TreeFull::Nodes) => return,
                // `choose` kept within depth and leaves, so this is out of reach; its children then hang from the root.
                Err(TreeFull::Depth | TreeFull::Leaves) => self.plan[index].chosen = false,
            }
        }
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        if outcome.phase == Phase::Prefill && self.prompt_rows == RowSelection::Last {
            return;
        }
        let tokens = outcome.tree.tokens();
        for (node, candidates) in outcome.scored() {
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
        Footprint { bytes: self.matrix.bytes(), rows: self.matrix.rows() }
    }
}
