//! A verifier without a model, too simple to be wrong.

use std::error::Error;
use std::fmt;

use upcycle_core::{
    Commit, Limits, NodeId, Row, SeqId, SequenceTable, Support, TokenId, TopK, TreeInput, Verifier,
    VerifyError,
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
    /// A `commit` of two sequences or more fails at the second, as an engine would. Only such commits are counted.
    SecondCommit,
    /// A read of a row fails as an engine would.
    Logits,
    /// The last requested row of a `forward` holds a NaN.
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
    attention: Attention,
    sequences: SequenceTable<Tokens>,
    /// The states after the rows that were requested from the last forward, in their order.
    states: Vec<State>,
    seen: Vec<Seen>,
    row: Vec<f32>,
    failures: Vec<(Failure, usize)>,
    forwards: usize,
    commits: usize,
    common_commits: usize,
    reads: usize,
}

/// The tokens of a sequence.
#[derive(Clone, Debug)]
struct Tokens {
    committed: Vec<TokenId>,
    /// Those of the tree of the last forward.
    pending: Vec<TokenId>,
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
            attention: ancestors,
            sequences: SequenceTable::new(limits),
            states: Vec::new(),
            seen: Vec::new(),
            row: Vec::new(),
            failures: Vec::new(),
            forwards: 0,
            commits: 0,
            common_commits: 0,
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
        self.sequences = SequenceTable::new(limits);
        self
    }

    /// Another context, in tokens.
    #[must_use]
    pub fn with_max_context(self, tokens: usize) -> Self {
        let limits = Limits { max_context: tokens, ..self.limits().clone() };
        self.with_limits(limits)
    }

    /// Another limit of rows (and leaves) of a pass.
    #[must_use]
    pub fn with_max_rows(self, rows: usize) -> Self {
        let limits = Limits { max_rows: rows, max_leaves: rows, ..self.limits().clone() };
        self.with_limits(limits)
    }

    /// Another limit of open sequences.
    #[must_use]
    pub fn with_max_seqs(self, sequences: usize) -> Self {
        let limits = Limits { max_seqs: sequences, ..self.limits().clone() };
        self.with_limits(limits)
    }

    /// Other trees.
    #[must_use]
    pub fn with_support(self, support: Support) -> Self {
        let limits = Limits { support, ..self.limits().clone() };
        self.with_limits(limits)
    }

    /// Another mask, to break it: see [`broken`](crate::broken).
    #[must_use]
    pub fn with_attention(mut self, attention: Attention) -> Self {
        self.attention = attention;
        self
    }

    /// Has `failure` at the `call`-th call that it concerns (`forward`, `commit` or `logits`), counted from 0. May be called again for more.
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
        self.sequences.get(seq).ok().map(|sequence| &sequence.state.committed[..])
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
            (0..self.limits().vocab as u64).map(|token| {
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

    /// Writes the state after each requested row to `states`. Changes no sequence.
    fn score(&mut self, inputs: &[TreeInput<'_>], poisoned: bool) {
        self.states.clear();
        for (index, input) in inputs.iter().enumerate() {
            let prefix = self.committed(input.seq).unwrap_or_default();
            let seen = (0..).zip(prefix).map(|(position, &token)| Seen { position, token });
            let (start, prefix_len) = (self.fold(self.seed, seen), prefix.len());
            for node in input.rows.nodes(input.tree.len()) {
                let mut seen = std::mem::take(&mut self.seen);
                seen.clear();
                (self.attention)(input.tree, NodeId::new(node), prefix_len, &mut seen);
                let path = self.fold(start, seen.iter().copied());
                self.seen = seen;
                let is_last = index + 1 == inputs.len() && node + 1 == input.tree.len();
                let last = input.tree.tokens()[node];
                self.states.push(State { path, last, poisoned: poisoned && is_last });
            }
        }
    }

    fn rank(&mut self, top: &mut TopK) -> Result<(), VerifyError> {
        let mut logits = std::mem::take(&mut self.row);
        let mut ranked = self.sequences.rows().iter().zip(&self.states).map(|(row, &state)| {
            self.fill(state, &mut logits);
            top.set_from_logits(row, &logits)
        });
        let result = ranked.find(Result::is_err).unwrap_or(Ok(()));
        self.row = logits;
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
        self.sequences.limits()
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        // All at once, so that a commit never allocates.
        let committed = Vec::with_capacity(self.limits().max_context.min(1 << 16));
        self.sequences.open(Tokens { committed, pending: Vec::new() })
    }

    fn close(&mut self, seq: SeqId) {
        self.sequences.close(seq);
    }

    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        let call = self.forwards;
        self.forwards += 1;
        self.sequences.begin_pass(inputs)?;
        if self.is_due(Failure::Forward, call) {
            return Err(VerifyError::backend("naive", "run a pass", Told));
        }
        self.score(inputs, self.is_due(Failure::NotFinite, call));
        top.reset(inputs, self.limits().vocab);
        self.rank(top)?;
        for input in inputs {
            let pending = &mut self.sequences.get_mut(input.seq)?.state.pending;
            pending.clear();
            pending.extend_from_slice(input.tree.tokens());
        }
        self.sequences.finish_pass(inputs);
        Ok(())
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        let call = self.reads;
        self.reads += 1;
        if self.is_due(Failure::Logits, call) {
            return Err(VerifyError::backend("naive", "read a row", Told));
        }
        let index = self.sequences.row_index(row)?;
        let mut logits = std::mem::take(&mut self.row);
        self.fill(self.states[index], &mut logits);
        self.row = logits;
        Ok(&self.row)
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        let fails = self.is_due(Failure::Commit, self.commits);
        let fails_at_second = commits.len() > 1 && self.is_due(Failure::SecondCommit, self.common_commits);
        self.commits += 1;
        self.common_commits += usize::from(commits.len() > 1);
        let mut index = 0;
        self.sequences.prepare_commit(commits, |_, _| {
            index += 1;
            if fails || fails_at_second && index == 2 {
                return Err(VerifyError::backend("naive", "commit", Told));
            }
            Ok(())
        })?;
        self.sequences.commit(commits, |Tokens { committed, pending }, kept| {
            committed.extend(kept.path.iter().map(|node| pending[node.index()]));
        })
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        self.sequences.truncate(seq, len, |sequence| {
            sequence.state.committed.truncate(len);
            Ok(())
        })
    }

    fn can_fork(&self) -> bool {
        true
    }

    fn fork(&mut self, seq: SeqId, len: usize) -> Result<SeqId, VerifyError> {
        let mut committed = Vec::with_capacity(self.limits().max_context.min(1 << 16));
        self.sequences.fork(seq, len, |tokens| {
            committed.extend_from_slice(&tokens.committed[..len]);
            Ok(Tokens { committed, pending: Vec::new() })
        })
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
