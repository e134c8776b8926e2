//! This backend's part of a trial ([`upcycle_checkpoint::trial`]).
//!
//! llama.cpp ends the process for many damaged files. This crate checks for the known causes, but not even llama.cpp knows all of
//! them. To use a model, the child maps the weights into memory and scores one token with them.

use std::borrow::Cow;
use std::path::Path;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use upcycle_checkpoint::trial::{self, TrialError};

use crate::model::Model;
use crate::native;
use crate::options::Options;
use crate::vocabulary::Vocabulary;

/// A load, as the child is told of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trial<'a> {
    path: Cow<'a, Path>,
    /// None for the vocabulary alone.
    options: Option<Cow<'a, Options>>,
    extent: Extent,
}

/// How much a trial reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Extent {
    Headers,
    /// The weights too, to score a token.
    Weights,
}

impl<'a> Trial<'a> {
    pub(crate) fn new(path: &'a Path, options: Option<&'a Options>, extent: Extent) -> Self {
        Self { path: path.into(), options: options.map(Cow::Borrowed), extent }
    }

    pub(crate) fn run(&self) -> Result<(), TrialError> {
        trial::run("llama-cpp", "llama.cpp", &self.path, self)
    }
}

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
