//! A verifier without a model, too simple to be wrong.

use std::error::Error;
use std::fmt;

use upcycle_core::{
    Commit, Limits, Row, RowSelection, SeqId, Support, TokenId, TopK, TreeInput, Verifier, VerifyError,
    check_commits,
};

use crate::attention::{Attention, Seen, ancestors};
use crate::rng::mix;

/// A failure that a [`NaiveVerifier`] is told to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A `forward` fails as an engine would.
    Forward,
    /// A `commit` fails as an engine would.
    Commit,
    /// A read of a row fails as an engine would.
    Logits,
    /// The last row that a `forward` was asked for holds a NaN.
    NotFinite,
}

/// An exact, fast verifier without a model: a row's logits are a pure function of the seed and of every token that
/// the row attends to, with its position. Whatever a backend may get wrong (a mask bit, a position, a slot) changes
/// all of a row's logits, and whatever it gets right gives the same bits.
///
/// To be worth drafting for, its text is partly predictable: [`predictability`](Self::with_predictability) is the
/// share of a logit that depends on the last token alone, as a bigram does.
///
/// A pass costs O(rows * (context + vocab)); once warm it allocates nothing.
///
/// ```
/// use upcycle_core::{DraftTree, RowSelection, TreeInput, TopK, Verifier};
/// use upcycle_testkit::NaiveVerifier;
///
/// let mut model = NaiveVerifier::new(64, 1);
/// let seq = model.open()?;
/// let mut top = TopK::new(4);
/// model.forward(&[TreeInput { seq, tree: &DraftTree::chain(&[1, 2, 3]), rows: RowSelection::Last }], &mut top)?;
/// assert_eq!(top.rows(), 1);
/// # Ok::<(), upcycle_core::VerifyError>(())
/// ```
#[derive(Clone, Debug)]
pub struct NaiveVerifier {
    seed: u64,
    predictability: f32,
    limits: Limits,
    attention: Attention,
    sequences: Vec<Sequence>,
    opened: u64,
    /// Of the last forward: each step's rows asked for, and the state behind each of its nodes.
    passes: Vec<(RowSelection, usize)>,
    states: Vec<State>,
    seen: Vec<Seen>,
    row: Vec<f32>,
    failures: Vec<(Failure, usize)>,
    forwards: usize,
    commits: usize,
    reads: usize,
}

#[derive(Clone, Debug)]
struct Sequence {
    seq: SeqId,
    tokens: Vec<TokenId>,
    /// The tree of the last forward, until it is committed or dropped.
    drafted: Vec<TokenId>,
    parents: Vec<u32>,
    scored: bool,
}

/// All that a row's logits depend on.
#[derive(Clone, Copy, Debug)]
struct State {
    path: u64,
    last: TokenId,
    poisoned: bool,
}

impl NaiveVerifier {
    /// A model of `vocab` tokens; another `seed` is another model. Limits: a context of 1024, 512 rows and leaves,
    /// 64 sequences, any tree.
    #[must_use]
    pub fn new(vocab: usize, seed: u64) -> Self {
        let limits = Limits {
            vocab,
            max_context: 1024,
            max_rows: 512,
            max_leaves: 512,
            max_seqs: 64,
            support: Support::Tree,
        };
        Self {
            seed: mix(seed),
            predictability: 0.8,
            limits,
            attention: ancestors,
            sequences: Vec::new(),
            opened: 0,
            passes: Vec::new(),
            states: Vec::new(),
            seen: Vec::new(),
            row: Vec::new(),
            failures: Vec::new(),
            forwards: 0,
            commits: 0,
            reads: 0,
        }
    }

    /// The share of a logit that depends on the last token alone, in 0..=0.95: the rest always depends on the whole
    /// path, or no law could see a fault. 0.8 unless set.
    #[must_use]
    pub fn with_predictability(mut self, share: f32) -> Self {
        self.predictability = share.clamp(0.0, 0.95);
        self
    }

    /// Other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Another context, in tokens.
    #[must_use]
    pub fn with_max_context(mut self, tokens: usize) -> Self {
        self.limits.max_context = tokens;
        self
    }

    /// Another limit of rows (and leaves) of a pass.
    #[must_use]
    pub fn with_max_rows(mut self, rows: usize) -> Self {
        self.limits.max_rows = rows;
        self.limits.max_leaves = rows;
        self
    }

    /// Another limit of open sequences.
    #[must_use]
    pub fn with_max_seqs(mut self, sequences: usize) -> Self {
        self.limits.max_seqs = sequences;
        self
    }

    /// Other trees.
    #[must_use]
    pub fn with_support(mut self, support: Support) -> Self {
        self.limits.support = support;
        self
    }

    /// Another mask, to break it: see [`broken`](crate::broken).
    #[must_use]
    pub fn with_attention(mut self, attention: Attention) -> Self {
        self.attention = attention;
        self
    }

    /// Has `failure` at the `call`-th `forward` (or `commit`, or `logits`), counted from 0. May be called again for more.
    #[must_use]
    pub fn failing(mut self, failure: Failure, call: usize) -> Self {
        self.failures.push((failure, call));
        self
    }

    /// The passes run so far, failed and refused ones included.
    #[must_use]
    pub fn forwards(&self) -> usize {
        self.forwards
    }

    /// The committed tokens of a sequence; none if it is not open.
    #[must_use]
    pub fn committed(&self, seq: SeqId) -> Option<&[TokenId]> {
        self.sequences.iter().find(|sequence| sequence.seq == seq).map(|sequence| &sequence.tokens[..])
    }

    /// The logits, `[vocab]`, after the whole of `tokens`: what every law comes down to. Empty tokens give empty
    /// logits.
    #[must_use]
    pub fn logits_after(&self, tokens: &[TokenId]) -> Vec<f32> {
        let seen = (0..).zip(tokens).map(|(position, &token)| Seen { position, token });
        let mut row = Vec::new();
        if let Some(&last) = tokens.last() {
            self.fill(State { path: self.fold(self.seed, seen), last, poisoned: false }, &mut row);
        }
        row
    }

    fn fold(&self, start: u64, seen: impl Iterator<Item = Seen>) -> u64 {
        seen.fold(start, |path, Seen { position, token }| {
            mix(path ^ mix(position ^ self.seed).wrapping_add(u64::from(token)))
        })
    }

    fn fill(&self, state: State, row: &mut Vec<f32>) {
        let bigram = mix(self.seed ^ mix(u64::from(state.last) + 1));
        let share = self.predictability;
        row.clear();
        row.extend(
            (0..self.limits.vocab as u64).map(|token| {
                share * tail(mix(bigram ^ token)) + (1.0 - share) * tail(mix(state.path ^ token))
            }),
        );
        if let (true, Some(middle)) = (state.poisoned, row.len().checked_div(2)) {
            row[middle] = f32::NAN;
        }
    }

    fn is_due(&self, failure: Failure, call: usize) -> bool {
        self.failures.contains(&(failure, call))
    }

    fn place(&self, seq: SeqId) -> Result<usize, VerifyError> {
        let found = self.sequences.iter().position(|sequence| sequence.seq == seq);
        found.ok_or(VerifyError::UnknownSequence { seq })
    }

    /// Scores every node of `steps` into `states`; changes no sequence.
    fn score(&mut self, steps: &[TreeInput<'_>], poisoned: bool) {
        for (index, step) in steps.iter().enumerate() {
            let prefix = self.committed(step.seq).unwrap_or_default();
            let seen = (0..).zip(prefix).map(|(position, &token)| Seen { position, token });
            let (start, prefix_len) = (self.fold(self.seed, seen), prefix.len());
            for node in step.tree.nodes() {
                let mut seen = std::mem::take(&mut self.seen);
                seen.clear();
                (self.attention)(step.tree, node, prefix_len, &mut seen);
                let path = self.fold(start, seen.iter().copied());
                self.seen = seen;
                let is_last = index + 1 == steps.len() && node.index() + 1 == step.tree.len();
                let last = step.tree.tokens()[node.index()];
                self.states.push(State { path, last, poisoned: poisoned && is_last });
            }
            self.passes.push((step.rows, step.tree.len()));
        }
    }

    fn rank(&mut self, top: &mut TopK) -> Result<(), VerifyError> {
        let mut row = std::mem::take(&mut self.row);
        let mut result = Ok(());
        let mut first = 0;
        'steps: for (step, &(_, len)) in self.passes.iter().enumerate() {
            for node in top.nodes(step) {
                self.fill(self.states[first + node], &mut row);
                result = top.rank(Row { input: step, node }, &row);
                if result.is_err() {
                    break 'steps;
                }
            }
            first += len;
        }
        self.row = row;
        result
    }
}

/// An exponentially distributed number (in base 2) of random bits: a few tokens of a row stand out, as in a model.
fn tail(bits: u64) -> f32 {
    let high = (bits >> 32) as u32;
    let fraction = (bits & 0xFFFF) as f32 / 65536.0;
    high.leading_zeros() as f32 + fraction
}

impl Verifier for NaiveVerifier {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        if self.sequences.len() >= self.limits.max_seqs {
            return Err(VerifyError::TooManySequences { max: self.limits.max_seqs });
        }
        let seq = SeqId::new(self.opened);
        self.opened += 1;
        // All at once, so that a commit never allocates.
        let tokens = Vec::with_capacity(self.limits.max_context.min(1 << 16));
        self.sequences.push(Sequence {
            seq,
            tokens,
            drafted: Vec::new(),
            parents: Vec::new(),
            scored: false,
        });
        Ok(seq)
    }

    fn close(&mut self, seq: SeqId) {
        self.sequences.retain(|sequence| sequence.seq != seq);
    }

    fn forward(&mut self, steps: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let call = self.forwards;
        self.forwards += 1;
        self.passes.clear();
        self.states.clear();
        self.limits.check_inputs(steps, |seq| self.committed(seq).map(<[TokenId]>::len))?;
        if self.is_due(Failure::Forward, call) {
            return Err(VerifyError::backend("naive", "run a pass", Told));
        }
        self.score(steps, self.is_due(Failure::NotFinite, call));
        top.restart(steps, self.limits.vocab);
        if let Err(error) = self.rank(top) {
            self.passes.clear();
            self.states.clear();
            return Err(error);
        }
        for step in steps {
            let place = self.place(step.seq)?;
            let sequence = &mut self.sequences[place];
            sequence.drafted.clear();
            sequence.drafted.extend_from_slice(step.tree.tokens());
            sequence.parents.clear();
            sequence.parents.extend_from_slice(step.tree.parents());
            sequence.scored = true;
        }
        Ok(())
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        let call = self.reads;
        self.reads += 1;
        if self.is_due(Failure::Logits, call) {
            return Err(VerifyError::backend("naive", "read a row", Told));
        }
        let missing = VerifyError::NoSuchRow { row };
        let Some(&(rows, len)) = self.passes.get(row.input) else { return Err(missing) };
        if !rows.nodes(len).any(|node| node == row.node) {
            return Err(missing);
        }
        let first: usize = self.passes[..row.input].iter().map(|&(_, len)| len).sum();
        let mut out = std::mem::take(&mut self.row);
        self.fill(self.states[first + row.node], &mut out);
        self.row = out;
        Ok(&self.row)
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        let call = self.commits;
        self.commits += 1;
        check_commits(commits, |seq| {
            let sequence = &self.sequences[self.place(seq)?];
            if sequence.scored { Ok(&sequence.parents) } else { Err(VerifyError::NothingToCommit { seq }) }
        })?;
        if self.is_due(Failure::Commit, call) {
            return Err(VerifyError::backend("naive", "commit", Told));
        }
        for commit in commits {
            let place = self.place(commit.seq)?;
            let Sequence { tokens, drafted, scored, .. } = &mut self.sequences[place];
            tokens.extend(commit.path.iter().map(|node| drafted[node.index()]));
            *scored = false;
        }
        Ok(())
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        let place = self.place(seq)?;
        let sequence = &mut self.sequences[place];
        let committed = sequence.tokens.len();
        if len > committed {
            return Err(VerifyError::TruncateBeyond { seq, committed, len });
        }
        sequence.tokens.truncate(len);
        sequence.scored = false;
        Ok(())
    }
}

/// The error behind a [`Failure`].
#[derive(Debug)]
struct Told;

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was told to fail here")
    }
}

impl Error for Told {}
