//! This backend's part of a trial ([`upcycle_checkpoint::trial`]): the child loads the graph and scores one token.

use std::borrow::Cow;
use std::path::Path;

use serde::{Deserialize, Serialize};
use upcycle_checkpoint::trial;

use crate::error::LoadError;
use crate::options::Options;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trial<'a> {
    pub(crate) path: Cow<'a, Path>,
    pub(crate) options: Cow<'a, Options>,
}

/// # Errors
/// [`LoadError::NotIsolated`], [`LoadError::Trial`].
pub(crate) fn run(path: &Path, options: &Options) -> Result<(), LoadError> {
    if !trial::is_possible() {
        return Err(LoadError::NotIsolated);
    }
    let options = Options { isolate: false, profiling: None, ..options.clone() };
    Ok(trial::run("ort", "ONNX Runtime", path, &Trial { path: path.into(), options: Cow::Owned(options) })?)
}
