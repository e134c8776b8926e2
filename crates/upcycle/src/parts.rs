//! What backends, drafters and sources are built from, and the errors of building one.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use upcycle_checkpoint::gguf::Gguf;
use upcycle_core::RowSelection;
use upcycle_core::mixed::{CandidateSource, Corpus};

/// An error of a backend, drafter or source.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The model that a backend is to load.
#[derive(Clone, Copy, Debug)]
pub struct ModelSource<'a> {
    /// Its file or folder.
    pub path: &'a Path,
    /// The header of a GGUF file; `None` for other models.
    pub gguf: Option<&'a Gguf>,
}

/// The progress of a load; `total` is 0 if it is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Parts done.
    pub done: u64,
    /// Parts in all.
    pub total: u64,
}

/// A callback for the progress of a load.
pub type OnProgress<'a> = &'a mut dyn FnMut(Progress);

/// What a drafter is built from, besides its options.
#[derive(Clone, Copy)]
pub struct DrafterSetup<'a> {
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// The rows of a prompt to learn from.
    pub prompt_rows: RowSelection,
    /// Draft nodes of a step, if `drafter.budget` is a number.
    pub nodes: Option<usize>,
    /// The texts of `drafter.corpus_dir`.
    pub corpus: Option<&'a Arc<Corpus>>,
    pub(crate) source: BuildNamedSource<'a>,
}

/// Builds the source with a given name.
pub(crate) type BuildNamedSource<'a> =
    &'a dyn Fn(&str, SourceSetup<'_>) -> Result<Box<dyn CandidateSource>, BuildError>;

impl DrafterSetup<'_> {
    /// Builds a registered source with its configured options. Each of its tables may take `table_bytes`.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn source(&self, name: &str, table_bytes: usize) -> Result<Box<dyn CandidateSource>, BuildError> {
        (self.source)(name, SourceSetup { vocab: self.vocab, table_bytes, corpus: self.corpus })
    }
}

impl fmt::Debug for DrafterSetup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrafterSetup")
            .field("vocab", &self.vocab)
            .field("prompt_rows", &self.prompt_rows)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}

/// What a source is built from, besides its options.
#[derive(Clone, Copy, Debug)]
pub struct SourceSetup<'a> {
    /// Tokens of the vocabulary.
    pub vocab: usize,
    /// Bytes that an n-gram table may take.
    pub table_bytes: usize,
    /// The texts of `drafter.corpus_dir`.
    pub corpus: Option<&'a Arc<Corpus>>,
}

/// The kind of part that a registered name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It runs a model.
    Backend,
    /// It guesses tokens.
    Drafter,
    /// It proposes nodes to the drafter `mixed`.
    Source,
}

impl Role {
    /// The configuration table that contains the tables of options.
    pub(crate) fn section(self) -> &'static str {
        match self {
            Role::Backend => "backend",
            Role::Drafter => "drafter",
            Role::Source => "drafter.source",
        }
    }

    /// The key that takes the name.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Role::Backend => "backend.name",
            Role::Drafter => "drafter.name",
            Role::Source => "drafter.mixed.sources",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Backend => "backend",
            Role::Drafter => "drafter",
            Role::Source => "source",
        })
    }
}

/// Why a backend, drafter or source was not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// No part is registered under this name.
    #[error("there is no {role} {name:?}; expected {hint}")]
    Unknown {
        /// What it should be.
        role: Role,
        /// The name.
        name: String,
        /// All names, and the nearest one.
        hint: String,
    },
    /// The binary was compiled without it.
    #[error(
        "{role} `{name}` is not compiled into this binary; build it with `cargo build --features {feature}`"
    )]
    NotCompiled {
        /// What it is.
        role: Role,
        /// The name.
        name: String,
        /// The cargo feature.
        feature: &'static str,
    },
    /// The configuration has no options for this name.
    #[error(
        "the configuration has no options of the {role} `{name}`; build it with the registry that has it"
    )]
    OtherRegistry {
        /// What it is.
        role: Role,
        /// The name.
        name: String,
    },
    /// The backend could not load the model.
    #[error("backend `{name}` could not load the model")]
    Load {
        /// The name.
        name: String,
        /// Its error.
        #[source]
        source: BoxError,
    },
    /// The drafter or source could not be built.
    #[error("{role} `{name}` could not be built")]
    Failed {
        /// What it is.
        role: Role,
        /// The name.
        name: String,
        /// Its error.
        #[source]
        source: BoxError,
    },
}
