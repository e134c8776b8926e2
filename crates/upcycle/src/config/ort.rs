//! `[backend.ort]`

use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::MAX_THREADS;
use super::choices::{existing_file, names, out_of_range, writable_file};
use super::error::Problem;

/// `[backend.ort]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawOrt {
    /// ONNX Runtime's shared library.
    pub library: Option<PathBuf>,
    /// What runs the nodes, in order of preference.
    pub providers: Option<Vec<String>>,
    /// Options of providers, each `provider.key=value`.
    pub provider_options: Option<Vec<String>>,
    /// Whether an absent provider is left out with a warning.
    pub fallback: Option<bool>,
    /// Threads within a node; one for each core where left out.
    pub intra_threads: Option<usize>,
    /// Threads for nodes side by side; one where left out.
    pub inter_threads: Option<usize>,
    /// `disable`, `basic`, `extended` or `all`
    pub graph_optimization: Option<String>,
    /// Whether memory is kept from pass to pass.
    pub arena: Option<bool>,
    /// Whether idle threads spin before they sleep.
    pub spinning: Option<bool>,
    /// Where the runtime writes its trace.
    pub profiling: Option<PathBuf>,
}

/// Options of the ONNX Runtime backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrtChoice {
    /// ONNX Runtime's shared library; looked for if none.
    pub library: Option<PathBuf>,
    /// What runs the nodes, in order of preference.
    pub providers: Vec<OrtProvider>,
    /// Options of providers.
    pub provider_options: Vec<OrtProviderOption>,
    /// Whether an absent provider is left out with a warning.
    pub fallback: bool,
    /// Threads within a node; one for each core if none.
    pub intra_threads: Option<NonZeroUsize>,
    /// Threads for nodes side by side; one if none.
    pub inter_threads: Option<NonZeroUsize>,
    /// How far the runtime rewrites the graph.
    pub graph_optimization: GraphOptimization,
    /// Whether memory is kept from pass to pass.
    pub arena: bool,
    /// Whether idle threads spin before they sleep.
    pub spinning: bool,
    /// Where the runtime writes its trace.
    pub profiling: Option<PathBuf>,
}

/// An option of a provider, under the provider's own name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrtProviderOption {
    /// Whose it is.
    pub provider: OrtProvider,
    /// Its name.
    pub key: String,
    /// Its value.
    pub value: String,
}

names! {
    /// What runs the nodes of a graph.
    OrtProvider {
        /// NVIDIA GPUs.
        Cuda = "cuda",
        /// NVIDIA GPUs, compiled.
        TensorRt = "tensorrt",
        /// AMD GPUs.
        Rocm = "rocm",
        /// GPUs on Windows.
        DirectMl = "directml",
        /// Apple's processors.
        CoreMl = "coreml",
        /// Intel's processors.
        OpenVino = "openvino",
        /// XNNPACK's kernels on the CPU.
        Xnnpack = "xnnpack",
        /// The runtime's own kernels on the CPU.
        Cpu = "cpu",
    }
}

names! {
    /// How far ONNX Runtime rewrites a graph.
    GraphOptimization {
        /// Not at all.
        Disable = "disable",
        /// What is redundant is removed.
        Basic = "basic",
        /// Nodes are fused too.
        Extended = "extended",
        /// Layouts are changed too.
        All = "all",
    }
}

impl RawOrt {
    pub(super) fn check(self) -> Result<OrtChoice, Problem> {
        let providers = match self.providers {
            Some(names) => names
                .iter()
                .map(|name| OrtProvider::parse("backend.ort.providers", name))
                .collect::<Result<_, _>>()?,
            None => vec![OrtProvider::Cpu],
        };
        let options = self.provider_options.unwrap_or_default();
        let level = self
            .graph_optimization
            .map(|level| GraphOptimization::parse("backend.ort.graph_optimization", &level));
        let threads = |key, threads: Option<usize>| {
            let sound = |threads| NonZeroUsize::new(threads).filter(|threads| threads.get() <= MAX_THREADS);
            let check = |threads| {
                sound(threads).ok_or_else(|| out_of_range(key, &threads, &format!("1 to {MAX_THREADS}")))
            };
            threads.map(check).transpose()
        };
        Ok(OrtChoice {
            library: self.library.map(|path| existing_file("backend.ort.library", path)).transpose()?,
            providers,
            provider_options: options.iter().map(|text| option(text)).collect::<Result<_, _>>()?,
            fallback: self.fallback.unwrap_or(false),
            intra_threads: threads("backend.ort.intra_threads", self.intra_threads)?,
            inter_threads: threads("backend.ort.inter_threads", self.inter_threads)?,
            graph_optimization: level.transpose()?.unwrap_or(GraphOptimization::All),
            arena: self.arena.unwrap_or(true),
            spinning: self.spinning.unwrap_or(true),
            profiling: self.profiling.map(|path| writable_file("backend.ort.profiling", path)).transpose()?,
        })
    }

    /// A table that has every key.
    pub(super) fn specimen() -> Self {
        Self {
            library: Some(PathBuf::new()),
            providers: Some(Vec::new()),
            provider_options: Some(Vec::new()),
            fallback: Some(false),
            intra_threads: Some(0),
            inter_threads: Some(0),
            graph_optimization: Some(String::new()),
            arena: Some(false),
            spinning: Some(false),
            profiling: Some(PathBuf::new()),
        }
    }
}

/// `provider.key=value`
fn option(text: &str) -> Result<OrtProviderOption, Problem> {
    const KEY: &str = "backend.ort.provider_options";
    let parts = text.split_once('.').and_then(|(provider, rest)| Some((provider, rest.split_once('=')?)));
    let Some((provider, (key, value))) = parts.filter(|(_, (key, _))| !key.is_empty()) else {
        return Err(out_of_range(KEY, &text, "entries such as \"cuda.device_id=1\""));
    };
    let provider = OrtProvider::parse(KEY, provider)?;
    Ok(OrtProviderOption { provider, key: key.to_owned(), value: value.to_owned() })
}

impl From<OrtChoice> for RawOrt {
    fn from(choice: OrtChoice) -> Self {
        let option = |option: &OrtProviderOption| {
            let OrtProviderOption { provider, key, value } = option;
            format!("{}.{key}={value}", provider.name())
        };
        Self {
            library: choice.library,
            providers: Some(choice.providers.iter().map(|provider| provider.name().to_owned()).collect()),
            provider_options: Some(choice.provider_options.iter().map(option).collect()),
            fallback: Some(choice.fallback),
            intra_threads: choice.intra_threads.map(NonZeroUsize::get),
            inter_threads: choice.inter_threads.map(NonZeroUsize::get),
            graph_optimization: Some(choice.graph_optimization.name().to_owned()),
            arena: Some(choice.arena),
            spinning: Some(choice.spinning),
            profiling: choice.profiling,
        }
    }
}
