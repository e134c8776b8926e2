//! Drafting and learning.

use std::cell::RefCell;

use divan::Bencher;
use upcycle::{ConfigBuilder, DrafterConfig, Registry};
use upcycle_core::{
    AdjacencyMatrix, DraftContext, DraftTree, Drafter, SeqId, TokenId, TokenRecycling, TreeLimits,
    TreeTemplate,
};

use crate::VOCABS;
use crate::language::K;
use crate::reading::{PAPER, Pass, Reading};

/// Steps that a drafter has learned from, each of 81 rows.
const WARM: u32 = 100;

/// Passes that are taken in turn, so that neither branches nor caches know what comes. A sample is all of them: samples
/// are then alike, and long beside the clock's own steps.
pub(crate) const TURNS: u32 = 64;

/// The paper's drafter, at work and warm.
pub(crate) fn recycling(vocab: usize) -> Reading<TokenRecycling> {
    let matrix = AdjacencyMatrix::new(vocab, K).expect("a size in use");
    Reading::new(TokenRecycling::new(matrix, TreeTemplate::paper_80()), vocab).warmed(WARM)
}

/// The mixed drafter's default configuration, with a budget of the paper's size.
fn mixed_config() -> DrafterConfig {
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    for (key, value) in [("drafter.budget", PAPER.to_string().as_str()), ("drafter.prompt_rows", "all")] {
        builder.flag("the benchmark", key, value).expect("a key");
    }
    builder.build().expect("a sound configuration").drafter().clone()
}

/// The mixed drafter as it is configured by default, at work and warm.
fn mixed(vocab: usize) -> Reading<Box<dyn Drafter>> {
    let drafter = mixed_config().build(&Registry::builtin(), vocab, None, None).expect("a size in use");
    Reading::new(drafter, vocab).warmed(WARM)
}

/// The paper's tree, and the eight best of its nodes.
#[divan::bench(args = [PAPER, 8], sample_size = TURNS)]
fn draft_recycling(bencher: Bencher<'_, '_>, nodes: usize) {
    let mut reading = recycling(VOCABS[0]);
    let roots: Vec<TokenId> = reading.passes(TURNS).iter().map(|pass| pass.tree.tokens()[0]).collect();
    let mut drafter = reading.drafter;
    let mut tree = DraftTree::new();
    let mut turns = roots.iter().cycle();
    bencher.bench_local(|| {
        // It looks at the tree's root alone.
        let root = turns.next().copied().unwrap_or_default();
        tree.reset(root, TreeLimits { nodes, ..TreeLimits::UNBOUNDED });
        drafter.draft(DraftContext { seq: SeqId::new(1), tokens: &[root] }, &mut tree);
        tree.draft_len()
    });
}

/// By vocabulary and draft nodes. Each draft follows a real step, since it also takes in the tokens of the last one.
#[divan::bench(
    args = [(VOCABS[0], 8), (VOCABS[0], 32), (VOCABS[1], 8), (VOCABS[1], 32)],
    sample_size = 1,
    sample_count = 1000,
)]
fn draft_mixed(bencher: Bencher<'_, '_>, (vocab, nodes): (usize, usize)) {
    let reading = RefCell::new(mixed(vocab).with_nodes(nodes));
    reading.borrow_mut().draft();
    bencher
        .with_inputs(|| {
            let mut reading = reading.borrow_mut();
            reading.verify();
            reading.learn();
        })
        .bench_local_values(|()| reading.borrow_mut().draft());
}

/// 81 rows.
#[divan::bench(sample_size = TURNS)]
fn observe_recycling(bencher: Bencher<'_, '_>) {
    observe(bencher, recycling(VOCABS[0]));
}

/// 81 rows, by vocabulary.
#[divan::bench(args = VOCABS, sample_size = TURNS)]
fn observe_mixed(bencher: Bencher<'_, '_>, vocab: usize) {
    observe(bencher, mixed(vocab));
}

fn observe(bencher: Bencher<'_, '_>, mut reading: Reading<impl Drafter>) {
    let passes: Vec<Pass> = reading.passes(TURNS);
    let mut turns = passes.iter().cycle();
    bencher.bench_local(|| {
        if let Some(pass) = turns.next() {
            reading.drafter.observe(&pass.outcome());
        }
    });
}
