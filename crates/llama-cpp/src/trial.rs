//! This backend's part of a trial ([`upcycle_checkpoint::trial`]).
//!
//! llama.cpp ends the process for many damaged files. This crate checks for the known causes, but not even llama.cpp knows all of
//! them. To use a model, the child maps the weights into memory and scores one token with them.

use std::borrow::Cow;
use std::path::Path;

use serde::{Deserialize, Serialize};
use upcycle_checkpoint::trial::{self, TrialError};

use crate::options::Options;

/// A load, as the child is told of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Trial<'a> {
    pub(crate) path: Cow<'a, Path>,
    /// None for the vocabulary alone.
    pub(crate) options: Option<Cow<'a, Options>>,
    pub(crate) extent: Extent,
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
