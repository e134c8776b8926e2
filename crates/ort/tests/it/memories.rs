//! Host memory and device memory give the same results for any calls; on the CPU, bit for bit.

use std::sync::Arc;

use fastrand::Rng;
use upcycle_core::{
    Commit, DraftTree, NodeId, Row, RowSelection, SeqId, TopK, TreeInput, TreeLimits, Verifier, VerifyError,
};
use upcycle_onnx::export::WeightType;
use upcycle_ort::{Memory, Model, OrtVerifier, Provider};

use crate::support::{Export, Folder, Tiny, load, overwrite, verifier};

/// A token whose embedding is so large that its normalized row is zero. All logits after it are equal.
const LEVEL: u32 = 1;
/// A token whose embedding is NaN. Every pass with it fails.
const POISON: u32 = 2;

/// A model with such tokens.
fn exported() -> Folder {
    let tiny = Tiny { context: 900, untied: true, poisoned: Some("token_embd.weight"), ..Tiny::default() };
    let folder = tiny.export(WeightType::F32);
    overwrite(&folder, "embedding.weight", 4 * tiny.width * POISON as usize, &f32::NAN.to_le_bytes());
    folder
}

/// A scored row.
#[derive(Debug)]
struct Scored {
    ids: Vec<u32>,
    best: Vec<f32>,
    log_sum_exp: Option<f32>,
    logits: Vec<f32>,
    /// How far a logit may be from the other's. A GPU's libraries choose kernels by the alignment of an operand.
    tolerance: f32,
}

impl PartialEq for Scored {
    fn eq(&self, other: &Self) -> bool {
        let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= self.tolerance);
        let sums = [self, other].map(|row| row.log_sum_exp.unwrap_or_default());
        let tops = [self, other].iter().all(|row| {
            row.ids
                .iter()
                .zip(&row.best)
                .all(|(&id, &best)| row.logits[id as usize].to_bits() == best.to_bits())
        });
        near(&self.logits, &other.logits)
            && near(&self.best, &other.best)
            && near(&sums[..1], &sums[1..])
            && (self.tolerance > 0.0 || self.ids == other.ids)
            && tops
    }
}

/// Two verifiers of one model that get the same calls.
struct Pair {
    both: [OrtVerifier; 2],
    vocab: u32,
}

impl Pair {
    fn new(model: &Arc<Model>) -> Self {
        let both = [Memory::Host, Memory::Device].map(|memory| verifier(model, memory));
        Self { both, vocab: model.vocab() as u32 }
    }

    /// Makes the same call to both, and compares their results.
    fn same<T: PartialEq + std::fmt::Debug>(
        &mut self,
        mut call: impl FnMut(&mut OrtVerifier) -> Result<T, VerifyError>,
    ) -> Option<T> {
        let [host, device] =
            self.both.each_mut().map(|verifier| call(verifier).map_err(|error| error.to_string()));
        assert_eq!(host, device);
        host.ok()
    }

    /// Scores trees. Returns whether both succeeded.
    fn forward(&mut self, inputs: &[TreeInput<'_>], k: usize, sums: bool) -> bool {
        let new = || if sums { TopK::new(k).with_log_sum_exp() } else { TopK::new(k) };
        let exact = self.both[0].model().provider() == Provider::Cpu;
        let tolerance = if exact { 0.0 } else { self.both[0].row_tolerance() };
        let scored = self.same(|verifier| {
            let mut top = new();
            verifier.forward(inputs, &mut top)?;
            let mut rows = Vec::new();
            for (number, input) in inputs.iter().enumerate() {
                for node in input.rows.nodes(input.tree.len()) {
                    let row = Row { input: number, node };
                    let candidates = top.get(row).expect("it was asked for");
                    let logits = verifier.logits(row)?.to_vec();
                    rows.push(Scored {
                        ids: candidates.ids.to_vec(),
                        best: candidates.logits.to_vec(),
                        log_sum_exp: candidates.log_sum_exp,
                        logits,
                        tolerance,
                    });
                }
            }
            Ok(rows)
        });
        scored.is_some()
    }
}

/// A tree of up to `most` nodes; sometimes a chain.
fn grown(random: &mut Rng, vocab: u32, most: usize) -> DraftTree {
    let mut token = || match random.usize(..10) {
        0 => LEVEL,
        _ => 3 + random.u32(..vocab - 3),
    };
    let tokens: Vec<u32> = (0..most).map(|_| token()).collect();
    let nodes = 1 + random.usize(..most);
    if random.usize(..3) == 0 {
        return DraftTree::chain(&tokens[..nodes]);
    }
    let mut tree = DraftTree::new();
    tree.reset(tokens[0], TreeLimits::UNBOUNDED);
    for &token in &tokens[1..nodes] {
        let parent = NodeId::new(random.usize(..tree.len()));
        // An existing sibling is returned.
        let _ = tree.push(parent, token, None);
    }
    tree
}

/// A path from the root to a random node.
fn path(random: &mut Rng, tree: &DraftTree) -> Vec<NodeId> {
    let mut path = vec![NodeId::new(random.usize(..tree.len()))];
    while let Some(&node) = path.last().filter(|&&node| node != NodeId::ROOT) {
        path.push(NodeId::new(tree.parents()[node.index()] as usize));
    }
    path.reverse();
    path
}

#[test]
fn both_memories_agree_after_any_calls() {
    let folder = exported();
    let model = load(&folder.path);
    for seed in 0..4 {
        let mut random = Rng::with_seed(seed);
        let mut pair = Pair::new(&model);
        let vocab = pair.vocab;
        let mut open: Vec<SeqId> = Vec::new();
        let mut failures = 0;
        for _ in 0..150 {
            if open.len() < 3 && random.usize(..8) == 0 || open.is_empty() {
                open.extend(pair.same(OrtVerifier::open));
            }
            // Sometimes long ones, so that caches grow, also while rows are pending.
            let most = if random.usize(..6) == 0 { 90 } else { 12 };
            let trees: Vec<DraftTree> = open.iter().map(|_| grown(&mut random, vocab, most)).collect();
            let inputs: Vec<TreeInput<'_>> = open
                .iter()
                .zip(&trees)
                .map(|(&seq, tree)| TreeInput {
                    seq,
                    tree,
                    rows: [RowSelection::All, RowSelection::Last, RowSelection::Every(4)][random.usize(..3)],
                })
                .collect();
            let k = 1 + random.usize(..9);
            let sums = random.usize(..4) == 0;
            let scored = pair.forward(&inputs, k, sums);
            // Another pass while rows are pending: one that is not committed, and one that fails.
            let again = random.usize(..4);
            if scored && again == 0 {
                let poisoned = DraftTree::chain(&[5, POISON, 6]);
                let input = TreeInput { seq: open[0], tree: &poisoned, rows: RowSelection::All };
                assert!(!pair.forward(&[input], k, false), "the poison was not seen");
                failures += 1;
            }
            if scored && again == 1 {
                assert!(pair.forward(&inputs, k, false));
                assert!(pair.forward(&inputs, k, false));
            }
            let paths: Vec<Vec<NodeId>> = trees.iter().map(|tree| path(&mut random, tree)).collect();
            let commits: Vec<Commit<'_>> =
                open.iter().zip(&paths).map(|(&seq, path)| Commit { seq, path }).collect();
            pair.same(|verifier| verifier.commit(&commits));
            let chosen = open[random.usize(..open.len())];
            let committed = pair.same(|verifier| Ok(verifier.committed(chosen)));
            let chance = random.usize(..12);
            let committed = committed.flatten().unwrap_or(0);
            if chance == 0 {
                pair.both.iter_mut().for_each(|verifier| verifier.close(chosen));
            } else if chance < 3 {
                let len = random.usize(..committed + 2);
                pair.same(|verifier| verifier.truncate(chosen, len));
            } else if committed > 700 {
                pair.same(|verifier| verifier.truncate(chosen, 3));
            }
            open.retain(|&seq| pair.both[0].committed(seq).is_some());
        }
        assert!(failures > 10, "only {failures} passes failed");
    }
}

#[test]
fn pending_rows_survive_a_pass_that_grows_the_cache_and_fails() {
    let folder = exported();
    let mut pair = Pair::new(&load(&folder.path));
    let seq = pair.same(OrtVerifier::open).expect("room for one");
    let tree = DraftTree::chain(&[7, 8, 9, 10].repeat(50));
    let input = |tree| TreeInput { seq, tree, rows: RowSelection::Last };
    assert!(pair.forward(&[input(&tree)], 3, false));
    let poisoned = DraftTree::chain(&[POISON; 100]);
    assert!(!pair.forward(&[input(&poisoned)], 3, false));
    let path: Vec<NodeId> = tree.nodes().collect();
    pair.same(|verifier| verifier.commit(&[Commit { seq, path: &path }])).expect("rows wait");
    assert!(pair.forward(&[input(&DraftTree::chain(&[11]))], 3, false));
    // A second commit finds no rows.
    pair.same(|verifier| verifier.truncate(seq, 3)).expect("more are committed");
    assert_eq!(pair.same(|verifier| verifier.commit(&[Commit { seq, path: &path }])), None);
}
