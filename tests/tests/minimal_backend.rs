//! The smallest backend: one attention layer over made-up weights, with a cache. `docs/adding-a-backend.md` quotes it.

use upcycle_core::tree_masks::{AncestorSets, positions};
use upcycle_core::{
    Commit, Limits, NodeId, Row, SeqId, SequenceTable, Support, TokenId, TopK, TreeInput, Verifier,
    VerifyError,
};
use upcycle_testkit::Subject;

const VOCAB: usize = 50;
const WIDTH: usize = 8;

/// The cached row of a token: its key, which is its value too.
type Key = [f32; WIDTH];

/// One layer. A token's key is its embedding rotated by its position, and the head is the embedding again.
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
    sequences: SequenceTable<Keys>,
    /// The logits of the rows that were requested from the last forward.
    logits: Vec<Vec<f32>>,
    sets: AncestorSets,
    positions: Vec<u32>,
}

/// The cache of a sequence.
#[derive(Default)]
struct Keys {
    committed: Vec<Key>,
    /// The keys of the pending tree.
    pending: Vec<Key>,
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
            sequences: SequenceTable::new(limits),
            logits: Vec::new(),
            sets: AncestorSets::default(),
            positions: Vec::new(),
        }
    }
}

impl Verifier for Minimal {
    fn limits(&self) -> &Limits {
        self.sequences.limits()
    }

    fn open(&mut self) -> Result<SeqId, VerifyError> {
        self.sequences.open(Keys::default())
    }

    fn close(&mut self, seq: SeqId) {
        self.sequences.close(seq);
    }

    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        self.sequences.begin_pass(inputs)?;
        self.logits.clear();
        let mut new_keys = Vec::new();
        for input in inputs {
            let committed = &self.sequences.get(input.seq)?.state.committed;
            self.sets.rebuild(input.tree);
            positions(input.tree, committed.len(), &mut self.positions);
            let tokens = input.tree.tokens().iter().zip(&self.positions);
            let keys: Vec<Key> = tokens.map(|(&token, &at)| self.model.key(token, at)).collect();
            for node in input.rows.nodes(input.tree.len()) {
                // Parents come before their children, so node order is the order of positions along a path.
                let path = (0..=node).filter(|&a| self.sets.contains(NodeId::new(node), NodeId::new(a)));
                let seen = committed.iter().chain(path.map(|a| &keys[a]));
                self.logits.push(self.model.logits(&keys[node], seen));
            }
            new_keys.push(keys);
        }
        top.reset(inputs, VOCAB);
        for (row, logits) in self.sequences.rows().iter().zip(&self.logits) {
            top.set_from_logits(row, logits)?;
        }
        for (input, keys) in inputs.iter().zip(new_keys) {
            self.sequences.get_mut(input.seq)?.state.pending = keys;
        }
        self.sequences.finish_pass(inputs);
        Ok(())
    }

    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        Ok(&self.logits[self.sequences.row_index(row)?])
    }

    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        self.sequences.commit(commits, |keys, kept| {
            keys.committed.extend(kept.path.iter().map(|node| keys.pending[node.index()]));
        })
    }

    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        self.sequences.truncate(seq, len, |sequence| {
            sequence.state.committed.truncate(len);
            Ok(())
        })
    }
}

upcycle_testkit::conformance! {
    mod minimal;
    subject: || Subject::new(|| Minimal::new(1.0)).not_finite(|| Minimal::new(f32::NAN)),
    exempt: [],
}

/// Each block of Rust on the page stands in this file or in the example that registers a backend, whatever its indentation.
#[test]
fn the_page_quotes_code_that_is_tested() {
    let lines = |text: &'static str| text.lines().map(str::trim).filter(|line| !line.is_empty());
    let code: Vec<&str> = lines(include_str!("minimal_backend.rs"))
        .chain(lines(include_str!("../../crates/cli/examples/own_parts.rs")))
        .collect();
    let page = include_str!("../../docs/adding-a-backend.md");
    let blocks: Vec<&str> =
        page.split("```rust").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 6, "{} blocks", blocks.len());
    for block in blocks {
        let quoted: Vec<&str> = lines(block).collect();
        assert!(code.windows(quoted.len()).any(|part| part == quoted), "not in the files:\n{block}");
    }
}
