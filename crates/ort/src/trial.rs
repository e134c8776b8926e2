//! This backend's part of a trial ([`upcycle_checkpoint::trial`]): the child loads the graph and scores one token.

use std::borrow::Cow;
use std::path::Path;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use upcycle_checkpoint::trial;
use upcycle_core::{DraftTree, RowSelection, TopK, TreeInput, Verifier};

use crate::error::LoadError;
use crate::model::Model;
use crate::options::Options;
use crate::verifier::OrtVerifier;

#[derive(Debug, Serialize, Deserialize)]
struct Trial<'a> {
    path: Cow<'a, Path>,
    options: Cow<'a, Options>,
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

/// The child's side of a trial: reads a request from standard input, loads the graph, scores a token, and returns the exit code.
#[must_use]
pub fn answer_trial() -> ExitCode {
    trial::answer(|request: Trial<'static>| {
        let mut verifier = OrtVerifier::new(Model::load(&request.path, &request.options)?);
        let seq = verifier.open()?;
        let tree = DraftTree::chain(&[0]);
        verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut TopK::new(1))?;
        Ok(())
    })
}
