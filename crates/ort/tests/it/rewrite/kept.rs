//! The rewritten graph, saved beside the original.

use std::fs;
use std::path::{Path, PathBuf};

use upcycle_core::{Verifier, VerifyError};
use upcycle_onnx::layout::MODEL_FILE;
use upcycle_ort::Memory;

use super::copied;
use crate::support::{load, step, tree, verifier};

fn made(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder").flatten().map(|entry| entry.path());
    let mut made: Vec<_> = entries.filter(|path| path.to_string_lossy().contains(".upcycle-")).collect();
    made.sort();
    made
}

fn runs(folder: &Path) -> Result<(), VerifyError> {
    let mut verifier = verifier(&load(folder), Memory::Host);
    let seq = verifier.open()?;
    step(&mut verifier, seq, &tree())
}

#[test]
fn it_is_written_once_and_read_again() -> Result<(), VerifyError> {
    let folder = copied("genai-llama-int4");
    let before = fs::read_dir(folder.path()).expect("the folder").count();
    runs(folder.path())?;
    let [kept] = &made(folder.path())[..] else { panic!("one is kept") };
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), before + 1, "nothing else is left");
    let modified = || fs::metadata(kept).and_then(|metadata| metadata.modified()).expect("a time");
    let first = modified();
    runs(folder.path())?;
    assert_eq!((made(folder.path()).len(), modified()), (1, first));
    Ok(())
}

#[test]
fn a_damaged_one_is_written_again() -> Result<(), VerifyError> {
    let folder = copied("optimum-llama");
    runs(folder.path())?;
    let kept = made(folder.path()).remove(0);
    let whole = fs::read(&kept).expect("the graph");
    for broken in [&whole[..whole.len() / 2], b"", b"nonsense"] {
        fs::write(&kept, broken).expect("to write");
        runs(folder.path())?;
        assert_eq!(fs::read(&kept).expect("the graph"), whole);
    }
    Ok(())
}

#[test]
fn another_graph_and_other_settings_have_another_name() -> Result<(), VerifyError> {
    let folder = copied("genai-llama-fp32");
    runs(folder.path())?;
    let settings = folder.path().join("genai_config.json");
    let text = fs::read_to_string(&settings).expect("settings");
    fs::write(&settings, text.replace("\"context_length\": 160", "\"context_length\": 80"))
        .expect("to write");
    assert_eq!(load(folder.path()).max_context(), 80);
    assert_eq!(made(folder.path()).len(), 2);
    let graph = folder.path().join(MODEL_FILE);
    // A field that nothing reads. The graph stays the same, but the file differs.
    let mut bytes = fs::read(&graph).expect("the graph");
    bytes.extend([0x28, 7]);
    fs::write(&graph, bytes).expect("to write");
    runs(folder.path())?;
    assert_eq!(made(folder.path()).len(), 3);
    Ok(())
}

/// The user of the tests may have every permission, so a folder blocks the file's name.
#[test]
fn without_a_place_to_save_it_runs_from_memory_and_finds_its_weights() -> Result<(), VerifyError> {
    for name in ["genai-llama-fp32", "optimum-llama"] {
        let folder = copied(name);
        runs(folder.path())?;
        let kept = made(folder.path()).remove(0);
        fs::remove_file(&kept).expect("to remove");
        fs::create_dir(&kept).expect("a folder in its place");
        runs(folder.path())?;
        assert!(kept.is_dir());
        assert_eq!(made(folder.path()).len(), 1);
    }
    Ok(())
}
