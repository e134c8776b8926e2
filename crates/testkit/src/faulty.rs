//! Faults in front of a correct verifier, which the laws must detect.

use upcycle_core::{
    Commit, DraftTree, Limits, NodeId, Row, RowSelection, SeqId, TopK, TreeInput, TreeLimits, Verifier,
    VerifyError, check_commits,
};

use crate::law::Law;
use crate::probe::path_to;

/// A fault that [`Faulty`] imitates from outside of a verifier.
///
/// The trait gives no access to masks and positions, which follow from the tree. So a flipped mask bit is imitated by
/// scoring another tree. There are three variants: two flipped bits and the correct position
/// ([`AncestorSwapped`](Self::AncestorSwapped)), or one flipped bit and a position that is one too high or too low. Each
/// changes what one row and its descendants attend to by a single token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// No fault, only the wrapper.
    None,
    /// One leaf attends to its parent's sibling instead of its parent: one bit cleared and one set, at the correct position.
    /// The smallest of the mask faults.
    AncestorSwapped,
    /// One leaf also attends to its sibling: one bit set, and its position is one too high.
    SiblingSeen,
    /// One leaf does not attend to its parent: one bit cleared, and its position is one too low.
    AncestorUnseen,
    /// Every node attends to all nodes before it.
    MaskIgnored,
    /// The rows of a pass are one position too high if tokens are committed before them. The root is scored twice for that, so
    /// its first key is seen as well.
    PositionOffByOne,
    /// A commit keeps another path of the same length.
    WrongPathCommitted,
    /// A truncation keeps one token too many.
    TruncationKeepsOne,
    /// The first two sequences of a pass get each other's rows.
    RowsMixedUp,
    /// The id of a closed sequence is given to the next one.
    IdsReused,
    /// The second best candidate comes before the best.
    TopUnsorted,
    /// After an error every sequence loses its last token.
    ErrorForgets,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Fault; 11] = [
        Fault::AncestorSwapped,
        Fault::SiblingSeen,
        Fault::AncestorUnseen,
        Fault::MaskIgnored,
        Fault::PositionOffByOne,
        Fault::WrongPathCommitted,
        Fault::TruncationKeepsOne,
        Fault::RowsMixedUp,
        Fault::IdsReused,
        Fault::TopUnsorted,
        Fault::ErrorForgets,
    ];

    /// The law that must detect it. Other laws may detect it too.
    #[must_use]
    pub fn law(self) -> Option<Law> {
        match self {
            Fault::None => None,
            Fault::AncestorSwapped
            | Fault::SiblingSeen
            | Fault::AncestorUnseen
            | Fault::MaskIgnored
            | Fault::PositionOffByOne => Some(Law::PathsAreChains),
            Fault::WrongPathCommitted => Some(Law::CommitEqualsPrefill),
            Fault::TruncationKeepsOne => Some(Law::TruncateForgets),
            Fault::RowsMixedUp => Some(Law::NeighboursDoNotMatter),
            Fault::IdsReused => Some(Law::ClosedIdsAreDead),
            Fault::TopUnsorted => Some(Law::TopIsTheHead),
            Fault::ErrorForgets => Some(Law::ErrorsChangeNothing),
        }
    }

    /// The rows and leaves of the smallest tree in which it shows.
    pub(crate) fn smallest_tree(self) -> (usize, usize) {
        match self {
            // These give the verifier a tree with one more leaf.
            Fault::AncestorSwapped | Fault::AncestorUnseen => (4, 3),
            Fault::SiblingSeen | Fault::MaskIgnored | Fault::WrongPathCommitted => (3, 2),
            // One more row.
            Fault::PositionOffByOne => (2, 1),
            _ => (1, 1),
        }
    }

    /// The tree that the verifier gets instead of `tree`, and the node in it for each node of `tree`.
    fn disguise(self, tree: &DraftTree, committed: usize) -> (DraftTree, Vec<NodeId>) {
        let mut shown = DraftTree::new();
        if self == Fault::MaskIgnored {
            return (DraftTree::chain(tree.tokens()), tree.nodes().collect());
        }
        let moved = self.moves(tree);
        shown.reset(tree.tokens()[0], TreeLimits::UNBOUNDED);
        let mut places = vec![NodeId::ROOT];
        if self == Fault::PositionOffByOne && committed > 0 {
            places[0] = shown.push(NodeId::ROOT, tree.tokens()[0], None).unwrap_or(NodeId::ROOT);
        }
        for node in tree.nodes().skip(1) {
            let parent = tree.parent(node).unwrap_or(NodeId::ROOT);
            let parent = moved.filter(|&(hit, _)| hit == node).map_or(parent, |(_, other)| other);
            // A tree without limits refuses nothing.
            let place = shown.push(places[parent.index()], tree.tokens()[node.index()], None);
            places.push(place.unwrap_or(NodeId::ROOT));
        }
        (shown, places)
    }

    /// The leaf that is moved, and its new parent.
    fn moves(self, tree: &DraftTree) -> Option<(NodeId, NodeId)> {
        let leaves = tree.nodes().skip(1).filter(|&node| tree.is_leaf(node) && tree.leaves() > 1);
        let earlier = |node: NodeId| {
            let parent = tree.parent(node)?;
            tree.children(parent).find(|&other| other < node && other != node)
        };
        let candidates = leaves.filter_map(|leaf| {
            let parent = tree.parent(leaf)?;
            let other = match self {
                Fault::AncestorSwapped => {
                    let above = tree.parent(parent)?;
                    tree.children(above).find(|&other| other != parent && other < leaf)
                }
                Fault::SiblingSeen => earlier(leaf),
                Fault::AncestorUnseen => tree.parent(parent),
                _ => None,
            }?;
            // A child with the same token would absorb it.
            tree.child(other, tree.tokens()[leaf.index()]).is_none().then_some((leaf, other))
        });
        candidates.last()
    }
}

/// A verifier with a [`Fault`] in front of it.
#[derive(Debug)]
pub struct Faulty<V> {
    inner: V,
    /// Slightly lower than those of `inner` for faults that need more rows or leaves than the caller's tree.
    limits: Limits,
    fault: Fault,
    open: Vec<Tracked>,
    free: Vec<SeqId>,
    /// The inputs of the last forward.
    passes: Vec<Pass>,
    top: TopK,
}

/// One input of the last forward.
#[derive(Debug)]
struct Pass {
    rows: RowSelection,
    /// The nodes of the caller's tree.
    len: usize,
    /// For each of them the node of the disguised tree.
    nodes: Vec<NodeId>,
}

#[derive(Debug)]
struct Tracked {
    outer: SeqId,
    inner: SeqId,
    /// How many tokens the inner sequence holds after each token of the outer one.
    ends: Vec<usize>,
    held: usize,
    /// The tree of the last forward.
    scored: Option<Scored>,
}

#[derive(Clone, Debug)]
struct Scored {
    /// As the caller gave it.
    tree: DraftTree,
    /// As the verifier got it.
    disguised: DraftTree,
    /// The node of `disguised` for each node of `tree`.
    nodes: Vec<NodeId>,
}

impl<V: Verifier> Faulty<V> {
    /// Puts `fault` in front of `inner`.
    pub fn new(inner: V, fault: Fault) -> Self {
        let mut limits = inner.limits().clone();
        match fault {
            Fault::AncestorSwapped | Fault::AncestorUnseen => {
                limits.max_leaves = limits.max_leaves.saturating_sub(1).max(1);
            }
            Fault::PositionOffByOne => limits.max_rows = limits.max_rows.saturating_sub(1),
            _ => {}
        }
        let top = TopK::new(1);
        Self { inner, limits, fault, open: Vec::new(), free: Vec::new(), passes: Vec::new(), top }
    }

    fn tracked(&mut self, seq: SeqId) -> Result<&mut Tracked, VerifyError> {
        let found = self.open.iter_mut().find(|tracked| tracked.outer == seq);
        found.ok_or(VerifyError::UnknownSequence { seq })
    }

    fn check(&self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        check_commits(commits, |seq| {
            let tracked = self.open.iter().find(|tracked| tracked.outer == seq);
            let scored = &tracked.ok_or(VerifyError::UnknownSequence { seq })?.scored;
            Ok(scored.as_ref().ok_or(VerifyError::NothingToCommit { seq })?.tree.parents())
        })
    }

    /// The row of the inner verifier that is read for `row`, which was requested.
    fn inner_row(&self, row: Row) -> Row {
        if let (Fault::RowsMixedUp, 0 | 1, [_, _, ..]) = (self.fault, row.input, &self.passes[..]) {
            let nodes = &self.passes[1 - row.input].nodes;
            let node = nodes[row.node.min(nodes.len() - 1)].index();
            return Row { input: 1 - row.input, node };
        }
        Row { input: row.input, node: self.passes[row.input].nodes[row.node].index() }
    }

    /// The path of the disguised tree for `path`.
    fn path(&self, scored: &Scored, path: &[NodeId]) -> Vec<NodeId> {
        let Some(&last) = path.last() else { return Vec::new() };
        let place = scored.nodes[last.index()];
        let right = path_to(&scored.disguised, place);
        if self.fault == Fault::WrongPathCommitted {
            let same_depth = |&node: &NodeId| path_to(&scored.disguised, node).len() == right.len();
            let other = scored.disguised.nodes().filter(same_depth).find(|&node| node != place);
            return other.map_or(right, |other| path_to(&scored.disguised, other));
        }
        right
    }

    /// Changes the state after an error.
    fn after_error(&mut self) {
        if self.fault != Fault::ErrorForgets {
            return;
        }
        for tracked in &mut self.open {
            let held = tracked.held.saturating_sub(1);
            if self.inner.truncate(tracked.inner, held).is_ok() {
                tracked.held = held;
            }
        }
    }

    fn try_forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let committed = |seq| self.open.iter().find(|t| t.outer == seq).map(|t| t.ends.len());
        self.limits.check_inputs(inputs, committed)?;
        let mut shown = Vec::new();
        for input in inputs {
            let fault = self.fault;
            let tracked = self.tracked(input.seq)?;
            let (disguised, nodes) = fault.disguise(input.tree, tracked.ends.len());
            shown.push((tracked.inner, Scored { tree: input.tree.clone(), disguised, nodes }));
        }
        let inner: Vec<TreeInput<'_>> = shown
            .iter()
            .map(|(seq, scored)| TreeInput { seq: *seq, tree: &scored.disguised, rows: RowSelection::All })
            .collect();
        self.inner.forward(&inner, &mut self.top)?;
        self.passes.clear();
        for (input, (_, scored)) in inputs.iter().zip(shown) {
            let nodes = scored.nodes.clone();
            self.passes.push(Pass { rows: input.rows, len: input.tree.len(), nodes });
            self.tracked(input.seq)?.scored = Some(scored);
        }
        top.reset(inputs, self.limits.vocab);
        let mut index = 0;
        for input in 0..self.passes.len() {
            for node in top.nodes(input) {
                let row = Row { input, node };
                top.set_from_logits(row, self.inner.logits(self.inner_row(row))?)?;
                if let (Fault::TopUnsorted, (ids @ [_, _, ..], best)) =
                    (self.fault, top.candidates_mut(index))
                {
                    ids.swap(0, 1);
                    best.swap(0, 1);
                }
                index += 1;
            }
        }
        Ok(())
    }

    fn try_commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        self.check(commits)?;
        let mut paths = Vec::new();
        for commit in commits {
            let Some(tracked) = self.open.iter().find(|tracked| tracked.outer == commit.seq) else {
                continue;
            };
            let Some(scored) = &tracked.scored else { continue };
            let ends: Vec<usize> = commit
                .path
                .iter()
                .map(|node| tracked.held + path_to(&scored.disguised, scored.nodes[node.index()]).len())
                .collect();
            paths.push((tracked.inner, self.path(scored, commit.path), ends));
        }
        let inner: Vec<Commit<'_>> = paths.iter().map(|(seq, path, _)| Commit { seq: *seq, path }).collect();
        self.inner.commit(&inner)?;
        for (commit, (_, path, ends)) in commits.iter().zip(&paths) {
            let tracked = self.tracked(commit.seq)?;
            tracked.held += path.len();
            tracked.ends.extend_from_slice(ends);
            tracked.scored = None;
        }
        Ok(())
    }

    fn try_truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        let extra = usize::from(self.fault == Fault::TruncationKeepsOne);
        let tracked = self.tracked(seq)?;
        let committed = tracked.ends.len();
        if len > committed {
            return Err(VerifyError::TruncateBeyond { seq, committed, len });
        }
        let kept = len.checked_sub(1).map_or(0, |last| tracked.ends[last]);
        let held = (kept + extra).min(tracked.held);
        let inner = tracked.inner;
        tracked.ends.truncate(len);
        tracked.held = held;
        tracked.scored = None;
        self.inner.truncate(inner, held)
    }
}

impl<V: Verifier> Verifier for Faulty<V> {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn row_tolerance(&self) -> f32 {
        self.inner.row_tolerance()
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        let inner = self.inner.open()?;
        let outer = self.free.pop().unwrap_or(inner);
        self.open.push(Tracked { outer, inner, ends: Vec::new(), held: 0, scored: None });
        Ok(outer)
    }

    fn close(&mut self, seq: SeqId) {
        if let Ok(tracked) = self.tracked(seq) {
            let inner = tracked.inner;
            self.inner.close(inner);
            self.open.retain(|tracked| tracked.outer != seq);
            if self.fault == Fault::IdsReused {
                self.free.push(seq);
            }
        }
    }

    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let result = self.try_forward(inputs, top);
        result.inspect_err(|_| self.after_error())
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        let missing = VerifyError::NoSuchRow { row };
        let Some(pass) = self.passes.get(row.input) else { return Err(missing) };
        if !pass.rows.nodes(pass.len).any(|node| node == row.node) {
            return Err(missing);
        }
        self.inner.logits(self.inner_row(row))
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        let result = self.try_commit(commits);
        result.inspect_err(|_| self.after_error())
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        let result = self.try_truncate(seq, len);
        result.inspect_err(|_| self.after_error())
    }
}
