//! The settings of the backend, under llama.cpp's own names.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

/// How a model is loaded and run: the table `[backend.llama-cpp]` of a configuration file.
///
/// llama.cpp's `tensor_split` is missing, because the binding has no way to set it: weights are spread over GPUs by their
/// free memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Layers on the GPU; as many as fit if none. More than 0 needs a build for a GPU.
    pub n_gpu_layers: Option<u32>,
    /// The GPU that holds what is not split.
    pub main_gpu: u32,
    /// How the model is spread over several GPUs.
    pub split_mode: SplitMode,
    /// Threads of a pass with one row; one for each core that the process may use if none.
    pub threads: Option<NonZeroUsize>,
    /// Threads of a pass with more rows; as `threads` if none.
    pub threads_batch: Option<NonZeroUsize>,
    /// Whether attention is computed in one fused step.
    pub flash_attn: FlashAttention,
    /// Whether every row has the bits that it has in plain decoding with this option, so that texts are equal and not only
    /// within rounding. It takes flash attention, values cached as `bf16` unless they or the keys are `q8_0`, weights as they are
    /// in the file, and one open sequence at a time; where accepted rows lie out of order they are scored again, and a model with matrices in
    /// 16 or 32 bits scores a second row beside each single one. Loading checks that it holds.
    pub exact: bool,
    /// The type of cached keys.
    pub cache_type_k: CacheType,
    /// The type of cached values; a quantized one needs flash attention.
    pub cache_type_v: CacheType,
    /// Whether the file is mapped into memory.
    pub mmap: bool,
    /// Whether the weights are locked in memory.
    pub mlock: bool,
    /// Cells of the cache: the longest context, and what all open sequences share. The model's own context, at most 8192, if
    /// none.
    pub n_ctx: Option<NonZeroU32>,
    /// Rows of a pass at most.
    pub n_batch: NonZeroU32,
    /// Rows that the engine computes at once; at most `n_batch`.
    pub n_ubatch: NonZeroU32,
    /// Sequence ids, 4 to 256: a quarter for open sequences, the others for leaves of trees. Each makes every pass a little
    /// dearer.
    pub n_seq_max: u16,
    /// How positions are scaled; as the file says if none.
    pub rope_scaling: Option<RopeScaling>,
    /// The base of the rotation's frequencies; the file's if none.
    pub rope_freq_base: Option<f32>,
    /// The factor of the rotation's frequencies; the file's if none.
    pub rope_freq_scale: Option<f32>,
    /// An adapter that is applied to the weights. One, because the binding replaces one by the next.
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
            exact: false,
            cache_type_k: CacheType::F16,
            cache_type_v: CacheType::F16,
            mmap: true,
            mlock: false,
            n_ctx: None,
            n_batch: DEFAULT_ROWS,
            n_ubatch: DEFAULT_ROWS,
            n_seq_max: 64,
            rope_scaling: None,
            rope_freq_base: None,
            rope_freq_scale: None,
            lora: None,
        }
    }
}

const DEFAULT_ROWS: NonZeroU32 = NonZeroU32::new(512).unwrap();

/// A LoRA adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// The GGUF file.
    pub path: PathBuf,
    /// By how much its effect is multiplied.
    pub scale: f32,
}

/// How a model is spread over several GPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SplitMode {
    /// Not at all: one GPU.
    None,
    /// Layers and their cache.
    Layer,
    /// Rows of matrices too, where the device can.
    Row,
}

/// Whether attention is computed in one fused step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FlashAttention {
    /// Where the device can.
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// The type of cached keys or values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheType {
    /// 4 bytes a number.
    F32,
    /// 2 bytes a number.
    F16,
    /// 34 bytes for 32 numbers.
    Q8_0,
}

impl CacheType {
    /// Bytes of `numbers` numbers.
    pub(crate) fn bytes(self, numbers: u64) -> u64 {
        match self {
            CacheType::F32 => numbers.saturating_mul(4),
            CacheType::F16 => numbers.saturating_mul(2),
            CacheType::Q8_0 => numbers.div_ceil(32).saturating_mul(34),
        }
    }
}

/// How positions beyond the trained context are scaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies alike.
    Linear,
    /// YaRN.
    Yarn,
}
