//! Models in several files.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use upcycle_checkpoint::gguf::GgufError;
use upcycle_llama_cpp::{LoadError, Vocabulary};
use upcycle_testkit::tiny::{Tiny, write};

use crate::support::{chain, load, logits, options, refusal, verifier};

/// A tiny model in `count` files, in a new folder.
fn parts(tiny: &Tiny, count: u16) -> (TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().expect("a folder");
    let name = |number| folder.path().join(format!("tiny-{number:05}-of-{count:05}.gguf"));
    let paths: Vec<PathBuf> = (1..=count).map(name).collect();
    for (writer, path) in tiny.writer(None).split(count).iter().zip(&paths) {
        fs::write(path, writer.to_bytes().expect("sound")).expect("to write");
    }
    (folder, paths)
}

#[test]
fn a_model_in_parts_equals_the_whole_model() {
    let tiny = Tiny { untied: true, ..Tiny::default() };
    let text = [3, 14, 15, 92, 65, 35];
    let score = |path: &Path| logits(&mut verifier(&load(path, &options(64))), &text);
    let whole = score(write(&tiny.writer(None)).path());
    // The last of these has parts without tensors.
    for count in [1, 2, 3, 40] {
        let (_folder, paths) = parts(&tiny, count);
        assert_eq!(score(&paths[0]), whole, "{count} parts");
        let vocabulary = Vocabulary::load(&paths[0]).expect("the first part has it");
        assert_eq!(vocabulary.pieces().len(), tiny.vocab);
    }
}

#[test]
fn a_missing_part_is_named_with_the_reason_of_llama_cpp() {
    let (_folder, paths) = parts(&Tiny::default(), 3);
    fs::remove_file(&paths[1]).expect("it is there");
    let vocabulary = Vocabulary::load(&paths[0]).expect_err("a part is missing");
    for error in [refusal(&paths[0], &options(64)), vocabulary] {
        assert!(chain(&error).contains("tiny-00002-of-00003.gguf is missing"), "{}", chain(&error));
        let LoadError::MissingPart { part, count: 3, reason, .. } = error else { panic!("{error:?}") };
        assert_eq!(part, paths[1]);
        assert!(reason.contains("failed to load GGUF split"), "{reason}");
    }
}

#[test]
fn a_part_that_is_damaged_or_not_the_first_is_refused() {
    let (folder, paths) = parts(&Tiny::default(), 3);
    let source = |path: &Path| match refusal(path, &options(64)) {
        LoadError::Gguf { source, .. } => source,
        other => panic!("{other:?}"),
    };
    assert!(matches!(source(&paths[1]), GgufError::NotFirstPart { number: 2, count: 3 }));
    let renamed = folder.path().join("model.gguf");
    fs::copy(&paths[0], &renamed).expect("to copy");
    assert!(matches!(source(&renamed), GgufError::PartName { count: 3, .. }));
    let second = fs::read(&paths[1]).expect("written");
    for len in [0, 100, second.len() - 1] {
        fs::write(&paths[1], &second[..len]).expect("to write");
        assert!(matches!(source(&paths[0]), GgufError::Part { count: 3, .. }), "{len}");
    }
    fs::copy(&paths[2], &paths[1]).expect("to copy");
    assert!(matches!(source(&paths[0]), GgufError::OtherPart { number: 2, .. }));
}
