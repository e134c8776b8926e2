//! What all laws do: open, prefill, score, compare, and report the case in which a law was broken.

use std::fmt;

use upcycle_core::{
    Commit, DraftTree, NodeId, Row, RowSelection, SeqId, TokenId, TopK, TreeInput, TreeKind, TreeLimits,
    Verifier, VerifyError, tree_masks::LeafPaths,
};

use crate::law::{Broken, Cause, Law};
use crate::rng::Rng;
use crate::subject::{Sizes, Subject};

/// How many candidates the laws compare.
const K: usize = 8;
/// The sizes of a case, unless the subject sets others or the limits are smaller.
const USUAL: Sizes = Sizes { prefix: 12, nodes: 12 };
/// The longest prefix of the last case. Caches grow and windows end at powers of two up to 256.
const LONG_PREFIX: usize = 300;
/// The draft nodes of a wide tree.
const WIDE: usize = 72;

pub(crate) struct Probe<'a> {
    pub(crate) subject: &'a Subject,
    pub(crate) verifier: Box<dyn Verifier>,
    pub(crate) rng: Rng,
    law: Law,
    place: String,
    top: TopK,
    tokens: Vec<TokenId>,
}

/// One row as a verifier scored it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    pub(crate) logits: Vec<f32>,
    ids: Vec<TokenId>,
    best: Vec<f32>,
}

pub(crate) type Checked<T = ()> = Result<T, Broken>;

impl<'a> Probe<'a> {
    pub(crate) fn new(subject: &'a Subject, law: Law) -> Checked<Self> {
        Self::with(subject, law, subject.make())
    }

    pub(crate) fn with(subject: &'a Subject, law: Law, verifier: Box<dyn Verifier>) -> Checked<Self> {
        let limits = verifier.limits();
        let every = 0..TokenId::try_from(limits.vocab).unwrap_or(TokenId::MAX);
        let tokens = if subject.tokens.is_empty() { every.collect() } else { subject.tokens.clone() };
        let (max_rows, max_context) = (limits.max_rows, limits.max_context);
        let probe = Self {
            subject,
            rng: Rng::new(subject.seed ^ ((law.number() as u64) << 32)),
            verifier,
            law,
            place: "the start".into(),
            top: TopK::new(K),
            tokens,
        };
        if probe.tokens.len() < 4 {
            return Err(probe.out_of_reach("give it at least four tokens (Subject::tokens)"));
        }
        if max_rows < 1 || max_context < 8 {
            return Err(probe.out_of_reach("give it passes of one row and a context of 8 tokens, or more"));
        }
        if let Some(Sizes { prefix, nodes }) = subject.sizes {
            let context = prefix + 3 * (nodes + 1);
            if nodes > max_rows || context > max_context {
                return Err(probe.out_of_reach(format!(
                    "{prefix} committed tokens and trees of {nodes} draft nodes (Subject::sizes) need passes of {nodes} rows \
                     and a context of {context} tokens, but the limits are {max_rows} and {max_context}; set smaller sizes"
                )));
            }
        }
        Ok(probe)
    }

    /// Names the case that follows, for reports.
    pub(crate) fn at(&mut self, place: impl fmt::Display) {
        self.place = place.to_string();
    }

    pub(crate) fn broken(&self, cause: Cause) -> Broken {
        Broken { law: self.law, place: self.place.clone(), cause }
    }

    pub(crate) fn differs(&self, expected: impl fmt::Display, found: impl fmt::Display) -> Broken {
        self.broken(Cause::Differs { expected: expected.to_string(), found: found.to_string() })
    }

    /// The same broken law as `broken`, which another law depends on.
    pub(crate) fn broken_below(&self, law: Law, broken: Broken) -> Broken {
        Broken { law, place: format!("{} (a part of {})", broken.place, self.law), ..broken }
    }

    pub(crate) fn out_of_reach(&self, why: impl fmt::Display) -> Broken {
        self.broken(Cause::OutOfReach { why: why.to_string() })
    }

    /// Turns a failure into a broken law.
    pub(crate) fn must<T>(&self, doing: &'static str, result: Result<T, VerifyError>) -> Checked<T> {
        result.map_err(|source| self.broken(Cause::Failed { doing, source }))
    }

    pub(crate) fn token(&mut self) -> TokenId {
        self.rng.pick(&self.tokens).copied().unwrap_or(0)
    }

    pub(crate) fn tokens(&mut self, count: usize) -> Vec<TokenId> {
        (0..count).map(|_| self.token()).collect()
    }

    /// Tokens to commit first, so few that three trees still fit after them.
    pub(crate) fn prefix(&mut self) -> Vec<TokenId> {
        let most = (self.verifier.limits().max_context / 4).max(2);
        let len = self.subject.sizes.map_or(most.min(USUAL.prefix), |sizes| sizes.prefix);
        let len = len - self.rng.below(len / 3);
        self.tokens(len)
    }

    /// The prefixes of a law's cases, each with a name. The last one fills a large part of the context, because some faults
    /// show only after many committed tokens.
    pub(crate) fn prefixes(&mut self) -> Vec<(String, Vec<TokenId>)> {
        let mut prefixes: Vec<_> =
            (0..self.subject.cases).map(|case| (format!("case {case}"), self.prefix())).collect();
        let context = self.verifier.limits().max_context;
        let trees = 3 * (self.draft_nodes(1) + 1);
        let long = context.saturating_sub(trees).min(LONG_PREFIX);
        if prefixes.iter().all(|(_, prefix)| prefix.len() < long) {
            prefixes.push((format!("the case with {long} committed tokens"), self.tokens(long)));
        }
        prefixes
    }

    /// The draft nodes of a tree, if `share` trees share a pass.
    fn draft_nodes(&self, share: usize) -> usize {
        let limits = self.verifier.limits();
        let most = (limits.max_rows / share).min(limits.max_context / 4).saturating_sub(1);
        self.subject.sizes.unwrap_or(USUAL).nodes.min(most)
    }

    /// A random tree, or a chain if the backend does not support trees, so small that `share` of them fit a pass.
    pub(crate) fn tree(&mut self, share: usize) -> DraftTree {
        let nodes = self.draft_nodes(share);
        self.tree_of(nodes, share)
    }

    /// A random tree of more than 64 nodes, if the limits allow that and the subject's sizes are not set. A mask that holds a
    /// row's ancestors in one word cannot represent it.
    pub(crate) fn wide_tree(&mut self) -> Option<DraftTree> {
        let limits = self.verifier.limits();
        let most = limits.max_rows.min(limits.max_context / 4).saturating_sub(1);
        let wide = most >= WIDE && self.subject.sizes.is_none() && limits.support.kind() == TreeKind::Tree;
        wide.then(|| self.tree_of(WIDE, 1))
    }

    fn tree_of(&mut self, nodes: usize, share: usize) -> DraftTree {
        let limits = self.verifier.limits();
        let leaves = (limits.max_leaves / share).max(1);
        let branches = limits.support.kind() == TreeKind::Tree && leaves >= 2 && nodes >= 3;
        let mut tree = DraftTree::new();
        let root = self.token();
        if !branches {
            tree.reset_chain(root, &self.tokens(nodes.min(6)));
            return tree;
        }
        tree.reset(root, TreeLimits { nodes, leaves, depth: usize::MAX });
        // Every fault needs a place where it shows: two branches with descendants, and a leaf with an earlier sibling that
        // stays a leaf. The rest is random.
        let a = self.push_new(&mut tree, NodeId::ROOT);
        let b = self.push_new(&mut tree, NodeId::ROOT);
        self.push_new(&mut tree, a);
        self.push_new(&mut tree, b);
        let leaf = self.push_new(&mut tree, a);
        for _ in 0..4 * nodes {
            // Prefers deep trees over broad ones.
            let parent = NodeId::new(tree.len() - 1 - self.rng.below(tree.len().min(5)));
            if parent != leaf || leaf == a {
                self.push_new(&mut tree, parent);
            }
        }
        tree
    }

    /// A new child of `parent`, if one fits; else `parent` itself.
    fn push_new(&mut self, tree: &mut DraftTree, parent: NodeId) -> NodeId {
        let before = tree.len();
        for _ in 0..8 {
            match tree.push(parent, self.token(), None) {
                Ok(node) if tree.len() > before => return node,
                // A sibling holds that token already.
                Ok(_) => {}
                Err(_) => break,
            }
        }
        parent
    }

    pub(crate) fn open(&mut self) -> Checked<SeqId> {
        let opened = self.verifier.open();
        self.must("open", opened)
    }

    /// Commits `tokens` as chains, as few as fit.
    pub(crate) fn prefill(&mut self, seq: SeqId, tokens: &[TokenId]) -> Checked {
        let most = self.verifier.limits().max_rows.max(1);
        for chunk in tokens.chunks(most) {
            let tree = DraftTree::chain(chunk);
            let passed = self
                .verifier
                .forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::Last }], &mut self.top);
            self.must("the forward of a prefill", passed)?;
            self.commit(seq, &whole(&tree))?;
        }
        Ok(())
    }

    pub(crate) fn commit(&mut self, seq: SeqId, path: &[NodeId]) -> Checked {
        let committed = self.verifier.commit(&[Commit { seq, path }]);
        self.must("commit", committed)
    }

    /// Every row of `tree` after what is committed, in node order.
    pub(crate) fn score(&mut self, seq: SeqId, tree: &DraftTree) -> Checked<Vec<Scored>> {
        Ok(self.score_all(&[(seq, tree)])?.remove(0))
    }

    /// Every row of every tree, scored in one pass.
    pub(crate) fn score_all(&mut self, trees: &[(SeqId, &DraftTree)]) -> Checked<Vec<Vec<Scored>>> {
        let inputs: Vec<TreeInput<'_>> =
            trees.iter().map(|&(seq, tree)| TreeInput { seq, tree, rows: RowSelection::All }).collect();
        let passed = self.verifier.forward(&inputs, &mut self.top);
        self.must("forward", passed)?;
        let mut all = Vec::new();
        for (input, (_, tree)) in trees.iter().enumerate() {
            let rows = (0..tree.len()).map(|node| self.read(Row { input, node }));
            all.push(rows.collect::<Checked<_>>()?);
        }
        Ok(all)
    }

    fn read(&mut self, row: Row) -> Checked<Scored> {
        let logits = self.verifier.logits(row).map(<[f32]>::to_vec);
        let logits = self.must("reading logits", logits)?;
        let vocab = self.verifier.limits().vocab;
        if logits.len() != vocab {
            return Err(
                self.differs(format!("{vocab} logits in {row}"), format!("a row of {}", logits.len()))
            );
        }
        let Some(candidates) = self.top.get(row) else {
            return Err(self.differs(format!("candidates of {row}"), "none"));
        };
        Ok(Scored { logits, ids: candidates.ids.to_vec(), best: candidates.logits.to_vec() })
    }

    /// Checks that a commit of `seq` is refused because there is nothing to commit `after` the last call.
    pub(crate) fn nothing_to_commit(&mut self, seq: SeqId, after: &str) -> Checked {
        match self.verifier.commit(&[Commit { seq, path: &[NodeId::ROOT] }]) {
            Err(VerifyError::NothingToCommit { .. }) => Ok(()),
            found => {
                let expected = format!("NothingToCommit for a commit after {after}");
                let found = found.map_or_else(|error| format!("{error:?}"), |()| "success".into());
                Err(self.differs(expected, found))
            }
        }
    }

    /// Reads a prompt in chunks of these lengths, each within the limits, and then as much as fits a pass. Returns the open
    /// sequence and every row.
    pub(crate) fn read_prompt(
        &mut self,
        prompt: &[TokenId],
        chunks: impl IntoIterator<Item = usize>,
    ) -> Checked<(SeqId, Vec<Scored>)> {
        let seq = self.open()?;
        let (mut rest, mut rows) = (prompt, Vec::new());
        let mut chunks = chunks.into_iter();
        while !rest.is_empty() {
            let len = chunks.next().unwrap_or(rest.len()).clamp(1, rest.len());
            let (chunk, after) = rest.split_at(len.min(self.verifier.limits().max_rows));
            let tree = DraftTree::chain(chunk);
            rows.extend(self.score(seq, &tree)?);
            self.commit(seq, &whole(&tree))?;
            rest = after;
        }
        Ok((seq, rows))
    }

    /// The rows of `tree` after `prefix` in a new sequence, which is closed again.
    pub(crate) fn in_new_sequence(&mut self, prefix: &[TokenId], tree: &DraftTree) -> Checked<Vec<Scored>> {
        let seq = self.open()?;
        self.prefill(seq, prefix)?;
        let rows = self.score(seq, tree)?;
        self.verifier.close(seq);
        Ok(rows)
    }

    /// Checks that two rows are equal, within the subject's tolerance.
    pub(crate) fn same(&self, node: NodeId, expected: &Scored, found: &Scored) -> Checked {
        let most = self.subject.tolerance.most();
        let worst = largest_difference(&expected.logits, &found.logits);
        if let Some((token, a, b)) = worst.filter(|&(_, a, b)| !close(a, b, most)) {
            return Err(self.differs(
                format!("logit {a} of token {token} in the row of {node} (within {most})"),
                format!("{b}, {} away", (a - b).abs()),
            ));
        }
        if most == 0.0 && expected.ids != found.ids {
            return Err(self.differs(
                format!("candidates {:?} in the row of {node}", expected.ids),
                format!("{:?}", found.ids),
            ));
        }
        // The n-th highest of two rows that differ by at most x differ by at most x.
        if let Some((rank, a, b)) =
            largest_difference(&expected.best, &found.best).filter(|&(_, a, b)| !close(a, b, most))
        {
            return Err(self.differs(
                format!("logit {a} at rank {rank} in the row of {node} (within {most})"),
                format!("{b}"),
            ));
        }
        Ok(())
    }

    /// Like [`same`](Self::same), for all rows of a tree.
    pub(crate) fn all_same(&self, expected: &[Scored], found: &[Scored]) -> Checked {
        for (node, (expected, found)) in expected.iter().zip(found).enumerate() {
            self.same(NodeId::new(node), expected, found)?;
        }
        Ok(())
    }

    /// The paths of `tree` that may be committed: to any node, or only to the leaf if the backend cannot roll back in part.
    pub(crate) fn paths(&self, tree: &DraftTree) -> Vec<Vec<NodeId>> {
        match self.verifier.limits().support.kind() {
            TreeKind::Plain => vec![whole(tree)],
            _ => tree.nodes().map(|node| path_to(tree, node)).collect(),
        }
    }

    pub(crate) fn any_path(&mut self, tree: &DraftTree) -> Vec<NodeId> {
        let paths = self.paths(tree);
        self.rng.pick(&paths).cloned().unwrap_or_default()
    }
}

/// All nodes of a chain.
pub(crate) fn whole(chain: &DraftTree) -> Vec<NodeId> {
    chain.nodes().collect()
}

/// The nodes from the root down to `node`.
pub(crate) fn path_to(tree: &DraftTree, node: NodeId) -> Vec<NodeId> {
    let mut path: Vec<NodeId> = std::iter::successors(Some(node), |&node| tree.parent(node)).collect();
    path.reverse();
    path
}

pub(crate) fn tokens_of(tree: &DraftTree, path: &[NodeId]) -> Vec<TokenId> {
    path.iter().map(|node| tree.tokens()[node.index()]).collect()
}

/// A tree in a report.
pub(crate) fn shown(tree: &DraftTree) -> String {
    format!("the tree with parents {:?} and tokens {:?}", tree.parents(), tree.tokens())
}

pub(crate) fn leaf_paths(tree: &DraftTree) -> Vec<Vec<NodeId>> {
    let mut paths = LeafPaths::default();
    paths.rebuild(tree);
    paths.iter().map(<[NodeId]>::to_vec).collect()
}

/// The index at which two rows differ most, and both values. A NaN counts as the largest difference.
pub(crate) fn largest_difference(a: &[f32], b: &[f32]) -> Option<(usize, f32, f32)> {
    let far = |(a, b): (f32, f32)| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
    let pairs = a.iter().copied().zip(b.iter().copied()).enumerate();
    pairs.max_by(|x, y| far(x.1).total_cmp(&far(y.1))).map(|(index, (a, b))| (index, a, b))
}

fn close(a: f32, b: f32, most: f32) -> bool {
    (a - b).abs() <= most
}
