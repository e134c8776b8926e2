//! The adjacency matrix against a map, and its snapshot against all kinds of damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use upcycle_core::{AdjacencyMatrix, Candidates, Fingerprint, MatrixError, SnapshotError, TokenId};

const FINGERPRINT: Fingerprint = [7; 32];

#[derive(Clone, Debug)]
enum Op {
    Update(TokenId, Vec<TokenId>, Option<Vec<f32>>),
    Clear,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    // Some tokens are outside the vocabulary.
    let logits = prop::option::of(prop::collection::vec(-20.0_f32..20.0, 0..12));
    let update = (0_u32..35, prop::collection::vec(0_u32..40, 0..12), logits)
        .prop_map(|(token, candidates, logits)| Op::Update(token, candidates, logits));
    prop::collection::vec(prop_oneof![30 => update, 1 => Just(Op::Clear)], 0..60)
}

fn filled(vocab: usize, k: usize, ops: &[Op]) -> (AdjacencyMatrix, BTreeMap<TokenId, Vec<TokenId>>) {
    let mut matrix = AdjacencyMatrix::new(vocab, k).unwrap();
    let mut model = BTreeMap::new();
    for op in ops {
        match op {
            Op::Update(token, candidates, logits) => {
                match logits {
                    Some(logits) => {
                        let candidates = Candidates { ids: candidates, logits, log_sum_exp: None };
                        matrix.update_with_probabilities(*token, &candidates);
                    }
                    None => matrix.update(*token, candidates),
                }
                let known = |token: &TokenId| (*token as usize) < vocab;
                let row: Vec<TokenId> = candidates.iter().copied().filter(known).take(k).collect();
                if row.is_empty() {
                    model.remove(token);
                } else if known(token) {
                    model.insert(*token, row);
                }
            }
            Op::Clear => {
                matrix.clear();
                model.clear();
            }
        }
    }
    (matrix, model)
}

proptest! {
    #[test]
    fn a_matrix_is_a_map_of_rows(vocab in 1_usize..36, k in 1_usize..10, ops in ops()) {
        let (matrix, model) = filled(vocab, k, &ops);
        prop_assert_eq!(matrix.filled_rows(), model.len());
        prop_assert_eq!(matrix.tokens().collect::<Vec<_>>(), model.keys().copied().collect::<Vec<_>>());
        prop_assert_eq!(matrix.bytes(), vocab * k * 5);
        for token in (0..45).chain([TokenId::MAX]) {
            let row = model.get(&token).cloned().unwrap_or_default();
            prop_assert_eq!(matrix.candidates(token).collect::<Vec<_>>(), row.clone());
            for rank in (0..12).chain([usize::MAX]) {
                prop_assert_eq!(matrix.candidate(token, rank), row.get(rank).copied());
            }
        }
    }

    #[test]
    fn a_snapshot_restores_the_matrix(vocab in 1_usize..36, k in 1_usize..10, ops in ops()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("matrix.bin");
        let (matrix, _) = filled(vocab, k, &ops);
        matrix.save(&path, &FINGERPRINT).unwrap();
        prop_assert_eq!(AdjacencyMatrix::load(&path, vocab, k, &FINGERPRINT).unwrap(), matrix);
        // Saving again leaves no other file.
        AdjacencyMatrix::new(vocab, k).unwrap().save(&path, &FINGERPRINT).unwrap();
        prop_assert_eq!(AdjacencyMatrix::load(&path, vocab, k, &FINGERPRINT).unwrap().filled_rows(), 0);
        prop_assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_snapshot_of_another_model_is_refused(ops in ops()) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("matrix.bin");
        filled(20, 4, &ops).0.save(&path, &FINGERPRINT).unwrap();
        let mut other = FINGERPRINT;
        other[31] = 8;
        for (vocab, k, fingerprint, what) in [
            (21, 4, FINGERPRINT, "vocabulary size"),
            (20, 5, FINGERPRINT, "k"),
            (20, 4, other, "tokenizer"),
        ] {
            match AdjacencyMatrix::load(&path, vocab, k, &fingerprint) {
                Err(SnapshotError::Mismatch { what: found, .. }) => prop_assert_eq!(found, what),
                // With another k the file may be too long for any snapshot.
                Err(SnapshotError::Length { .. }) => {}
                found => prop_assert!(false, "{found:?}"),
            }
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), real: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("matrix.bin");
        let bytes = if real { [&b"UPCYMTRX"[..], &bytes].concat() } else { bytes };
        fs::write(&path, bytes).unwrap();
        prop_assert!(AdjacencyMatrix::load(&path, 20, 4, &FINGERPRINT).is_err());
    }
}

#[test]
fn scores_are_the_softmax_over_the_candidates_of_a_row() {
    let mut matrix = AdjacencyMatrix::new(10, 3).unwrap();
    let mut probabilities = |ids: &[TokenId], logits: &[f32]| {
        matrix.update_with_probabilities(4, &Candidates { ids, logits, log_sum_exp: None });
        matrix.probabilities(4).to_vec()
    };
    // Three times as likely as the next: 255 * 9 / 13, 3 / 13, 1 / 13; the fourth has no entry.
    let third = 3.0_f32.ln();
    assert_eq!(probabilities(&[1, 2, 3, 5], &[7.0, 7.0 - third, 7.0 - 2.0 * third, -9.0]), [177, 59, 20]);
    assert_eq!(probabilities(&[1, 2], &[0.0, 0.0]), [128, 128, 0]);
    assert_eq!(probabilities(&[1], &[f32::MIN]), [255, 0, 0]);
    // Probabilities stay unknown with too few logits, with a NaN, and with a candidate outside the vocabulary.
    assert_eq!(probabilities(&[1, 2], &[0.0]), [0, 0, 0]);
    assert_eq!(probabilities(&[1, 2], &[f32::NAN, f32::NAN]), [0, 0, 0]);
    assert_eq!(probabilities(&[1, 99, 2], &[2.0, 1.0, 0.0]), [0, 0, 0]);
    assert_eq!(probabilities(&[], &[]), [0, 0, 0]);
    assert_eq!(probabilities(&[1], &[3.0]), [255, 0, 0]);
    matrix.update(4, &[1]);
    assert_eq!(matrix.probabilities(4), [0, 0, 0], "of another time");
    assert!(matrix.probabilities(10).is_empty());
    matrix.update_with_probabilities(4, &Candidates { ids: &[1], logits: &[3.0], log_sum_exp: None });
    matrix.clear();
    assert_eq!(matrix.probabilities(4), [0, 0, 0]);
}

/// The bytes of a valid snapshot.
fn valid(folder: &Path) -> Vec<u8> {
    let mut matrix = AdjacencyMatrix::new(20, 3).unwrap();
    matrix.update(2, &[4, 5]);
    matrix.update(7, &[1, 2, 3]);
    matrix.update(19, &[19]);
    let path = folder.join("valid.bin");
    matrix.save(&path, &FINGERPRINT).unwrap();
    fs::read(path).unwrap()
}

fn load(folder: &Path, bytes: &[u8]) -> Result<AdjacencyMatrix, SnapshotError> {
    let path = folder.join("changed.bin");
    fs::write(&path, bytes).unwrap();
    AdjacencyMatrix::load(&path, 20, 3, &FINGERPRINT)
}

#[test]
fn a_truncated_or_extended_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = valid(folder.path());
    assert!(load(folder.path(), &bytes).is_ok());
    for len in 0..bytes.len() {
        match load(folder.path(), &bytes[..len]) {
            Err(SnapshotError::NotASnapshot { .. }) => assert!(len < 8),
            Err(SnapshotError::Length { found, .. }) => assert_eq!(found, len as u64),
            found => panic!("{len} bytes: {found:?}"),
        }
    }
    for more in [1, 16, 10_000] {
        let longer = [&bytes[..], &vec![0; more]].concat();
        assert!(matches!(load(folder.path(), &longer), Err(SnapshotError::Length { .. })), "{more}");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = valid(folder.path());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let found = load(folder.path(), &changed);
            let expected = match at {
                0..8 => matches!(found, Err(SnapshotError::NotASnapshot { .. })),
                8..12 => matches!(found, Err(SnapshotError::Version { .. })),
                12..20 => matches!(found, Err(SnapshotError::Mismatch { .. })),
                20..24 => matches!(found, Err(SnapshotError::Length { .. })),
                _ => matches!(found, Err(SnapshotError::Damaged { .. })),
            };
            assert!(expected, "bit {bit} of byte {at}: {found:?}");
        }
    }
}

#[test]
fn invalid_values_are_refused_despite_a_right_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = valid(folder.path());
    let row = |index: usize| 56 + index * 19;
    // (byte, value): a token past the vocabulary, a candidate past it, rows out of order, a row twice, no candidates, a
    // empty entry before one that is not, the probability of an empty entry.
    let damages = [
        (row(2), 20),
        (row(0) + 4, 21),
        (row(1), 1),
        (row(1), 2),
        (row(2) + 4, 0_u32),
        (row(1) + 8, 0),
        (row(2) + 15, 1 << 16),
    ];
    for (at, number) in damages {
        let mut changed = bytes.clone();
        changed[at..at + 4].copy_from_slice(&number.to_le_bytes());
        let body = changed.len() - 4;
        let checksum = crc32fast::hash(&changed[..body]);
        changed[body..].copy_from_slice(&checksum.to_le_bytes());
        let found = load(folder.path(), &changed);
        assert!(matches!(found, Err(SnapshotError::Damaged { .. })), "{number} at {at}: {found:?}");
    }
}

#[test]
fn errors_of_the_system_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no such folder").join("matrix.bin");
    let matrix = AdjacencyMatrix::new(20, 3).unwrap();
    assert!(matches!(matrix.save(&missing, &FINGERPRINT), Err(SnapshotError::Io { .. })));
    let found = AdjacencyMatrix::load(&missing, 20, 3, &FINGERPRINT);
    assert!(matches!(found, Err(SnapshotError::Io { action: "read", .. })), "{found:?}");
}

#[test]
fn sizes_out_of_range_are_refused() {
    assert_eq!(AdjacencyMatrix::new(10, 0), Err(MatrixError::K { k: 0 }));
    assert_eq!(AdjacencyMatrix::new(10, 33), Err(MatrixError::K { k: 33 }));
    assert_eq!(AdjacencyMatrix::new(0, 8), Err(MatrixError::Vocab { vocab: 0 }));
    assert!(matches!(AdjacencyMatrix::new(usize::MAX, 8), Err(MatrixError::Vocab { .. })));
}
