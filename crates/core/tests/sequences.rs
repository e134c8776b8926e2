//! `SequenceTable` against an oracle that keeps whole lists of tokens, over a cache with slots.

use proptest::prelude::*;
use proptest::sample::Index;
use upcycle_core::{
    Commit, DraftTree, Limits, NodeId, Row, RowSelection, SeqId, SequenceTable, Support, TokenId, TreeInput,
    TreeLimits, VerifyError,
};

const LIMITS: Limits = Limits {
    vocab: usize::MAX,
    max_context: 40,
    max_rows: 24,
    max_leaves: 12,
    max_seqs: 3,
    support: Support::Tree,
};

#[derive(Clone, Debug)]
enum Op {
    Open,
    Close(Index),
    /// Runs trees of these sequences, given as the parent of each node. May fail before it is finished.
    Pass(Vec<(Index, Vec<Index>)>, bool),
    /// Commits the path to a node of each of these sequences. May fail at one of them.
    Commit(Vec<(Index, Option<Index>)>, Option<Index>),
    Truncate(Index, usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let index = any::<Index>;
    let tree = prop::collection::vec(index(), 0..9);
    let op = prop_oneof![
        2 => Just(Op::Open),
        1 => index().prop_map(Op::Close),
        6 => (prop::collection::vec((index(), tree), 0..4), prop::bool::weighted(0.3))
            .prop_map(|(trees, fails)| Op::Pass(trees, fails)),
        6 => (prop::collection::vec((index(), prop::option::weighted(0.9, index())), 0..4), prop::option::weighted(0.3, index()))
            .prop_map(|(paths, fails)| Op::Commit(paths, fails)),
        2 => (index(), 0_usize..45).prop_map(|(at, len)| Op::Truncate(at, len)),
    ];
    prop::collection::vec(op, 0..60)
}

/// What a sequence must hold.
#[derive(Clone)]
struct Expected {
    seq: SeqId,
    committed: Vec<TokenId>,
    pending: Option<DraftTree>,
}

/// The state of a backend whose cache has slots: the token in each.
type Slots = Vec<TokenId>;

/// A table, what it must hold, and all ids that it gave out.
struct Pair {
    table: SequenceTable<Slots>,
    expected: Vec<Expected>,
    ids: Vec<SeqId>,
    next_token: TokenId,
}

fn broken() -> VerifyError {
    VerifyError::backend("test", "work", "it was told to fail")
}

/// The path from the root to `node`.
fn path_to(tree: &DraftTree, node: NodeId) -> Vec<NodeId> {
    let mut path: Vec<NodeId> = std::iter::successors(Some(node), |&node| tree.parent(node)).collect();
    path.reverse();
    path
}

impl Pair {
    fn new() -> Self {
        Self { table: SequenceTable::new(LIMITS), expected: Vec::new(), ids: Vec::new(), next_token: 0 }
    }

    /// An id that was given out, open or closed.
    fn id(&self, at: &Index) -> Option<SeqId> {
        (!self.ids.is_empty()).then(|| *at.get(&self.ids))
    }

    fn expected(&mut self, seq: SeqId) -> Option<&mut Expected> {
        self.expected.iter_mut().find(|sequence| sequence.seq == seq)
    }

    /// A tree of tokens that occur nowhere else.
    fn tree(&mut self, parents: &[Index]) -> DraftTree {
        let mut fresh = || {
            self.next_token += 1;
            self.next_token
        };
        let mut tree = DraftTree::new();
        tree.reset(fresh(), TreeLimits::UNBOUNDED);
        for parent in parents {
            let parent = NodeId::new(parent.index(tree.len()));
            tree.push(parent, fresh(), None).expect("the tree has no limits");
        }
        tree
    }

    fn apply(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Open => match self.table.open(Vec::new()) {
                Ok(seq) => {
                    prop_assert!(!self.ids.contains(&seq));
                    self.ids.push(seq);
                    self.expected.push(Expected { seq, committed: Vec::new(), pending: None });
                }
                Err(error) => {
                    prop_assert!(matches!(error, VerifyError::TooManySequences { max: 3 }), "{error:?}");
                    prop_assert_eq!(self.expected.len(), 3);
                }
            },
            Op::Close(at) => {
                let Some(seq) = self.id(at) else { return Ok(()) };
                let known = self.expected(seq).is_some();
                prop_assert_eq!(self.table.close(seq).is_some(), known);
                self.expected.retain(|sequence| sequence.seq != seq);
            }
            Op::Pass(trees, fails) => self.pass(trees, *fails)?,
            Op::Commit(paths, fails) => self.commit(paths, *fails)?,
            Op::Truncate(at, len) => {
                let Some(seq) = self.id(at) else { return Ok(()) };
                let result = self.table.truncate(seq, *len, |_| Ok(()));
                match self.expected(seq) {
                    None => {
                        prop_assert!(
                            matches!(result, Err(VerifyError::UnknownSequence { .. })),
                            "{result:?}"
                        );
                    }
                    Some(sequence) if *len > sequence.committed.len() => {
                        prop_assert!(matches!(result, Err(VerifyError::TruncateBeyond { .. })), "{result:?}");
                    }
                    Some(sequence) => {
                        result?;
                        sequence.committed.truncate(*len);
                        sequence.pending = None;
                    }
                }
            }
        }
        Ok(())
    }

    fn pass(&mut self, trees: &[(Index, Vec<Index>)], fails: bool) -> Result<(), TestCaseError> {
        let mut grown = Vec::new();
        for (at, parents) in trees {
            let Some(seq) = self.id(at) else { return Ok(()) };
            grown.push((seq, self.tree(parents)));
        }
        let inputs: Vec<TreeInput<'_>> = grown
            .iter()
            .map(|(seq, tree)| TreeInput { seq: *seq, tree, rows: RowSelection::Every(2) })
            .collect();
        let committed = |seq| self.expected.iter().find(|s| s.seq == seq).map(|s| s.committed.len());
        let allowed = LIMITS.check_inputs(&inputs, committed);
        let begun = self.table.begin_pass(&inputs);
        prop_assert_eq!(
            begun.as_ref().err().map(ToString::to_string),
            allowed.as_ref().err().map(ToString::to_string)
        );
        if begun.is_ok() {
            for input in &inputs {
                let sequence = self.table.get_mut(input.seq)?;
                let first = sequence.free_slot(input.tree.len());
                let slots = &mut sequence.state;
                slots.resize(slots.len().max(first + input.tree.len()), 0);
                slots[first..first + input.tree.len()].copy_from_slice(input.tree.tokens());
            }
        }
        if begun.is_err() || fails {
            let row = Row { input: 0, node: grown.first().map_or(0, |(_, tree)| tree.len() - 1) };
            let index = self.table.row_index(row);
            prop_assert!(matches!(index, Err(VerifyError::NoSuchRow { .. })), "{index:?}");
            return Ok(());
        }
        self.table.finish_pass(&inputs);
        for (index, row) in self.table.rows().iter().enumerate() {
            prop_assert_eq!(self.table.row_index(row)?, index);
        }
        for (seq, tree) in grown {
            if let Some(sequence) = self.expected(seq) {
                sequence.pending = Some(tree);
            }
        }
        Ok(())
    }

    fn commit(
        &mut self,
        paths: &[(Index, Option<Index>)],
        fails: Option<Index>,
    ) -> Result<(), TestCaseError> {
        let mut chosen = Vec::new();
        for (at, node) in paths {
            let Some(seq) = self.id(at) else { return Ok(()) };
            let tree = self.expected(seq).and_then(|sequence| sequence.pending.clone());
            let path = match (&tree, node) {
                (Some(tree), Some(node)) => path_to(tree, NodeId::new(node.index(tree.len()))),
                _ => Vec::new(),
            };
            chosen.push((seq, path));
        }
        let commits: Vec<Commit<'_>> = chosen.iter().map(|(seq, path)| Commit { seq: *seq, path }).collect();
        let twice = (1..chosen.len()).any(|at| chosen[..at].iter().any(|other| other.0 == chosen[at].0));
        let pending = chosen.iter().all(|&(seq, _)| self.expected(seq).is_some_and(|s| s.pending.is_some()));
        if twice || !pending {
            let mut called = false;
            let result = self.table.commit(&commits, |_, _| called = true);
            prop_assert!(result.is_err() && !called);
            let result = self.table.prepare_commit(&commits, |_, _| {
                called = true;
                Ok(())
            });
            prop_assert!(result.is_err() && !called);
            return Ok(());
        }
        if let Some(fails) = fails.filter(|_| !commits.is_empty()) {
            let (mut call, last) = (0, fails.index(commits.len()));
            let result = self.table.prepare_commit(&commits, |_, _| {
                call += 1;
                if call > last { Err(broken()) } else { Ok(()) }
            });
            prop_assert!(matches!(result, Err(VerifyError::Backend { .. })), "{result:?}");
            self.check()?;
        }
        self.table.commit(&commits, |slots, kept| {
            for (from, to) in kept.moves() {
                assert!(from >= to, "a row moves up");
                slots[to] = slots[from];
            }
        })?;
        for (seq, path) in &chosen {
            let Some(sequence) = self.expected(*seq) else { continue };
            let Some(tree) = sequence.pending.take() else { continue };
            sequence.committed.extend(path.iter().map(|node| tree.tokens()[node.index()]));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.table.iter().len(), self.expected.len());
        for (index, sequence) in self.expected.iter().enumerate() {
            let found = self.table.get(sequence.seq)?;
            prop_assert_eq!(self.table.index(sequence.seq)?, index);
            prop_assert_eq!(found.committed(), sequence.committed.len());
            prop_assert_eq!(&found.state[..found.committed()], &sequence.committed);
            prop_assert_eq!(found.pending_parents(), sequence.pending.as_ref().map(DraftTree::parents));
            prop_assert!(found.occupied_slots() <= found.state.len());
        }
        for seq in self.ids.iter().filter(|&&seq| self.expected.iter().all(|open| open.seq != seq)) {
            let found = self.table.get(*seq);
            prop_assert!(matches!(found, Err(VerifyError::UnknownSequence { .. })), "{found:?}");
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn a_table_holds_what_the_oracle_holds_after_any_calls(ops in ops()) {
        let mut pair = Pair::new();
        for op in &ops {
            pair.apply(op)?;
            pair.check()?;
        }
    }
}

#[test]
fn a_failed_truncation_changes_nothing() -> Result<(), VerifyError> {
    let mut table = SequenceTable::new(LIMITS);
    let seq = table.open(())?;
    let tree = DraftTree::chain(&[1, 2]);
    let inputs = [TreeInput { seq, tree: &tree, rows: RowSelection::Last }];
    table.begin_pass(&inputs)?;
    table.finish_pass(&inputs);
    table.commit(&[Commit { seq, path: &[NodeId::ROOT] }], |_, _| ())?;
    table.begin_pass(&inputs)?;
    table.finish_pass(&inputs);
    assert!(table.truncate(seq, 0, |_| Err(broken())).is_err());
    assert_eq!((table.get(seq)?.committed(), table.get(seq)?.pending_rows()), (1, 2));
    Ok(())
}
