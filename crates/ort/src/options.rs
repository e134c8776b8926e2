//! The options of the backend, under ONNX Runtime's own names.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use ort::session::builder::GraphOptimizationLevel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a model is loaded and run: the table `[backend.ort]` of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// ONNX Runtime's shared library. If none, the one that `ORT_DYLIB_PATH` names; else the one in `.cache/ort` in the working
    /// directory, the folder of the program or a folder above them; else the one that the system's loader finds.
    #[schemars(extend("path" = "file"))]
    pub library: Option<PathBuf>,
    /// The execution providers, in order of preference. The CPU runs the remaining nodes.
    pub providers: Vec<Provider>,
    /// Options of the providers.
    pub provider_options: Vec<ProviderOption>,
    /// Whether a provider that is absent or fails to start is skipped with a warning, instead of an error.
    pub fallback: bool,
    /// Threads within a node; if none, one for each core that the process may use.
    #[schemars(range(min = 1, max = 1024))]
    pub intra_threads: Option<NonZeroUsize>,
    /// Threads for nodes in parallel; if none, one, because the graph is mostly a chain.
    #[schemars(range(min = 1, max = 1024))]
    pub inter_threads: Option<NonZeroUsize>,
    /// How much the runtime optimizes the graph.
    pub graph_optimization: GraphOptimization,
    /// Whether the runtime keeps memory from pass to pass.
    pub arena: bool,
    /// Whether idle threads spin before they sleep.
    pub spinning: bool,
    /// Where the runtime writes a trace of every node; it appends its own suffix. The file is complete when the model is dropped.
    #[schemars(extend("path" = "new-file"))]
    pub profiling: Option<PathBuf>,
    /// Whether a child process loads the graph and scores a token first. A graph that ends ONNX Runtime's process is then an error.
    /// A load takes twice as long.
    pub isolate: bool,
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
            isolate: false,
        }
    }
}

impl Options {
    /// The value of an option of a provider. The last one given counts.
    pub(crate) fn provider_option(&self, provider: Provider, key: &str) -> Option<&str> {
        let mut options = self.provider_options.iter();
        let option = options.rfind(|option| option.provider == provider && option.key == key);
        option.map(|option| &*option.value)
    }
}

/// How much the runtime optimizes a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GraphOptimization {
    /// Not at all.
    Disable,
    /// It removes redundant nodes and computes constants.
    Basic,
    /// It fuses nodes too.
    Extended,
    /// It changes layouts too.
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

/// An execution provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Provider {
    /// NVIDIA GPUs.
    Cuda,
    /// NVIDIA GPUs, with a compiled graph.
    TensorRt,
    /// AMD GPUs.
    Rocm,
    /// GPUs on Windows.
    DirectMl,
    /// Apple's processors.
    CoreMl,
    /// Intel's processors.
    OpenVino,
    /// The XNNPACK kernels on the CPU.
    Xnnpack,
    /// The runtime's own kernels on the CPU.
    Cpu,
}

/// An option of a provider, under the provider's own name for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ProviderOption {
    /// The provider.
    pub provider: Provider,
    /// The name, such as `device_id`.
    pub key: String,
    /// The value.
    pub value: String,
}

/// Not an option of a provider.
#[derive(Debug, thiserror::Error)]
#[error("{found:?} is not an option; expected PROVIDER.KEY=VALUE, such as cuda.device_id=1")]
pub struct ProviderOptionError {
    found: String,
}

impl TryFrom<String> for ProviderOption {
    type Error = ProviderOptionError;

    fn try_from(text: String) -> Result<Self, ProviderOptionError> {
        let parse = || {
            let (provider, rest) = text.split_once('.')?;
            let (key, value) = rest.split_once('=').filter(|(key, _)| !key.is_empty())?;
            let provider = *Provider::ALL.iter().find(|known| known.name() == provider)?;
            Some(Self { provider, key: key.to_owned(), value: value.to_owned() })
        };
        parse().ok_or_else(|| ProviderOptionError { found: text.clone() })
    }
}

impl From<ProviderOption> for String {
    fn from(option: ProviderOption) -> Self {
        format!("{}.{}={}", option.provider.name(), option.key, option.value)
    }
}

impl Provider {
    /// All providers.
    pub const ALL: &[Provider] = &[
        Provider::Cuda,
        Provider::TensorRt,
        Provider::Rocm,
        Provider::DirectMl,
        Provider::CoreMl,
        Provider::OpenVino,
        Provider::Xnnpack,
        Provider::Cpu,
    ];

    /// The name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Provider::Cuda => "cuda",
            Provider::TensorRt => "tensorrt",
            Provider::Rocm => "rocm",
            Provider::DirectMl => "directml",
            Provider::CoreMl => "coreml",
            Provider::OpenVino => "openvino",
            Provider::Xnnpack => "xnnpack",
            Provider::Cpu => "cpu",
        }
    }
}

/// Where a verifier keeps keys, values and logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// In the host's memory. If the provider has its own, they travel with each pass.
    Host,
    /// In the provider's memory, where rows are moved and logits are ranked. It works for providers in the host's memory
    /// too, but costs more there than [`Host`](Self::Host).
    Device,
}
