//! The real model that tests run.

use std::path::{Path, PathBuf};

/// Where SmolLM2-135M-Instruct is, as a Q4_1 GGUF file: `UPCYCLE_TEST_MODEL`, else where this workspace's
/// `scripts/get-model.sh` leaves it.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn real_model() -> PathBuf {
    let path = std::env::var_os("UPCYCLE_TEST_MODEL").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.models/SmolLM2-135M-Instruct.Q4_1.gguf"),
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "the test model {} is not there: run scripts/get-model.sh, or set UPCYCLE_TEST_MODEL",
        path.display()
    );
    path
}
