//! Reading JSON files.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::TextError;

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TextError> {
    fs::read(path).map_err(|source| TextError::Read { path: path.to_owned(), source })
}

pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Value, TextError> {
    serde_json::from_slice(bytes).map_err(|error| invalid(path, error))
}

/// The value in a file, `None` if the file does not exist.
pub(crate) fn read_if_exists(path: &Path) -> Result<Option<Value>, TextError> {
    if !path.exists() {
        return Ok(None);
    }
    parse(path, &read(path)?).map(Some)
}

/// A file that does not hold what it should.
#[expect(clippy::needless_pass_by_value, reason = "callers pass errors and literals")]
pub(crate) fn invalid(path: &Path, reason: impl ToString) -> TextError {
    TextError::Json { path: path.to_owned(), reason: reason.to_string() }
}
