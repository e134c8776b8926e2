//! The files of a run: `results.json` and `report.html`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use upcycle_core::file;

use crate::error::BenchError;
use crate::report;
use crate::results::{Results, SCHEMA};

/// The file with all results.
pub const RESULTS: &str = "results.json";

/// Writes both files, each completely or not at all; returns their paths.
///
/// # Errors
/// [`BenchError::Io`], [`BenchError::Report`]. Files written before the failure stay.
pub fn write(folder: &Path, results: &Results) -> Result<Vec<PathBuf>, BenchError> {
    let json = folder.join(RESULTS);
    let bytes =
        serde_json::to_vec(results).map_err(|source| BenchError::io("write", &json, source.into()))?;
    replace(&json, &bytes)?;
    let html = folder.join("report.html");
    replace(&html, report::html(results)?.as_bytes())?;
    Ok(vec![json, html])
}

/// Replaces the file at `path`, or leaves it unchanged on a failure.
///
/// # Errors
/// [`BenchError::Io`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), BenchError> {
    file::replace(path, bytes).map_err(|source| BenchError::io("write", path, source))
}

/// Reads the results of a run, from its folder or its `results.json`.
///
/// # Errors
/// [`BenchError::Io`], [`BenchError::OtherSchema`], [`BenchError::InvalidFile`].
pub fn read(run: &Path) -> Result<Results, BenchError> {
    if run.is_dir() { read_versioned(&run.join(RESULTS)) } else { read_versioned(run) }
}

/// Reads a JSON file with the field `schema`.
///
/// # Errors
/// As for [`read`].
pub(crate) fn read_versioned<T: DeserializeOwned>(path: &Path) -> Result<T, BenchError> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    let text = fs::read_to_string(path).map_err(|source| BenchError::io("read", path, source))?;
    let invalid = |source| BenchError::InvalidFile { path: path.to_owned(), source };
    let Version { schema } = serde_json::from_str(&text).map_err(invalid)?;
    if schema != SCHEMA {
        return Err(BenchError::OtherSchema { path: path.to_owned(), found: schema });
    }
    serde_json::from_str(&text).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        fs::write(&path, "{\"schema\": 99, \"more\": 1}").unwrap();
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("version 99"), "{error}");
        fs::write(&path, "[]").unwrap();
        assert!(matches!(read(&path), Err(BenchError::InvalidFile { .. })));
    }
}
