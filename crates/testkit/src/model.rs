//! The real model that tests run.

use std::path::{Path, PathBuf};

/// The path of SmolLM2-135M-Instruct as a Q4_1 GGUF file: `UPCYCLE_TEST_MODEL` if set, else the file that this workspace's
/// `scripts/get-model.sh` downloads.
///
/// # Panics
/// If there is no such file.
#[must_use]
pub fn real_model() -> PathBuf {
    let path = std::env::var_os("UPCYCLE_TEST_MODEL").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.models/SmolLM2-135M-Instruct.Q4_1.gguf"),
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "there is no test model at {}: run scripts/get-model.sh, or set UPCYCLE_TEST_MODEL",
        path.display()
    );
    path
}
