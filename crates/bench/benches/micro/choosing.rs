//! Ranking a row of logits and drawing a token from one, by vocabulary.

use divan::Bencher;
use upcycle_core::{DraftTree, Row, RowSelection, Sampler, Sampling, SamplingConfig, SeqId, TopK, TreeInput};

use crate::VOCABS;
use crate::language::{K, Language};

/// Rows that are taken in turn, more than the nearer caches hold; a sample is all of them.
const TURNS: u32 = 8;

fn rows(vocab: usize) -> Vec<Vec<f32>> {
    (0..TURNS).map(|token| Language::new(vocab).logits(token)).collect()
}

/// The eight best.
#[divan::bench(args = VOCABS, sample_size = TURNS)]
fn top_k(bencher: Bencher<'_, '_>, vocab: usize) {
    let rows = rows(vocab);
    let tree = DraftTree::chain(&[0]);
    let mut top = TopK::new(K);
    top.reset(&[TreeInput { seq: SeqId::new(1), tree: &tree, rows: RowSelection::All }], vocab);
    let mut turns = rows.iter().cycle();
    bencher.bench_local(|| {
        turns.next().map(|logits| top.set_from_logits(Row { input: 0, node: 0 }, logits).expect("finite"))
    });
}

/// Temperature 0.7, top-p 0.95.
#[divan::bench(args = VOCABS, sample_size = TURNS)]
fn sample(bencher: Bencher<'_, '_>, vocab: usize) {
    let rows = rows(vocab);
    let config = SamplingConfig { temperature: 0.7, top_p: 0.95, ..SamplingConfig::default() };
    let mut sampler = Sampler::new(Sampling::new(config).expect("in range"));
    let mut turns = rows.iter().cycle().enumerate();
    bencher
        .bench_local(|| turns.next().map(|(position, logits)| sampler.sample(logits, position, &[]).token));
}
