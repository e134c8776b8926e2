//! A loaded graph.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;

use ort::session::Session;
use ort::session::builder::SessionBuilder;
use tracing::info_span;
use upcycle_onnx::layout::Part;

use crate::graph::{Rounding, TreeReady};
use crate::library::Runtime;
use crate::providers::{self, Provider};
use crate::{LoadError, Options};

/// A loaded model: the runtime's session over a tree-ready graph, to be shared by verifiers through an `Arc`.
///
/// Passes of verifiers that share a model wait for each other.
pub struct Model {
    session: Mutex<Session>,
    pub(crate) graph: TreeReady,
    /// Names of inputs and outputs for keys and values, by buffer: layer after layer, keys before values.
    pub(crate) past: Vec<String>,
    pub(crate) new: Vec<String>,
    threads: usize,
    provider: Provider,
    runtime: String,
}

impl Model {
    /// Loads the graph at `path`: the folder that `upcycle export` wrote, or the `model.onnx` in it.
    ///
    /// # Errors
    /// [`LoadError`]. What can be said of the graph without the runtime is said first.
    pub fn load(path: &Path, options: &Options) -> Result<Arc<Self>, LoadError> {
        let _span = info_span!("load", path = %path.display()).entered();
        let graph = TreeReady::read(path)?;
        let runtime = Runtime::get(options)?;
        let threads = options.intra_threads.or(available_parallelism().ok()).map_or(1, NonZeroUsize::get);
        let refused = |error: ort::Error| LoadError::Refused {
            path: graph.path.clone(),
            opsets: graph.opsets.clone(),
            reason: error.to_string(),
        };
        let builder = Session::builder(&runtime.environment).map_err(refused)?;
        let builder = configure(builder, options, threads).map_err(refused)?;
        let (mut builder, provider) = providers::register(builder, options, &runtime.path)?;
        let session = builder.commit_from_file(&graph.path).map_err(refused)?;
        let buffers = (0..graph.layers).flat_map(|layer| Part::ALL.map(|part| (part, layer)));
        let (past, new) = buffers.map(|(part, layer)| (part.past_name(layer), part.new_name(layer))).unzip();
        let runtime = runtime.name();
        Ok(Arc::new(Self { session: Mutex::new(session), graph, past, new, threads, provider, runtime }))
    }

    /// The runtime's session, for what verifiers do not offer. A pass waits while it is locked.
    #[must_use]
    pub fn session(&self) -> &Mutex<Session> {
        &self.session
    }

    /// Tokens in the vocabulary.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.graph.vocab
    }

    /// The longest context that the model was made for.
    #[must_use]
    pub fn max_context(&self) -> usize {
        self.graph.max_context
    }

    /// Threads within a node.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// What runs the nodes that it can run.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// The runtime with its version, and the provider.
    #[must_use]
    pub fn engine(&self) -> String {
        format!("{}, {}", self.runtime, self.provider.name())
    }

    /// How far a logit may move when its row stands beside others.
    ///
    /// The most that was seen on 810 tokens of ten answers of a model with 135 M weights, in passes of 2, 9 and 81 rows on
    /// AVX-512 with VNNI, was 1e-4, 1.9 and 3.3. Twice that for few bits, where one activation that rounds the other way moves
    /// all that follows; ten times for `f32`, since longer sums round more and a fault moves logits by far more than 1e-3.
    pub(crate) fn row_tolerance(&self) -> f32 {
        match self.graph.rounding {
            Rounding::Float => 1e-3,
            Rounding::Int8 => 4.0,
            Rounding::Int4 => 7.0,
        }
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("graph", &self.graph)
            .field("engine", &self.engine())
            .finish_non_exhaustive()
    }
}

fn configure(builder: SessionBuilder, options: &Options, threads: usize) -> ort::Result<SessionBuilder> {
    let inter = options.inter_threads.map_or(1, NonZeroUsize::get);
    let mut builder = builder
        .with_intra_threads(threads)?
        .with_inter_threads(inter)?
        .with_parallel_execution(inter > 1)?
        .with_optimization_level(options.graph_optimization.level())?
        .with_intra_op_spinning(options.spinning)?
        .with_inter_op_spinning(options.spinning)?;
    if let Some(path) = &options.profiling {
        builder = builder.with_profiling(path)?;
    }
    Ok(builder)
}
