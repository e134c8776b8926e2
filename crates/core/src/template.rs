//! Static draft trees: which ranks of the matrix to draft at each node, and which nodes are the most probable.

use serde::{Deserialize, Serialize};
use toml::Spanned;

/// The largest k of a matrix. The ranks of a template are below it.
pub const MAX_K: usize = 32;

/// The paper's tree of 80 draft nodes, as TOML: `configs/trees/paper-80.toml`.
const PAPER_80: &str = include_str!("../trees/paper-80.toml");

/// The acceptance probability of each rank for a template that gives none: measured on the paper's tree, then 0.01.
const DEFAULT_RANK_ACCEPTANCE: [f32; 8] = [0.43, 0.09, 0.05, 0.04, 0.02, 0.01, 0.01, 0.01];

/// A node of a template.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TemplateNode {
    /// The index of its parent; `None` for a child of the root.
    pub parent: Option<usize>,
    /// The rank of the candidate that is drafted here, in the row of the parent's token.
    pub rank: usize,
    /// The depth; 1 for a child of the root.
    pub depth: usize,
    /// The assumed probability that this node is accepted if its parent is. It depends only on the rank.
    pub acceptance_probability: f32,
}

/// A static draft tree (paper, section 3.2). Parents come before their children.
///
/// Its nodes also have an order by descending path probability: the product of `acceptance_probability` along the path. A parent
/// is never less probable than its child, so the first n nodes in this order are a tree for every n. If only n nodes fit, these
/// are drafted.
///
/// ```
/// use upcycle_core::TreeTemplate;
///
/// let tree = TreeTemplate::parse(r#"
///     name = "small"
///     nodes = ["0", "1", "0.0"]
/// "#)?;
/// assert_eq!(tree.len(), 3);
/// // "0.0" has the path probability 0.43 * 0.43, more than the 0.09 of "1".
/// assert_eq!(tree.by_path_probability(), [0, 2, 1]);
/// # Ok::<(), upcycle_core::TemplateError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct TreeTemplate {
    name: String,
    rank_acceptance: Vec<f32>,
    nodes: Vec<TemplateNode>,
    by_path_probability: Vec<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateFile {
    name: String,
    rank_acceptance: Option<Spanned<Vec<f32>>>,
    nodes: Vec<Spanned<String>>,
}

#[derive(Serialize)]
struct WrittenTemplate<'a> {
    name: &'a str,
    rank_acceptance: &'a [f32],
    nodes: Vec<String>,
}

/// Why a template was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Not TOML, or not a template.
    #[error("not a tree template: {message}")]
    Syntax {
        /// The message of the parser, with the line.
        message: String,
    },
    /// A node that is not a path of ranks.
    #[error(
        "line {line}: {node:?} is not a path of ranks; write ranks below {MAX_K} joined by dots, such as \"0.3\""
    )]
    NotAPath {
        /// The line, from 1.
        line: usize,
        /// The node as written.
        node: String,
    },
    /// A node that comes before its parent, or without one.
    #[error("line {line}: {node:?} has no parent before it; add {parent:?} before it")]
    MissingParent {
        /// The line, from 1.
        line: usize,
        /// The node.
        node: String,
        /// The parent that is missing.
        parent: String,
    },
    /// The same node twice.
    #[error("line {line}: {node:?} is listed twice; remove one")]
    DuplicateNode {
        /// The line of the second, from 1.
        line: usize,
        /// The node.
        node: String,
    },
    /// A probability outside 0..=1, or more probabilities than ranks.
    #[error("line {line}: rank_acceptance must be 1 to {MAX_K} numbers above 0 and at most 1, found {found}")]
    RankAcceptance {
        /// The line, from 1.
        line: usize,
        /// What was found.
        found: String,
    },
}

impl TreeTemplate {
    /// The paper's tree of 80 draft nodes (the authors' template 2.2.2).
    #[must_use]
    pub fn paper_80() -> Self {
        Self::parse(PAPER_80).expect("a test parses the built-in tree")
    }

    /// Reads a template from TOML:
    ///
    /// - `name`
    /// - `nodes`: paths of ranks such as `"0.3"`, parents before children
    /// - `rank_acceptance`, optional: the assumed acceptance probability of each rank, which determines the order of the nodes. The last
    ///   one applies to all further ranks.
    ///
    /// # Errors
    /// [`TemplateError`] with the line.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let file: TemplateFile =
            toml::from_str(text).map_err(|error| TemplateError::Syntax { message: error.to_string() })?;
        let line =
            |offset: usize| 1 + text.as_bytes()[..offset].iter().filter(|&&byte| byte == b'\n').count();
        let rank_acceptance = match file.rank_acceptance {
            None => DEFAULT_RANK_ACCEPTANCE.to_vec(),
            Some(given) => {
                let valid = (1..=MAX_K).contains(&given.get_ref().len())
                    && given.get_ref().iter().all(|&probability| probability > 0.0 && probability <= 1.0);
                if !valid {
                    return Err(TemplateError::RankAcceptance {
                        line: line(given.span().start),
                        found: format!("{:?}", given.get_ref()),
                    });
                }
                given.into_inner()
            }
        };
        let mut nodes: Vec<TemplateNode> = Vec::with_capacity(file.nodes.len());
        // Every path read so far, with the index of its node.
        let mut known = std::collections::HashMap::from([(Vec::new(), None)]);
        for written in &file.nodes {
            let (at, node) = (line(written.span().start), written.get_ref());
            let path: Option<Vec<usize>> = node
                .split('.')
                .map(|rank| {
                    rank.parse()
                        .ok()
                        .filter(|&rank| rank < MAX_K && has_only_digits_and_dots(written.get_ref()))
                })
                .collect();
            let path = path.ok_or_else(|| TemplateError::NotAPath { line: at, node: node.clone() })?;
            let (rank, parent_path) = path.split_last().expect("split always yields one part");
            let parent = *known.get(parent_path).ok_or_else(|| TemplateError::MissingParent {
                line: at,
                node: node.clone(),
                parent: written_path(parent_path),
            })?;
            nodes.push(TemplateNode {
                parent,
                rank: *rank,
                depth: path.len(),
                acceptance_probability: rank_acceptance
                    .get(*rank)
                    .copied()
                    .unwrap_or(rank_acceptance[rank_acceptance.len() - 1]),
            });
            if known.insert(path, Some(nodes.len() - 1)).is_some() {
                return Err(TemplateError::DuplicateNode { line: at, node: node.clone() });
            }
        }
        let by_path_probability = order_by_path_probability(&nodes);
        Ok(Self { name: file.name, rank_acceptance, nodes, by_path_probability })
    }

    /// The template as TOML, which [`parse`](Self::parse) reads.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let nodes = (0..self.len()).map(|node| written_path(&self.path(node))).collect();
        toml::to_string(&WrittenTemplate { name: &self.name, rank_acceptance: &self.rank_acceptance, nodes })
            .expect("strings and finite numbers are always TOML")
    }

    /// The ranks from the root down to `node`.
    fn path(&self, node: usize) -> Vec<usize> {
        let mut path: Vec<usize> = std::iter::successors(Some(node), |&node| self.nodes[node].parent)
            .map(|node| self.nodes[node].rank)
            .collect();
        path.reverse();
        path
    }

    /// The name, for reports.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The nodes in the order of the file, parents first, without the root, `[len]`.
    #[must_use]
    pub fn nodes(&self) -> &[TemplateNode] {
        &self.nodes
    }

    /// The indices of the nodes, the most probable path first, `[len]`.
    #[must_use]
    pub fn by_path_probability(&self) -> &[usize] {
        &self.by_path_probability
    }

    /// The number of draft nodes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the template has no nodes, so that nothing is drafted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The number of matrix columns that it uses: its largest rank plus one.
    #[must_use]
    pub fn ranks(&self) -> usize {
        self.nodes.iter().map(|node| node.rank + 1).max().unwrap_or(0)
    }
}

/// Only digits and dots; `str::parse` alone would accept "+1".
fn has_only_digits_and_dots(path: &str) -> bool {
    path.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn written_path(path: &[usize]) -> String {
    path.iter().map(ToString::to_string).collect::<Vec<_>>().join(".")
}

fn order_by_path_probability(nodes: &[TemplateNode]) -> Vec<usize> {
    // A parent is never less probable than its child, and the stable sort keeps the parent first on a tie.
    let mut path_probabilities: Vec<f64> = Vec::with_capacity(nodes.len());
    for node in nodes {
        path_probabilities.push(
            f64::from(node.acceptance_probability)
                * node.parent.map_or(1.0, |parent| path_probabilities[parent]),
        );
    }
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by(|&a, &b| path_probabilities[b].total_cmp(&path_probabilities[a]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paper_tree_has_its_published_shape() {
        let tree = TreeTemplate::paper_80();
        let at_depth = |depth| tree.nodes().iter().filter(|node| node.depth == depth).count();
        assert_eq!(tree.len(), 80);
        assert_eq!((1..=7).map(at_depth).collect::<Vec<_>>(), [8, 21, 25, 15, 8, 3, 0]);
        assert_eq!(tree.ranks(), 8);
        let parents: std::collections::HashSet<_> = tree.nodes().iter().filter_map(|n| n.parent).collect();
        assert_eq!(tree.len() - parents.len(), 40, "leaves");
    }

    #[test]
    fn a_node_without_its_parent_is_refused_with_the_line() {
        let error = TreeTemplate::parse("name = \"x\"\nnodes = [\n  \"0\",\n  \"1.0\",\n]").unwrap_err();
        let expected = TemplateError::MissingParent { line: 4, node: "1.0".into(), parent: "1".into() };
        assert_eq!(error, expected);
    }

    #[test]
    fn malformed_templates_are_refused_with_the_line() {
        let refused =
            |nodes: &str| TreeTemplate::parse(&format!("name = \"x\"\nnodes = {nodes}")).unwrap_err();
        for bad in ["", ".", "0.", "+1", "a", "32", "99999999999999999999"] {
            let expected = TemplateError::NotAPath { line: 2, node: bad.into() };
            assert_eq!(refused(&format!("[{bad:?}]")), expected);
        }
        assert_eq!(refused("[\"0\", \"0\"]"), TemplateError::DuplicateNode { line: 2, node: "0".into() });
        assert!(matches!(refused("[0]"), TemplateError::Syntax { .. }));
        for bad in ["[]", "[0.0]", "[1.5]", "[nan]"] {
            let text = format!("name = \"x\"\nrank_acceptance = {bad}\nnodes = []");
            assert!(matches!(TreeTemplate::parse(&text), Err(TemplateError::RankAcceptance { line: 2, .. })));
        }
    }
}
