//! A small backend with one planted bug. It keeps its own books, since `SequenceTable` makes many of these bugs impossible.

use upcycle_core::{
    Commit, DraftTree, Limits, NodeId, Row, SeqId, Support, TokenId, TopK, TreeInput, Verifier, VerifyError,
    check_commits,
};

/// What the backend gets wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    None,
    /// A node's position follows from its index and not from its depth.
    PositionByIndex,
    /// Positions of a pass start at 0.
    PositionsRestart,
    /// A node sees its earlier siblings.
    SiblingsSeen,
    /// The mask of a row is one word, so that node 64 is taken for node 0.
    MaskOf64Bits,
    /// A node sees its eight nearest ancestors in the pass.
    DeepAncestorsUnseen,
    /// A leaf does not see itself.
    LeafUnseen,
    /// The first token is not seen after more than 64 committed ones.
    FirstUnseenBeyond64,
    /// Rows see the last 256 committed tokens.
    WindowOf256,
    /// A commit leaves its tree pending.
    CommitLeavesPending,
    /// A commit of an empty path leaves its tree pending.
    EmptyCommitLeavesPending,
    /// A commit keeps the first rows of the tree.
    CommitKeepsFirstRows,
    /// A commit keeps the path of the node with the next index.
    CommitKeepsNextNode,
    /// A commit keeps all rows that were scored.
    CommitKeepsAll,
    /// A commit loses the last node of a path of several.
    CommitLosesLast,
    /// A commit keeps a path from the leaf up.
    CommitReversesPath,
    /// A pass does not replace the pending tree.
    PendingNotReplaced,
    /// Every tenth commit of the backend loses its last row.
    TenthCommitLosesLast,
    /// A truncation keeps one token more.
    TruncateKeepsOne,
    /// A truncation leaves the tree pending.
    TruncateLeavesPending,
    /// Positions go on after a truncation as if nothing was cut.
    TruncateKeepsPositions,
    /// A truncation to nothing does nothing.
    TruncateToZeroIgnored,
    /// A new sequence gets the cache of one that was closed.
    CloseLeavesCache,
    /// Rows are read as if every node had been asked for.
    RowsReadByNode,
    /// The rows of a pass are in reverse order.
    RowsReversed,
    /// Rows of earlier passes can be read.
    StaleRowsReadable,
    /// The logits of a pass are not replaced if the next one has as many rows.
    StaleRowsReused,
    /// The rows of the inputs are in reverse order.
    InputsReversed,
    /// Every input of a pass has the positions of the first.
    PositionsOfFirstInput,
    /// An input sees the trees of those before it.
    NeighboursSeen,
    /// In a commit of several sequences each gets the path of another.
    CommitsSwapped,
    /// A pass drops the pending trees of sequences that are not in it.
    PassDropsOthers,
    /// A refused pass drops the pending trees of its inputs.
    RefusedPassDropsPending,
    /// The commits before a refused one are applied.
    RefusedCommitKeepsFirst,
    /// The commits before one at which the engine fails are applied.
    FailedCommitKeepsFirst,
    /// A commit at which the engine fails drops the pending trees.
    FailedCommitDropsPending,
    /// A fork has one token more.
    ForkKeepsOne,
    /// A fork cuts its original.
    ForkCutsOriginal,
    /// A fork drops the pending tree of its original.
    ForkDropsPending,
    /// The ids of closed sequences are given again.
    IdsReused,
    /// Closing a sequence closes the one that was opened last.
    NewestClosed,
    /// One token more than the context fits.
    ContextOneTooLong,
    /// No pass has too many rows.
    RowsUnlimited,
    /// Tokens outside the vocabulary wrap around.
    TokensWrap,
    /// One sequence more than the limit can be opened.
    OneSequenceTooMany,
    /// A NaN is a logit of minus infinity.
    NanIsLow,
    /// The last two candidates are swapped.
    LastCandidatesSwapped,
    /// The log-sum-exp is that of the candidates.
    SumOfCandidates,
}

/// A token that rows attend to, with its position.
type Key = (u64, TokenId);

struct Sequence {
    id: SeqId,
    cache: Vec<Key>,
    /// What truncations have cut, for one of the bugs.
    cut: u64,
    pending: Option<(DraftTree, Vec<Key>)>,
}

pub(crate) struct Planted {
    bug: Bug,
    limits: Limits,
    open: Vec<Sequence>,
    closed: Vec<Sequence>,
    next_id: u64,
    /// The rows that can be read.
    rows: Vec<(Row, Vec<f32>)>,
    commits: usize,
    fails: bool,
    poisoned: bool,
}

impl Planted {
    pub(crate) fn new(bug: Bug, (max_rows, max_context): (usize, usize)) -> Self {
        let limits = Limits {
            vocab: 64,
            max_context,
            max_rows,
            max_leaves: max_rows,
            max_seqs: 4,
            support: Support::Tree,
        };
        let (open, closed, rows) = (Vec::new(), Vec::new(), Vec::new());
        Self { bug, limits, open, closed, next_id: 0, rows, commits: 0, fails: false, poisoned: false }
    }

    /// Its first pass has a row with a NaN.
    pub(crate) fn poisoned(self) -> Self {
        Self { poisoned: true, ..self }
    }

    /// Its first commit of two sequences fails at the second.
    pub(crate) fn failing(self) -> Self {
        Self { fails: true, ..self }
    }

    pub(crate) fn with_support(mut self, support: Support) -> Self {
        self.limits.support = support;
        self
    }

    fn index(&self, seq: SeqId) -> Result<usize, VerifyError> {
        let index = self.open.iter().position(|sequence| sequence.id == seq);
        index.ok_or(VerifyError::UnknownSequence { seq })
    }

    fn check(&self, inputs: &[TreeInput<'_>]) -> Result<(), VerifyError> {
        let mut limits = self.limits.clone();
        match self.bug {
            Bug::ContextOneTooLong => limits.max_context += 1,
            Bug::RowsUnlimited => (limits.max_rows, limits.max_leaves) = (usize::MAX, usize::MAX),
            Bug::TokensWrap => limits.vocab = usize::MAX,
            _ => {}
        }
        limits.check_inputs(inputs, |seq| Some(self.open[self.index(seq).ok()?].cache.len()))
    }

    /// The keys of a tree, by node.
    fn keys(&self, sequence: &Sequence, tree: &DraftTree, first: usize) -> Vec<Key> {
        let committed = match self.bug {
            Bug::PositionsRestart => 0,
            Bug::PositionsOfFirstInput => first as u64,
            Bug::TruncateKeepsPositions => sequence.cache.len() as u64 + sequence.cut,
            _ => sequence.cache.len() as u64,
        };
        let position = |node: NodeId| match self.bug {
            Bug::PositionByIndex => node.index() as u64,
            _ => u64::from(tree.depths()[node.index()]),
        };
        tree.nodes().map(|node| (committed + position(node), tree.tokens()[node.index()])).collect()
    }

    /// The nodes of a tree that `node` sees.
    fn seen(&self, tree: &DraftTree, node: NodeId) -> Vec<NodeId> {
        let mut seen: Vec<NodeId> = std::iter::successors(Some(node), |&node| tree.parent(node)).collect();
        match self.bug {
            Bug::SiblingsSeen => {
                let parent = tree.parent(node);
                seen.extend(
                    parent.into_iter().flat_map(|parent| tree.children(parent)).filter(|&s| s < node),
                );
            }
            Bug::MaskOf64Bits => {
                let mask = seen.iter().fold(0_u64, |mask, node| mask | 1 << (node.index() % 64));
                seen = tree
                    .nodes()
                    .take(node.index() + 1)
                    .filter(|n| mask >> (n.index() % 64) & 1 == 1)
                    .collect();
            }
            Bug::DeepAncestorsUnseen => seen.truncate(9),
            Bug::LeafUnseen if tree.is_leaf(node) && tree.leaves() > 1 => drop(seen.remove(0)),
            _ => {}
        }
        seen
    }

    /// The committed tokens that rows see.
    fn past<'a>(&self, cache: &'a [Key]) -> &'a [Key] {
        match self.bug {
            Bug::FirstUnseenBeyond64 if cache.len() > 64 => &cache[1..],
            Bug::WindowOf256 => &cache[cache.len().saturating_sub(256)..],
            _ => cache,
        }
    }

    fn run(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let mut all_keys: Vec<Vec<Key>> = Vec::new();
        let mut rows = Vec::new();
        let first =
            inputs.first().map_or(Ok(0), |input| Ok(self.open[self.index(input.seq)?].cache.len()))?;
        for (input, &TreeInput { seq, tree, rows: wanted }) in inputs.iter().enumerate() {
            let sequence = &self.open[self.index(seq)?];
            let keys = self.keys(sequence, tree, first);
            for node in wanted.nodes(tree.len()) {
                let mut sum = self.past(&sequence.cache).iter().copied().map(hash).fold(0, u64::wrapping_add);
                for node in self.seen(tree, NodeId::new(node)) {
                    sum = sum.wrapping_add(hash(keys[node.index()]));
                }
                if self.bug == Bug::NeighboursSeen {
                    sum = all_keys.iter().flatten().copied().map(hash).fold(sum, u64::wrapping_add);
                }
                rows.push((Row { input, node }, logits(sum, self.limits.vocab)));
            }
            all_keys.push(keys);
        }
        self.shuffle(&mut rows, inputs.len());
        if let Some((_, row)) = rows.last_mut().filter(|_| self.poisoned) {
            row[3] = if self.bug == Bug::NanIsLow { -1e9 } else { f32::NAN };
        }
        top.reset(inputs, self.limits.vocab);
        for (index, (row, logits)) in rows.iter().enumerate() {
            top.set_from_logits(*row, logits)?;
            self.spoil(top, index, *row);
        }
        match self.bug {
            Bug::StaleRowsReadable => self.rows.retain(|(row, _)| rows.iter().all(|(new, _)| new != row)),
            Bug::StaleRowsReused if self.rows.len() == rows.len() => rows.clear(),
            _ => self.rows.clear(),
        }
        self.rows.extend(rows);
        if self.bug == Bug::PassDropsOthers {
            self.open.iter_mut().for_each(|sequence| sequence.pending = None);
        }
        for (input, keys) in inputs.iter().zip(all_keys) {
            let index = self.index(input.seq)?;
            let pending = &mut self.open[index].pending;
            if self.bug != Bug::PendingNotReplaced || pending.is_none() {
                *pending = Some((input.tree.clone(), keys));
            }
        }
        Ok(())
    }

    /// Bugs in the order of rows.
    fn shuffle(&self, rows: &mut [(Row, Vec<f32>)], inputs: usize) {
        let places: Vec<Row> = rows.iter().map(|(row, _)| *row).collect();
        let mut order: Vec<usize> = (0..rows.len()).collect();
        match self.bug {
            Bug::RowsReversed => order.reverse(),
            Bug::InputsReversed if inputs > 1 => order.sort_by_key(|&at| usize::MAX - places[at].input),
            _ => return,
        }
        let shuffled: Vec<Vec<f32>> = order.iter().map(|&at| rows[at].1.clone()).collect();
        rows.iter_mut().zip(shuffled).for_each(|(row, logits)| row.1 = logits);
    }

    /// Bugs in the ranking of a row.
    fn spoil(&self, top: &mut TopK, index: usize, row: Row) {
        match (self.bug, top.candidates_mut(index)) {
            (Bug::LastCandidatesSwapped, (ids @ [_, _, ..], best)) => {
                let last = ids.len() - 1;
                ids.swap(last, last - 1);
                best.swap(last, last - 1);
            }
            (Bug::SumOfCandidates, _) => {
                let best = top.get(row).map_or(&[][..], |row| row.logits);
                top.set_log_sum_exp(index, upcycle_core::top::log_sum_exp(best));
            }
            _ => {}
        }
    }

    /// The nodes of `tree` that a commit of `path` keeps.
    fn kept(&mut self, tree: &DraftTree, path: &[NodeId]) -> Vec<NodeId> {
        self.commits += 1;
        let mut kept = path.to_vec();
        match self.bug {
            Bug::CommitKeepsFirstRows => kept = (0..path.len()).map(NodeId::new).collect(),
            Bug::CommitKeepsNextNode => {
                let next = path.last().map(|last| NodeId::new((last.index() + 1).min(tree.len() - 1)));
                kept = std::iter::successors(next, |&node| tree.parent(node)).collect();
                kept.reverse();
            }
            Bug::CommitKeepsAll if !path.is_empty() => kept = tree.nodes().collect(),
            Bug::CommitLosesLast if path.len() > 1 => drop(kept.pop()),
            Bug::TenthCommitLosesLast if self.commits.is_multiple_of(10) => drop(kept.pop()),
            Bug::CommitReversesPath => kept.reverse(),
            _ => {}
        }
        kept
    }

    fn keep(&mut self, index: usize, path: &[NodeId]) {
        let Some((tree, keys)) = self.open[index].pending.take() else { return };
        let start = self.open[index].cache.len() as u64;
        let kept = self.kept(&tree, path);
        let sequence = &mut self.open[index];
        if self.bug == Bug::CommitReversesPath {
            let tokens = kept.iter().map(|node| keys[node.index()].1);
            sequence.cache.extend((start..).zip(tokens));
        } else {
            sequence.cache.extend(kept.iter().map(|node| keys[node.index()]));
        }
        let stays = match self.bug {
            Bug::CommitLeavesPending => !path.is_empty(),
            Bug::EmptyCommitLeavesPending => path.is_empty(),
            _ => false,
        };
        if stays {
            sequence.pending = Some((tree, keys));
        }
    }

    fn check_paths(&self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        check_commits(commits, |seq| {
            let pending = &self.open[self.index(seq)?].pending;
            Ok(pending.as_ref().ok_or(VerifyError::NothingToCommit { seq })?.0.parents())
        })
    }
}

fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    let x = (x ^ (x >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    x ^ (x >> 33)
}

fn hash((position, token): Key) -> u64 {
    mix(mix(position + 1) ^ u64::from(token))
}

/// The logits of a row that sees keys with this sum. Every key changes all of them.
fn logits(sum: u64, vocab: usize) -> Vec<f32> {
    (0..vocab as u64).map(|token| (mix(sum ^ mix(token)) >> 40) as f32 / (1 << 20) as f32).collect()
}

impl Verifier for Planted {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        let max = self.limits.max_seqs;
        if self.open.len() >= max + usize::from(self.bug == Bug::OneSequenceTooMany) {
            return Err(VerifyError::TooManySequences { max });
        }
        let closed = self.closed.pop();
        let cache = match (self.bug, &closed) {
            (Bug::CloseLeavesCache, Some(closed)) => closed.cache.clone(),
            _ => Vec::new(),
        };
        let id = match (self.bug, closed) {
            (Bug::IdsReused, Some(closed)) => closed.id,
            _ => SeqId::new(self.next_id),
        };
        self.next_id += 1;
        self.open.push(Sequence { id, cache, cut: 0, pending: None });
        Ok(id)
    }

    fn close(&mut self, seq: SeqId) {
        let Ok(index) = self.index(seq) else { return };
        let index = if self.bug == Bug::NewestClosed { self.open.len() - 1 } else { index };
        let sequence = self.open.remove(index);
        self.closed.push(sequence);
    }

    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let result = match self.check(inputs) {
            Ok(()) => self.run(inputs, top),
            refused => refused,
        };
        if result.is_err() && self.bug == Bug::RefusedPassDropsPending {
            for input in inputs {
                if let Ok(index) = self.index(input.seq) {
                    self.open[index].pending = None;
                }
            }
        }
        result
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        let mut found = self.rows.iter().find(|(other, _)| *other == row);
        if let (Bug::RowsReadByNode, Some(_)) = (self.bug, found) {
            found = self.rows.get(row.node.min(self.rows.len() - 1));
        }
        found.map(|(_, logits)| &logits[..]).ok_or(VerifyError::NoSuchRow { row })
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        if self.bug == Bug::RefusedCommitKeepsFirst && commits.len() > 1 {
            for &commit in commits {
                self.check_paths(&[commit])?;
                self.keep(self.index(commit.seq)?, commit.path);
            }
            return Ok(());
        }
        self.check_paths(commits)?;
        if commits.len() > 1 && std::mem::take(&mut self.fails) {
            match self.bug {
                Bug::FailedCommitKeepsFirst => self.keep(self.index(commits[0].seq)?, commits[0].path),
                Bug::FailedCommitDropsPending => {
                    for commit in commits {
                        let index = self.index(commit.seq)?;
                        self.open[index].pending = None;
                    }
                }
                _ => {}
            }
            return Err(VerifyError::backend("planted", "commit", "it was told to fail here"));
        }
        for (at, commit) in commits.iter().enumerate() {
            let mut path = commit.path;
            if self.bug == Bug::CommitsSwapped {
                path = commits[(at + 1) % commits.len()].path;
                let len =
                    self.open[self.index(commit.seq)?].pending.as_ref().map_or(0, |(tree, _)| tree.len());
                if path.iter().any(|node| node.index() >= len) {
                    path = commit.path;
                }
            }
            self.keep(self.index(commit.seq)?, path);
        }
        Ok(())
    }

    fn can_fork(&self) -> bool {
        true
    }

    fn fork(&mut self, seq: SeqId, len: usize) -> Result<SeqId, VerifyError> {
        let index = self.index(seq)?;
        let committed = self.open[index].cache.len();
        if len > committed {
            return Err(VerifyError::TruncateBeyond { seq, committed, len });
        }
        let id = self.open()?;
        let original = &mut self.open[index];
        let kept = if self.bug == Bug::ForkKeepsOne { (len + 1).min(committed) } else { len };
        let cache = original.cache[..kept].to_vec();
        match self.bug {
            Bug::ForkCutsOriginal => original.cache.truncate(len),
            Bug::ForkDropsPending => original.pending = None,
            _ => {}
        }
        let forked = self.index(id)?;
        self.open[forked].cache = cache;
        Ok(id)
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        let index = self.index(seq)?;
        let sequence = &mut self.open[index];
        let committed = sequence.cache.len();
        if len > committed {
            return Err(VerifyError::TruncateBeyond { seq, committed, len });
        }
        let kept = match self.bug {
            Bug::TruncateKeepsOne => (len + 1).min(committed),
            Bug::TruncateToZeroIgnored if len == 0 => committed,
            _ => len,
        };
        sequence.cut += (committed - kept) as u64;
        sequence.cache.truncate(kept);
        if self.bug != Bug::TruncateLeavesPending {
            sequence.pending = None;
        }
        Ok(())
    }
}
