//! The child's side of a [trial](crate::trial).

use std::process::ExitCode;

use upcycle_checkpoint::trial;

use crate::model::Model;
use crate::native;
use crate::trial::{Extent, Trial};
use crate::vocabulary::Vocabulary;

/// The child's side of a trial: reads a request from standard input, loads the file, scores a token, and returns the exit code.
#[must_use]
pub fn answer_trial() -> ExitCode {
    native::log_to_stderr();
    trial::answer(|request: Trial<'static>| {
        match (&request.options, request.extent) {
            (Some(options), Extent::Weights) => Model::rehearse(&request.path, options)?,
            (Some(options), Extent::Headers) => drop(Model::check(&request.path, options)?),
            (None, _) => Vocabulary::load(&request.path)?.rehearse(),
        }
        Ok(())
    })
}
