//! The options of the backend, under llama.cpp's own names.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a model is loaded and run: the table `[backend.llama-cpp]` of a configuration file.
///
/// llama.cpp's `tensor_split` is missing because the binding cannot set it. Several GPUs share the weights by their free memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Layers on the GPU; as many as fit if none. Any number above 0 needs a build for a GPU.
    pub n_gpu_layers: Option<u32>,
    /// The GPU for everything that is not split.
    pub main_gpu: u32,
    /// How several GPUs share the model.
    pub split_mode: SplitMode,
    /// Threads of a pass of one row; if none, one for each core that the process may use.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<NonZeroUsize>,
    /// Threads of a pass of more rows; `threads` if none.
    #[schemars(range(min = 1, max = 1024))]
    pub threads_batch: Option<NonZeroUsize>,
    /// Whether attention is computed by one fused kernel.
    pub flash_attn: FlashAttention,
    /// Whether every row is bit for bit that of plain decoding with this option, so that texts are equal, not only up to
    /// rounding. Loading a verifier checks that it holds. Its cost:
    /// - flash attention, weights that are not repacked, and only one open sequence;
    /// - values cached as `bf16`, unless keys or values are `q8_0`;
    /// - accepted rows whose cells are out of order are scored again;
    /// - models with matrices of 16 or 32 bits score a second row beside each single one.
    pub row_invariant: bool,
    /// The type of cached keys.
    pub cache_type_k: CacheType,
    /// The type of cached values; a quantized one needs flash attention.
    pub cache_type_v: CacheType,
    /// Whether the file is memory-mapped.
    pub mmap: bool,
    /// Whether the weights are locked in memory.
    pub mlock: bool,
    /// Cells of the cache. All open sequences share them, and none can be longer. If none, the model's context, at most 8192.
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub n_ctx: Option<NonZeroU32>,
    /// The most rows of a pass.
    #[schemars(range(min = 1, max = 65536))]
    pub n_batch: NonZeroU32,
    /// The rows that llama.cpp computes at once; at most `n_batch`. If none, `n_batch`, but at most 512.
    #[schemars(range(min = 1, max = 65536))]
    pub n_ubatch: Option<NonZeroU32>,
    /// Sequence ids, 4 to 256: a quarter for open sequences, the others for leaves of trees. Each one costs a little time in
    /// every pass.
    #[schemars(range(min = 4, max = 256))]
    pub n_seq_max: u16,
    /// How positions are scaled; as the file states if none.
    pub rope_scaling: Option<RopeScaling>,
    /// The base of the rotation's frequencies; the file's if none.
    pub rope_freq_base: Option<f32>,
    /// The factor of the rotation's frequencies; the file's if none.
    pub rope_freq_scale: Option<f32>,
    /// An adapter for the weights. Only one, because the binding replaces the previous one.
    pub lora: Option<Lora>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            n_gpu_layers: None,
            main_gpu: 0,
            split_mode: SplitMode::Layer,
            threads: None,
            threads_batch: None,
            flash_attn: FlashAttention::Auto,
            row_invariant: false,
            cache_type_k: CacheType::F16,
            cache_type_v: CacheType::F16,
            mmap: true,
            mlock: false,
            n_ctx: None,
            n_batch: DEFAULT_ROWS,
            n_ubatch: None,
            n_seq_max: 64,
            rope_scaling: None,
            rope_freq_base: None,
            rope_freq_scale: None,
            lora: None,
        }
    }
}

/// Rows of a pass and of a micro batch where the options name none; llama.cpp's own micro batch.
pub(crate) const DEFAULT_ROWS: NonZeroU32 = NonZeroU32::new(512).unwrap();

/// A LoRA adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// The GGUF file.
    #[schemars(extend("path" = "file"))]
    pub path: PathBuf,
    /// The factor for its effect.
    #[serde(default = "one")]
    pub scale: f32,
}

fn one() -> f32 {
    1.0
}

/// How several GPUs share a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SplitMode {
    /// One GPU holds all of it.
    None,
    /// By layers, with their cache.
    Layer,
    /// By rows of matrices too, if the device supports it.
    Row,
}

/// Whether attention is computed by one fused kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FlashAttention {
    /// If the device supports it.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// The type of cached keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CacheType {
    /// 4 bytes per element.
    F32,
    /// 2 bytes per element.
    F16,
    /// 34 bytes per 32 elements.
    Q8_0,
}

impl CacheType {
    /// The size of `elements` elements.
    pub(crate) fn bytes(self, elements: u64) -> u64 {
        match self {
            CacheType::F32 => elements.saturating_mul(4),
            CacheType::F16 => elements.saturating_mul(2),
            CacheType::Q8_0 => elements.div_ceil(32).saturating_mul(34),
        }
    }
}

/// How positions beyond the trained context are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies by the same factor.
    Linear,
    /// YaRN.
    Yarn,
}
