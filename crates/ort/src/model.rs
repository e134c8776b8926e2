//! A loaded graph.

use std::ffi::CString;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::available_parallelism;

use ort::session::Session;
use ort::session::builder::SessionBuilder;
use tracing::{info_span, warn};
use upcycle_core::Support;
use upcycle_onnx::layout::{ATTN_BIAS, INPUT_IDS, KvPart, LOGITS, OUTPUT_ROWS, PAST_BIAS, POSITION_IDS};

use crate::device::Device;
use crate::error::LoadError;
use crate::graph::{self, GraphSource, Rounding, Saving, TreeReady};
use crate::library::Runtime;
use crate::options::{Memory, Options, Provider};
use crate::providers;
use crate::trial;

/// The runtime's key for the weights' folder of a graph that is loaded from memory.
const WEIGHTS_FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// A loaded model: a session of the runtime over a tree-ready graph. Verifiers share it through an `Arc`, and their passes wait
/// for each other.
pub struct Model {
    session: Mutex<Session>,
    pub(crate) graph: TreeReady,
    /// Names of inputs and outputs for keys and values, by buffer: layer after layer, keys before values.
    pub(crate) past: Vec<String>,
    pub(crate) new: Vec<String>,
    names: Names,
    threads: usize,
    provider: Provider,
    /// The sessions that work on the provider's memory, made at first use.
    device: OnceLock<Device>,
    options: Options,
    runtime: Runtime,
}

/// Names of inputs and outputs, for the runtime's C interface.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) input_ids: CString,
    pub(crate) position_ids: CString,
    pub(crate) attn_bias: CString,
    pub(crate) past_bias: CString,
    pub(crate) output_rows: CString,
    pub(crate) logits: CString,
    /// By buffer, like those of the model.
    pub(crate) past: Vec<CString>,
    pub(crate) new: Vec<CString>,
}

impl Names {
    fn new(past: &[String], new: &[String]) -> Self {
        // No name contains a zero byte.
        let name = |name: &str| CString::new(name).unwrap_or_default();
        let names = |all: &[String]| all.iter().map(|one| name(one)).collect();
        Self {
            input_ids: name(INPUT_IDS),
            position_ids: name(POSITION_IDS),
            attn_bias: name(ATTN_BIAS),
            past_bias: name(PAST_BIAS),
            output_rows: name(OUTPUT_ROWS),
            logits: name(LOGITS),
            past: names(past),
            new: names(new),
        }
    }
}

impl Model {
    /// Loads the graph at `path`, a file or its folder. The graph is tree-ready, as `upcycle export` writes it, or a standard
    /// export of Optimum or `onnxruntime-genai`, which is rewritten ([`upcycle_onnx::rewrite`]). The rewritten graph is saved
    /// beside the original, as `NAME.upcycle-HASH.onnx`, for the next time. If the folder is read-only, it stays in memory.
    ///
    /// # Errors
    /// [`LoadError`]. The graph is checked before the runtime is loaded.
    pub fn load(path: &Path, options: &Options) -> Result<Arc<Self>, LoadError> {
        let _span = info_span!("load", path = %path.display()).entered();
        let (graph, source) = graph::read(path, Saving::Save)?;
        if options.isolate {
            trial::run(path, options)?;
        }
        if let Some(reason) = graph.support.reason() {
            warn!("{} scores only chains: {reason}", graph.path.display());
        }
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
        let session = match source {
            GraphSource::File(file) => builder.commit_from_file(file).map_err(refused)?,
            GraphSource::Memory { bytes, folder } => {
                let folder = folder.to_string_lossy();
                let builder = builder.with_config_entry(WEIGHTS_FOLDER, folder);
                let mut builder = builder.map_err(|error| refused(error.into()))?;
                builder.commit_from_memory(&bytes).map_err(refused)?
            }
        };
        let buffers = (0..graph.layers).flat_map(|layer| KvPart::ALL.map(|part| (part, layer)));
        let names = buffers.map(|(part, layer)| (part.past_name(layer), part.new_name(layer)));
        let (past, new): (Vec<_>, Vec<_>) = names.unzip();
        let model = Self {
            session: Mutex::new(session),
            graph,
            names: Names::new(&past, &new),
            past,
            new,
            threads,
            provider,
            device: OnceLock::new(),
            options: options.clone(),
            runtime,
        };
        if model.memory() == Memory::Device {
            // Reports its errors now.
            model.device()?;
        }
        Ok(Arc::new(model))
    }

    /// Checks by its graph that a model can be loaded, without a session of the runtime and without saving anything. Returns what
    /// the graph can score, and its longest context.
    ///
    /// # Errors
    /// Those of [`load`](Self::load) that the graph shows, and those of the runtime's library.
    pub fn check(path: &Path, options: &Options) -> Result<(Support, usize), LoadError> {
        let (graph, _) = graph::read(path, Saving::Leave)?;
        Runtime::get(options)?;
        Ok((graph.support, graph.max_context))
    }

    /// The memory for this provider.
    pub(crate) fn memory(&self) -> Memory {
        match self.provider {
            Provider::Cuda => Memory::Device,
            _ => Memory::Host,
        }
    }

    /// The sessions that work on the provider's memory.
    pub(crate) fn device(&self) -> Result<&Device, LoadError> {
        if let Some(device) = self.device.get() {
            return Ok(device);
        }
        let device = Device::new(&self.runtime, &self.options, self.provider, self.graph.vocab)?;
        Ok(self.device.get_or_init(|| device))
    }

    pub(crate) fn names(&self) -> &Names {
        &self.names
    }

    /// The runtime's session, for direct use. Passes wait while it is locked.
    #[must_use]
    pub fn session(&self) -> &Mutex<Session> {
        &self.session
    }

    /// The size of the vocabulary.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.graph.vocab
    }

    /// The model's longest context.
    #[must_use]
    pub fn max_context(&self) -> usize {
        self.graph.max_context
    }

    /// The threads within a node.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The preferred provider. The CPU runs the nodes that it cannot run.
    #[must_use]
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// The runtime with its version, and the provider.
    #[must_use]
    pub fn engine(&self) -> String {
        format!("{}, {}", self.runtime.name(), self.provider.name())
    }

    /// The most that a logit may differ from plain decoding because of the other rows in its pass.
    ///
    /// Measured on 810 tokens of ten answers of a model of 135 M weights, in passes of 2, 9 and 81 rows with AVX-512 VNNI: at
    /// most 1e-4 for `f32`, 1.9 for int8 and 3.3 for int4. The values here are ten times that for `f32`, because longer sums
    /// round more, and twice that for integers. With integers, one activation that rounds the other way changes all that
    /// follows. A fault changes logits by far more than 1e-3.
    /// Half precision: up to 3e-3 on tiny random models; not measured on deeper ones.
    /// TF32, which is off by default, rounds factors to 11 bits instead of 24: a hundred times the value of `f32`, not measured.
    pub(crate) fn row_tolerance(&self) -> f32 {
        let tf32 = self.provider == Provider::Cuda
            && self.options.provider_option(Provider::Cuda, "use_tf32").is_some_and(|value| value != "0");
        match self.graph.rounding {
            Rounding::Float if tf32 => 0.1,
            Rounding::Float => 1e-3,
            Rounding::Half => 5e-2,
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
