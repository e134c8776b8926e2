//! A matrix with all of its rows filled, to disk and back, by vocabulary. Saving waits for the disk.

use divan::Bencher;
use tempfile::TempDir;
use upcycle_core::{AdjacencyMatrix, Fingerprint, TokenId};

use crate::VOCABS;
use crate::language::{K, Language};

const FINGERPRINT: Fingerprint = [7; 32];

fn filled(vocab: usize) -> AdjacencyMatrix {
    let mut matrix = AdjacencyMatrix::new(vocab, K).expect("a size in use");
    for token in 0..vocab as TokenId {
        matrix.update(token, &Language::new(vocab).candidates(0, token));
    }
    matrix
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[divan::bench(args = VOCABS)]
fn save(bencher: Bencher<'_, '_>, vocab: usize) {
    let (matrix, folder) = (filled(vocab), folder());
    let path = folder.path().join("matrix");
    bencher.bench_local(|| matrix.save(&path, &FINGERPRINT).expect("a file in a temporary folder"));
}

#[divan::bench(args = VOCABS)]
fn load(bencher: Bencher<'_, '_>, vocab: usize) {
    let folder = folder();
    let path = folder.path().join("matrix");
    filled(vocab).save(&path, &FINGERPRINT).expect("a file in a temporary folder");
    bencher.bench_local(|| AdjacencyMatrix::load(&path, vocab, K, &FINGERPRINT).expect("what was saved"));
}
