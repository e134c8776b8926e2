//! The smallest backend there is: one attention layer over made-up weights, with a cache. `docs/adding-a-backend.md`
//! quotes it.

use upcycle_core::tree_masks::{AncestorSets, positions};
use upcycle_core::{
    Commit, Limits, NodeId, Row, SeqId, Support, TokenId, TopK, TreeInput, Verifier, VerifyError,
    check_commits,
};
use upcycle_testkit::Subject;

const VOCAB: usize = 50;
const WIDTH: usize = 8;

/// What the cache keeps of a token, as key and as value.
type Key = [f32; WIDTH];

/// One layer: a token's key is its embedding turned by its position, and the head is the embedding again.
struct Model {
    embedding: Vec<Key>,
}

impl Model {
    /// Made-up weights, all of them times `scale`.
    fn new(scale: f32) -> Self {
        let weight = |token: usize, at: usize| ((token * 37 + at * 101 + 1) as f32).sin() * 2.0 * scale;
        let row = |token| std::array::from_fn(|at| weight(token, at));
        Self { embedding: (0..VOCAB).map(row).collect() }
    }

    fn key(&self, token: TokenId, position: u32) -> Key {
        let [a, b, rest @ ..] = self.embedding[token as usize];
        let (sin, cos) = (position as f32 * 0.7).sin_cos();
        let [c, d, e, f, g, h] = rest;
        [a * cos - b * sin, a * sin + b * cos, c, d, e, f, g, h]
    }

    /// The logits, `[vocab]`, of a row whose key is `own` and that attends to `seen`, itself included, by position.
    fn logits<'a>(&self, own: &Key, seen: impl Iterator<Item = &'a Key>) -> Vec<f32> {
        let (mut sum, mut mixed) = (0.0, [0.0; WIDTH]);
        for key in seen {
            let weight = (dot(own, key) / WIDTH as f32).exp();
            sum += weight;
            for (mixed, value) in mixed.iter_mut().zip(key) {
                *mixed += weight * value;
            }
        }
        let mixed = mixed.map(|value| value / sum);
        self.embedding.iter().map(|row| dot(row, &mixed)).collect()
    }
}

fn dot(a: &Key, b: &Key) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

struct Minimal {
    model: Model,
    limits: Limits,
    open: Vec<Sequence>,
    opened: u64,
    /// The rows that the last forward was asked for, in full.
    rows: Vec<(Row, Vec<f32>)>,
    sets: AncestorSets,
    positions: Vec<u32>,
}

struct Sequence {
    seq: SeqId,
    keys: Vec<Key>,
    pending: Option<Pending>,
}

/// A tree that was scored and is not committed.
struct Pending {
    keys: Vec<Key>,
    parents: Vec<u32>,
}

impl Minimal {
    fn new(scale: f32) -> Self {
        let limits = Limits {
            vocab: VOCAB,
            max_context: 128,
            max_rows: 32,
            max_leaves: 32,
            max_seqs: 4,
            support: Support::Tree,
        };
        Self {
            model: Model::new(scale),
            limits,
            open: Vec::new(),
            opened: 0,
            rows: Vec::new(),
            sets: AncestorSets::default(),
            positions: Vec::new(),
        }
    }

    fn find(&self, seq: SeqId) -> Option<&Sequence> {
        self.open.iter().find(|sequence| sequence.seq == seq)
    }

    fn find_mut(&mut self, seq: SeqId) -> Option<&mut Sequence> {
        self.open.iter_mut().find(|sequence| sequence.seq == seq)
    }
}

impl Verifier for Minimal {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        if self.open.len() == self.limits.max_seqs {
            return Err(VerifyError::TooManySequences { max: self.limits.max_seqs });
        }
        let seq = SeqId::new(self.opened);
        self.opened += 1;
        self.open.push(Sequence { seq, keys: Vec::new(), pending: None });
        Ok(seq)
    }

    fn close(&mut self, seq: SeqId) {
        self.open.retain(|sequence| sequence.seq != seq);
    }

    fn forward(&mut self, steps: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        self.limits.check_inputs(steps, |seq| self.find(seq).map(|sequence| sequence.keys.len()))?;
        let (mut passes, mut rows) = (Vec::new(), Vec::new());
        for (index, step) in steps.iter().enumerate() {
            // Not `find`: the views below are other fields of `self`.
            let found = self.open.iter().find(|sequence| sequence.seq == step.seq);
            let committed = &found.ok_or(VerifyError::UnknownSequence { seq: step.seq })?.keys;
            self.sets.rebuild(step.tree);
            positions(step.tree, committed.len(), &mut self.positions);
            let keys: Vec<Key> = step
                .tree
                .tokens()
                .iter()
                .zip(&self.positions)
                .map(|(&token, &at)| self.model.key(token, at))
                .collect();
            for node in step.rows.nodes(step.tree.len()) {
                // Parents stand before their children, so node order is the order of positions along a path.
                let path = (0..=node).filter(|&a| self.sets.contains(NodeId::new(node), NodeId::new(a)));
                let seen = committed.iter().chain(path.map(|a| &keys[a]));
                rows.push((Row { input: index, node }, self.model.logits(&keys[node], seen)));
            }
            passes.push(Pending { keys, parents: step.tree.parents().to_vec() });
        }
        top.restart(steps, self.limits.vocab);
        for (row, logits) in &rows {
            top.rank(*row, logits)?;
        }
        for (step, pending) in steps.iter().zip(passes) {
            if let Some(sequence) = self.find_mut(step.seq) {
                sequence.pending = Some(pending);
            }
        }
        self.rows = rows;
        Ok(())
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        let found = self.rows.iter().find(|(other, _)| *other == row);
        found.map(|(_, logits)| &logits[..]).ok_or(VerifyError::NoSuchRow { row })
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        check_commits(commits, |seq| {
            let sequence = self.find(seq).ok_or(VerifyError::UnknownSequence { seq })?;
            Ok(&sequence.pending.as_ref().ok_or(VerifyError::NothingToCommit { seq })?.parents)
        })?;
        for commit in commits {
            let Some(sequence) = self.find_mut(commit.seq) else { continue };
            let Some(pending) = sequence.pending.take() else { continue };
            sequence.keys.extend(commit.path.iter().map(|node| pending.keys[node.index()]));
        }
        Ok(())
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        let sequence = self.find_mut(seq).ok_or(VerifyError::UnknownSequence { seq })?;
        let committed = sequence.keys.len();
        if len > committed {
            return Err(VerifyError::TruncateBeyond { seq, committed, len });
        }
        sequence.keys.truncate(len);
        sequence.pending = None;
        Ok(())
    }
}

upcycle_testkit::conformance! {
    mod minimal;
    subject: || Subject::new(|| Minimal::new(1.0)).not_finite(|| Minimal::new(f32::NAN)),
    exempt: [],
}

/// Each block of code of the page stands in this file, line by line, whatever its indentation.
#[test]
fn the_page_quotes_this_file() {
    let lines = |text: &'static str| text.lines().map(str::trim).filter(|line| !line.is_empty());
    let code: Vec<&str> = lines(include_str!("minimal_backend.rs")).collect();
    let page = include_str!("../../docs/adding-a-backend.md");
    let blocks: Vec<&str> =
        page.split("```rust").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 6, "{} blocks", blocks.len());
    for block in blocks {
        let quoted: Vec<&str> = lines(block).collect();
        assert!(code.windows(quoted.len()).any(|part| part == quoted), "not in the file:\n{block}");
    }
}
