//! Faults put between a law and a verifier that is right, to see that the law notices.

use upcycle_core::{
    Commit, DraftTree, Limits, NodeId, Row, RowSelection, SeqId, TopK, TreeInput, TreeLimits, Verifier,
    VerifyError, check_commits,
};

use crate::law::Law;
use crate::probe::path_to;

/// A fault that [`Faulty`] imitates from outside of a verifier.
///
/// A backend's masks and positions cannot be reached through the trait, where both follow from the tree. So a mask
/// bit is flipped by presenting another tree, in three ways that bracket it: the position right and two bits flipped
/// ([`AncestorSwapped`](Self::AncestorSwapped)), or one bit flipped and the position one off, up or down. Each
/// changes what exactly one row attends to by a single token, and what that row's descendants see of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// None: the wrapper alone.
    None,
    /// One leaf attends to its parent's sibling in place of its parent: a bit cleared and a bit set, its position
    /// right. The least of the mask faults.
    AncestorSwapped,
    /// One leaf attends to its sibling besides: a bit set, and its position one too high.
    SiblingSeen,
    /// One leaf does not attend to its parent: a bit cleared, and its position one too low.
    AncestorUnseen,
    /// Every node attends to all nodes before it.
    MaskIgnored,
    /// The rows of a pass stand one position too high wherever something is committed already: made by scoring the
    /// root twice, so that the first one's key is seen as well.
    PositionOffByOne,
    /// A commit keeps another path of the same length.
    WrongPathCommitted,
    /// A truncation keeps one token too many.
    TruncationKeepsOne,
    /// The first two sequences of a pass get each other's rows.
    RowsMixedUp,
    /// The id of a closed sequence is given to the next.
    IdsReused,
    /// The second best candidate stands before the best.
    TopUnsorted,
    /// An error costs every sequence its last token.
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

    /// The law that names it: the one that has to see it, whatever other laws do.
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

    /// Whether it needs a tree that branches.
    #[must_use]
    pub fn needs_trees(self) -> bool {
        use Fault::{AncestorSwapped, AncestorUnseen, MaskIgnored, SiblingSeen, WrongPathCommitted};
        matches!(self, AncestorSwapped | SiblingSeen | AncestorUnseen | MaskIgnored | WrongPathCommitted)
    }

    /// The tree that the verifier is shown for `tree`, and where each node of `tree` is in it.
    fn present(self, tree: &DraftTree, committed: usize) -> (DraftTree, Vec<NodeId>) {
        let mut shown = DraftTree::new();
        if self == Fault::MaskIgnored {
            return (DraftTree::chain(tree.tokens()), tree.nodes().collect());
        }
        let moved = self.moves(tree);
        shown.restart(tree.tokens()[0], TreeLimits::UNBOUNDED);
        let mut places = vec![NodeId::ROOT];
        if self == Fault::PositionOffByOne && committed > 0 {
            places[0] = shown.push(NodeId::ROOT, tree.tokens()[0], None).unwrap_or(NodeId::ROOT);
        }
        for node in tree.nodes().skip(1) {
            let parent = tree.parent(node).unwrap_or(NodeId::ROOT);
            let parent = moved.filter(|&(hit, _)| hit == node).map_or(parent, |(_, other)| other);
            // There is room for any tree.
            let place = shown.push(places[parent.index()], tree.tokens()[node.index()], None);
            places.push(place.unwrap_or(NodeId::ROOT));
        }
        (shown, places)
    }

    /// The leaf that is hit, and the node that it is put under instead.
    fn moves(self, tree: &DraftTree) -> Option<(NodeId, NodeId)> {
        let leaves = tree.nodes().skip(1).filter(|&node| tree.is_leaf(node) && tree.leaves() > 1);
        let elder = |node: NodeId| {
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
                Fault::SiblingSeen => elder(leaf),
                Fault::AncestorUnseen => tree.parent(parent),
                _ => None,
            }?;
            // Another child with that token would swallow it.
            tree.child(other, tree.tokens()[leaf.index()]).is_none().then_some((leaf, other))
        });
        candidates.last()
    }
}

/// Any verifier, with a [`Fault`] in front of it.
#[derive(Debug)]
pub struct Faulty<V> {
    inner: V,
    /// A little below those of `inner`, where what it is shown takes more than what was given.
    limits: Limits,
    fault: Fault,
    open: Vec<Tracked>,
    free: Vec<SeqId>,
    /// Of the last forward: each step's rows asked for, its nodes, and where they are in what was shown.
    passes: Vec<(RowSelection, usize, Vec<NodeId>)>,
    top: TopK,
}

#[derive(Debug)]
struct Tracked {
    outer: SeqId,
    inner: SeqId,
    /// How many tokens the inner sequence holds after each one of the outer.
    ends: Vec<usize>,
    held: usize,
    /// The tree of the last forward, as given and as shown.
    scored: Option<Scored>,
}

#[derive(Clone, Debug)]
struct Scored {
    tree: DraftTree,
    shown: DraftTree,
    places: Vec<NodeId>,
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

    /// Where a row of the last forward, which was asked for, is read.
    fn place(&self, row: Row) -> Row {
        if let (Fault::RowsMixedUp, 0 | 1, [_, _, ..]) = (self.fault, row.input, &self.passes[..]) {
            let places = &self.passes[1 - row.input].2;
            let node = places[row.node.min(places.len() - 1)].index();
            return Row { input: 1 - row.input, node };
        }
        Row { input: row.input, node: self.passes[row.input].2[row.node].index() }
    }

    /// The path of what was shown that stands for `path`.
    fn path(&self, scored: &Scored, path: &[NodeId]) -> Vec<NodeId> {
        let Some(&last) = path.last() else { return Vec::new() };
        let place = scored.places[last.index()];
        let right = path_to(&scored.shown, place);
        if self.fault == Fault::WrongPathCommitted {
            let same_depth = |&node: &NodeId| path_to(&scored.shown, node).len() == right.len();
            let other = scored.shown.nodes().filter(same_depth).find(|&node| node != place);
            return other.map_or(right, |other| path_to(&scored.shown, other));
        }
        right
    }

    /// What an error does to the state.
    fn suffer(&mut self) {
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

    fn try_forward(&mut self, steps: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let committed = |seq| self.open.iter().find(|t| t.outer == seq).map(|t| t.ends.len());
        self.limits.check_inputs(steps, committed)?;
        let mut shown = Vec::new();
        for step in steps {
            let fault = self.fault;
            let tracked = self.tracked(step.seq)?;
            let (tree, places) = fault.present(step.tree, tracked.ends.len());
            shown.push((tracked.inner, Scored { tree: step.tree.clone(), shown: tree, places }));
        }
        let inner: Vec<TreeInput<'_>> = shown
            .iter()
            .map(|(seq, scored)| TreeInput { seq: *seq, tree: &scored.shown, rows: RowSelection::All })
            .collect();
        self.inner.forward(&inner, &mut self.top)?;
        self.passes.clear();
        for (step, (_, scored)) in steps.iter().zip(shown) {
            self.passes.push((step.rows, step.tree.len(), scored.places.clone()));
            self.tracked(step.seq)?.scored = Some(scored);
        }
        top.restart(steps, self.limits.vocab);
        let mut index = 0;
        for step in 0..self.passes.len() {
            for node in top.nodes(step) {
                let row = Row { input: step, node };
                top.rank(row, self.inner.logits(self.place(row))?)?;
                if let (Fault::TopUnsorted, (ids @ [_, _, ..], best)) = (self.fault, top.slots(index)) {
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
                .map(|node| tracked.held + path_to(&scored.shown, scored.places[node.index()]).len())
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

    fn forward(&mut self, steps: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let result = self.try_forward(steps, top);
        result.inspect_err(|_| self.suffer())
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        let missing = VerifyError::NoSuchRow { row };
        let Some((rows, len, _)) = self.passes.get(row.input) else { return Err(missing) };
        if !rows.nodes(*len).any(|node| node == row.node) {
            return Err(missing);
        }
        self.inner.logits(self.place(row))
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        let result = self.try_commit(commits);
        result.inspect_err(|_| self.suffer())
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        let result = self.try_truncate(seq, len);
        result.inspect_err(|_| self.suffer())
    }
}
