//! The real model, as `scripts/get-model.sh` leaves it.

use std::path::{Path, PathBuf};

/// Where SmolLM2-135M-Instruct is: `UPCYCLE_TEST_MODEL`, else in the workspace's `.models`.
///
/// # Panics
/// If it is not there.
#[must_use]
pub fn path() -> PathBuf {
    let path = std::env::var_os("UPCYCLE_TEST_MODEL").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../.models/SmolLM2-135M-Instruct.Q4_1.gguf"),
        PathBuf::from,
    );
    assert!(path.is_file(), "{} is missing; fetch it with scripts/get-model.sh", path.display());
    path
}
