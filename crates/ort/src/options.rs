//! The settings of the backend, under ONNX Runtime's own names.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use ort::session::builder::GraphOptimizationLevel;

use crate::providers::{Provider, ProviderOption};

/// How a model is loaded and run: the table `[backend.ort]` of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// ONNX Runtime's shared library. Where none is given, `ORT_DYLIB_PATH` names it, else it is that of
    /// `.cache/ort` in the working directory, the folder of the program or one above them, else what the system's loader
    /// finds.
    pub library: Option<PathBuf>,
    /// What runs the nodes, in order of preference. The CPU takes what is left.
    pub providers: Vec<Provider>,
    /// Options of providers, under their own names.
    pub provider_options: Vec<ProviderOption>,
    /// Whether a provider that is absent or does not start is left out with a warning, instead of being an error.
    pub fallback: bool,
    /// Threads within a node; one for each core that the process may use if none.
    pub intra_threads: Option<NonZeroUsize>,
    /// Threads for nodes side by side; one if none, since the graph is a chain for the most part.
    pub inter_threads: Option<NonZeroUsize>,
    /// How far the runtime rewrites the graph.
    pub graph_optimization: GraphOptimization,
    /// Whether memory is kept from pass to pass.
    pub arena: bool,
    /// Whether idle threads spin for a while before they sleep.
    pub spinning: bool,
    /// Where the runtime writes a trace of every node, with its own suffix. The file is complete when the model is dropped.
    pub profiling: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            library: None,
            providers: vec![Provider::Cpu],
            provider_options: Vec::new(),
            fallback: false,
            intra_threads: None,
            inter_threads: None,
            graph_optimization: GraphOptimization::All,
            arena: true,
            spinning: true,
            profiling: None,
        }
    }
}

impl Options {
    /// The option of a provider that holds, the last that is given.
    pub(crate) fn provider_option(&self, provider: Provider, key: &str) -> Option<&str> {
        let mut own = self.provider_options.iter().filter(|option| option.provider == provider);
        own.rfind(|option| option.key == key).map(|option| &*option.value)
    }
}

/// How far the runtime rewrites a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GraphOptimization {
    /// Not at all.
    Disable,
    /// What is redundant is removed, and constants are computed.
    Basic,
    /// Nodes are fused too.
    Extended,
    /// Layouts are changed too.
    All,
}

impl GraphOptimization {
    pub(crate) fn level(self) -> GraphOptimizationLevel {
        match self {
            GraphOptimization::Disable => GraphOptimizationLevel::Disable,
            GraphOptimization::Basic => GraphOptimizationLevel::Level1,
            GraphOptimization::Extended => GraphOptimizationLevel::Level2,
            GraphOptimization::All => GraphOptimizationLevel::All,
        }
    }
}
