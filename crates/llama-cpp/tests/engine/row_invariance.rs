//! `row_invariant`: rows of trees equal those of plain decoding bit for bit, on the real model in three types and on tiny ones.

use std::sync::{Arc, LazyLock};

use fastrand::Rng;
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_core::{
    Commit, DraftTree, NodeId, Row, RowSelection, SeqId, TokenId, TopK, TreeInput, TreeLimits, Verifier,
    VerifyError,
};
use upcycle_llama_cpp::{CacheType, FlashAttention, LlamaVerifier, LoadError, Model, Options};
use upcycle_testkit::Subject;
use upcycle_testkit::tiny::{Tiny, write};

use crate::convert::real_as;
use crate::support::{load, options, real_model, refusal, verifier};

type Shared = LazyLock<Arc<Model>>;

fn row_invariant(n_ctx: u32) -> Options {
    Options { row_invariant: true, threads: 1.try_into().ok(), ..options(n_ctx) }
}

static Q4_1: Shared = LazyLock::new(|| load(&real_model(), &row_invariant(800)));
static Q8_0: Shared = LazyLock::new(|| load(&real_as(GgmlType::Q8_0), &row_invariant(800)));
static F16: Shared = LazyLock::new(|| load(&real_as(GgmlType::F16), &row_invariant(800)));
static TINY: LazyLock<[Arc<Model>; 2]> = LazyLock::new(|| {
    [None, Some("blk.0.ffn_up.weight")].map(|poisoned| {
        load(write(&Tiny { poisoned, ..Tiny::default() }.writer(None)).path(), &row_invariant(160))
    })
});

upcycle_testkit::conformance! {
    mod tiny;
    subject: || Subject::new(|| verifier(&TINY[0])).not_finite(|| verifier(&TINY[1])),
    exempt: [],
}

/// The logits of each row of a pass.
fn score(verifier: &mut LlamaVerifier, seq: SeqId, tree: &DraftTree) -> Result<Vec<Vec<f32>>, VerifyError> {
    verifier.forward(&[TreeInput { seq, tree, rows: RowSelection::All }], &mut TopK::new(1))?;
    (0..tree.len()).map(|node| Ok(verifier.logits(Row { input: 0, node })?.to_vec())).collect()
}

fn best(logits: &[f32]) -> TokenId {
    let best = logits.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.map_or(0, |(token, _)| token as TokenId)
}

/// Continues `prompt` by `len` tokens, row by row. Returns the text and the logits of the rows from the end of the prompt on.
fn plain(model: &Arc<Model>, prompt: &[TokenId], len: usize) -> (Vec<TokenId>, Vec<Vec<f32>>) {
    let mut verifier = verifier(model);
    let seq = verifier.open().expect("room for one");
    let mut text = prompt.to_vec();
    let mut rows = Vec::new();
    for at in 0..prompt.len() + len {
        let tree = DraftTree::chain(&[text[at]]);
        let logits = score(&mut verifier, seq, &tree).expect("a pass").remove(0);
        verifier.commit(&[Commit { seq, path: &[NodeId::ROOT] }]).expect("it waits");
        if at + 1 == text.len() {
            text.push(best(&logits));
        }
        if at + 1 >= prompt.len() {
            rows.push(logits);
        }
    }
    (text, rows)
}

/// A tree with the next tokens of a text among others, in random order, and their path.
fn tree(rng: &mut Rng, next: &[TokenId]) -> (DraftTree, Vec<NodeId>) {
    let mut tree = DraftTree::new();
    tree.reset(next[0], TreeLimits::UNBOUNDED);
    let mut path = vec![NodeId::ROOT];
    let size = rng.usize(next.len()..next.len() + 12);
    while tree.len() < size || path.len() < next.len() {
        if path.len() < next.len() && rng.u8(..3) == 0 {
            let parent = path[path.len() - 1];
            let token = next[path.len()];
            let there = tree.child(parent, token);
            path.push(
                there.unwrap_or_else(|| tree.push(parent, token, None).expect("the tree has no limits")),
            );
        } else {
            let parent = NodeId::new(rng.usize(..tree.len()));
            // A token that is unlikely to be the text's.
            let _ = tree.push(parent, 40_000 + rng.u32(..9_000), None);
        }
    }
    (tree, path)
}

fn bits(rows: &[f32]) -> Vec<u32> {
    rows.iter().map(|logit| logit.to_bits()).collect()
}

/// Twenty prompts, with random trees and commits. One prompt is longer than 512 tokens, where llama.cpp changes its attention for
/// a single row.
#[test]
fn rows_of_trees_equal_plain_decoding_bit_for_bit() {
    for (name, model) in [("Q4_1", &Q4_1), ("Q8_0", &Q8_0), ("F16", &F16)] {
        assert_eq!(verifier(model).row_tolerance(), 0.0);
        let (mut rows, mut rejected) = (0, 0);
        for prompt in 0..20_u64 {
            let mut rng = Rng::with_seed(prompt);
            let len = if name == "Q4_1" && prompt == 19 { 520 } else { rng.usize(2..12) };
            let prompt: Vec<TokenId> = (0..len).map(|_| rng.u32(500..6000)).collect();
            let (text, plain) = plain(model, &prompt, 10);
            let mut verifier = verifier(model);
            let seq = verifier.open().expect("room for one");
            // All but the last token of the prompt, in random chunks.
            let mut at = 0;
            while at + 1 < len {
                let chunk = rng.usize(1..=100).min(len - 1 - at);
                let tree = DraftTree::chain(&text[at..at + chunk]);
                verifier
                    .forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::Last }], &mut TopK::new(1))
                    .expect("a pass");
                verifier
                    .commit(&[Commit { seq, path: &tree.nodes().collect::<Vec<_>>() }])
                    .expect("it waits");
                at += chunk;
            }
            let end = text.len() - 1;
            while at < end {
                let next = &text[at..end.min(at + rng.usize(1..6))];
                let (tree, path) = tree(&mut rng, next);
                let scored = score(&mut verifier, seq, &tree).expect("a pass");
                for (depth, node) in path.iter().enumerate() {
                    let expected = &plain[at + depth - (len - 1)];
                    assert_eq!(
                        bits(&scored[node.index()]),
                        bits(expected),
                        "{name}, row {at} + {depth} of {tree:?}"
                    );
                }
                rejected += tree.len() - path.len();
                rows += path.len();
                verifier.commit(&[Commit { seq, path: &path }]).expect("it waits");
                at += path.len();
            }
        }
        println!(
            "{name}: {rows} accepted rows are bit for bit those of plain decoding, beside {rejected} rejected ones"
        );
    }
}

#[test]
fn row_invariance_refuses_what_it_excludes() {
    let file = write(&Tiny::default().writer(None));
    let off = Options { flash_attn: FlashAttention::Off, ..row_invariant(64) };
    assert!(matches!(refusal(file.path(), &off), LoadError::Options { .. }));
    // Any float types are accepted.
    for (cache_type_k, cache_type_v) in [(CacheType::F32, CacheType::F32), (CacheType::F32, CacheType::F16)] {
        let model = load(file.path(), &Options { cache_type_k, cache_type_v, ..row_invariant(64) });
        assert_eq!(verifier(&model).row_tolerance(), 0.0);
    }
    let mut verifier = verifier(&load(file.path(), &row_invariant(64)));
    assert_eq!(verifier.limits().max_seqs, 1);
    verifier.open().expect("room for one");
    assert!(matches!(verifier.open(), Err(VerifyError::TooManySequences { max: 1 })));
}

/// Passes of every size equal single rows bit for bit.
#[test]
fn the_number_of_rows_does_not_matter() {
    let model = &TINY[0];
    let text: Vec<TokenId> = (0..128).map(|at| at * 7 % 96).collect();
    let mut alone = Vec::new();
    let mut verifier = verifier(model);
    let seq = verifier.open().expect("room for one");
    for &token in &text {
        alone.extend(score(&mut verifier, seq, &DraftTree::chain(&[token])).expect("a pass"));
        verifier.commit(&[Commit { seq, path: &[NodeId::ROOT] }]).expect("it waits");
    }
    for n in 1..=text.len() {
        verifier.truncate(seq, 0).expect("not beyond");
        let rows = score(&mut verifier, seq, &DraftTree::chain(&text[..n])).expect("a pass");
        assert!(rows.iter().zip(&alone).all(|(row, alone)| bits(row) == bits(alone)), "{n} rows");
    }
}
