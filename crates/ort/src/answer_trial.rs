//! The child's side of a [trial](crate::trial).

use std::process::ExitCode;

use upcycle_checkpoint::trial;
use upcycle_core::{DraftTree, RowSelection, TopK, TreeInput, Verifier};

use crate::model::Model;
use crate::trial::Trial;
use crate::verifier::OrtVerifier;

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
