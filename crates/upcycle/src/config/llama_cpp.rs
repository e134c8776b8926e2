//! `[backend.llama-cpp]`

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::MAX_THREADS;
use super::choices::{existing_file, names, out_of_range};
use super::error::Problem;

/// `[backend.llama-cpp]`, under llama.cpp's own names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLlamaCpp {
    /// Layers on the GPU; as many as fit where left out.
    pub n_gpu_layers: Option<u32>,
    /// The GPU that holds what is not split.
    pub main_gpu: Option<u32>,
    /// `none`, `layer` or `row`
    pub split_mode: Option<String>,
    /// Threads of a pass with one row; one for each core where left out.
    pub threads: Option<usize>,
    /// Threads of a pass with more rows; as `threads` where left out.
    pub threads_batch: Option<usize>,
    /// `auto`, `on` or `off`
    pub flash_attn: Option<String>,
    /// Whether rows have the bits of plain decoding.
    pub exact: Option<bool>,
    /// `f32`, `f16` or `q8_0`
    pub cache_type_k: Option<String>,
    /// `f32`, `f16` or `q8_0`
    pub cache_type_v: Option<String>,
    /// Whether the file is mapped into memory.
    pub mmap: Option<bool>,
    /// Whether the weights are locked in memory.
    pub mlock: Option<bool>,
    /// Cells of the cache; the model's context, at most 8192, where left out.
    pub n_ctx: Option<u32>,
    /// Rows of a pass at most.
    pub n_batch: Option<u32>,
    /// Rows that the engine computes at once.
    pub n_ubatch: Option<u32>,
    /// Sequence ids: a quarter for open sequences, the others for leaves of trees.
    pub n_seq_max: Option<u32>,
    /// `none`, `linear` or `yarn`; as the file says where left out.
    pub rope_scaling: Option<String>,
    /// The base of the rotation's frequencies; the file's where left out.
    pub rope_freq_base: Option<f32>,
    /// The factor of the rotation's frequencies; the file's where left out.
    pub rope_freq_scale: Option<f32>,
    /// `[backend.llama-cpp.lora]`
    pub lora: RawLora,
}

/// `[backend.llama-cpp.lora]`: an adapter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLora {
    /// The GGUF file.
    pub path: Option<PathBuf>,
    /// By how much its effect is multiplied; 1 where left out.
    pub scale: Option<f32>,
}

/// Options of the llama.cpp backend.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaCppChoice {
    /// Layers on the GPU; as many as fit if none.
    pub n_gpu_layers: Option<u32>,
    /// The GPU that holds what is not split.
    pub main_gpu: u32,
    /// How the model is spread over several GPUs.
    pub split_mode: SplitMode,
    /// Threads of a pass with one row; one for each core if none.
    pub threads: Option<NonZeroUsize>,
    /// Threads of a pass with more rows; as `threads` if none.
    pub threads_batch: Option<NonZeroUsize>,
    /// Whether attention is computed in one fused step.
    pub flash_attn: FlashAttention,
    /// Whether rows have the bits of plain decoding.
    pub exact: bool,
    /// The type of cached keys.
    pub cache_type_k: CacheType,
    /// The type of cached values.
    pub cache_type_v: CacheType,
    /// Whether the file is mapped into memory.
    pub mmap: bool,
    /// Whether the weights are locked in memory.
    pub mlock: bool,
    /// Cells of the cache; the model's context, at most 8192, if none.
    pub n_ctx: Option<NonZeroU32>,
    /// Rows of a pass at most.
    pub n_batch: NonZeroU32,
    /// Rows that the engine computes at once; at most `n_batch`.
    pub n_ubatch: NonZeroU32,
    /// Sequence ids: a quarter for open sequences, the others for leaves of trees.
    pub n_seq_max: u16,
    /// How positions are scaled; as the file says if none.
    pub rope_scaling: Option<RopeScaling>,
    /// The base of the rotation's frequencies; the file's if none.
    pub rope_freq_base: Option<f32>,
    /// The factor of the rotation's frequencies; the file's if none.
    pub rope_freq_scale: Option<f32>,
    /// The file of an adapter, and by how much its effect is multiplied.
    pub lora: Option<(PathBuf, f32)>,
}

names! {
    /// How a model is spread over several GPUs.
    SplitMode {
        /// Not at all: one GPU.
        None = "none",
        /// Layers and their cache.
        Layer = "layer",
        /// Rows of matrices too.
        Row = "row",
    }
}

names! {
    /// Whether attention is computed in one fused step.
    FlashAttention {
        /// Where the device can.
        Auto = "auto",
        /// Always.
        On = "on",
        /// Never.
        Off = "off",
    }
}

names! {
    /// The type of cached keys or values.
    CacheType {
        /// 4 bytes a number.
        F32 = "f32",
        /// 2 bytes a number.
        F16 = "f16",
        /// 34 bytes for 32 numbers.
        Q8_0 = "q8_0",
    }
}

names! {
    /// How positions beyond the trained context are scaled.
    RopeScaling {
        /// Not at all.
        None = "none",
        /// All frequencies alike.
        Linear = "linear",
        /// YaRN.
        Yarn = "yarn",
    }
}

/// Cells and rows at most: beyond it, numbers of llama.cpp overflow.
const MAX_CONTEXT: u32 = 1 << 30;
/// Rows of a pass where the configuration does not say.
const DEFAULT_ROWS: u32 = 512;
/// Rows of a pass at most: each may have a row of logits, and room for 256 sequence ids.
const MAX_ROWS: u32 = 1 << 16;

/// Sequence ids where the configuration does not say: enough for the paper's tree, which has 40 leaves.
const DEFAULT_IDS: u32 = 64;

impl RawLlamaCpp {
    pub(super) fn check(self) -> Result<LlamaCppChoice, Problem> {
        fn name<T>(
            key: &'static str,
            found: Option<String>,
            parse: fn(&'static str, &str) -> Result<T, Problem>,
        ) -> Result<Option<T>, Problem> {
            found.map(|found| parse(key, &found)).transpose()
        }
        let number = |key, found: Option<u32>, max| {
            let sound = |found| NonZeroU32::new(found).filter(|found| found.get() <= max);
            let check = |found| sound(found).ok_or_else(|| out_of_range(key, &found, &format!("1 to {max}")));
            found.map(check).transpose()
        };
        let threads = |key, found: Option<usize>| {
            let sound = |found| NonZeroUsize::new(found).filter(|found| found.get() <= MAX_THREADS);
            let check =
                |found| sound(found).ok_or_else(|| out_of_range(key, &found, &format!("1 to {MAX_THREADS}")));
            found.map(check).transpose()
        };
        let positive = |key, found: Option<f32>| {
            let check = |found: f32| match found.is_finite() && found > 0.0 {
                true => Ok(found),
                false => Err(out_of_range(key, &found, "a number above 0")),
            };
            found.map(check).transpose()
        };
        let rows = |key, found| {
            number(key, found, MAX_ROWS)
                .map(|found| found.or(NonZeroU32::new(DEFAULT_ROWS)).unwrap_or(NonZeroU32::MIN))
        };
        let n_batch = rows("backend.llama-cpp.n_batch", self.n_batch)?;
        let n_ubatch =
            rows("backend.llama-cpp.n_ubatch", self.n_ubatch.or(Some(n_batch.get().min(DEFAULT_ROWS))))?;
        if n_ubatch > n_batch {
            return Err(out_of_range(
                "backend.llama-cpp.n_ubatch",
                &n_ubatch,
                &format!("1 to {n_batch}, which is n_batch"),
            ));
        }
        let ids = self.n_seq_max.unwrap_or(DEFAULT_IDS);
        let n_seq_max = u16::try_from(ids).ok().filter(|ids| (4..=256).contains(ids));
        let n_seq_max =
            n_seq_max.ok_or_else(|| out_of_range("backend.llama-cpp.n_seq_max", &ids, "4 to 256"))?;
        let flash_attn = name("backend.llama-cpp.flash_attn", self.flash_attn, FlashAttention::parse)?
            .unwrap_or(FlashAttention::Auto);
        let cache_type_v = name("backend.llama-cpp.cache_type_v", self.cache_type_v, CacheType::parse)?
            .unwrap_or(CacheType::F16);
        if cache_type_v == CacheType::Q8_0 && flash_attn == FlashAttention::Off {
            return Err(out_of_range(
                "backend.llama-cpp.flash_attn",
                &"off",
                "`auto` or `on` where cache_type_v is `q8_0`",
            ));
        }
        let exact = self.exact.unwrap_or(false);
        if exact && flash_attn == FlashAttention::Off {
            return Err(out_of_range(
                "backend.llama-cpp.flash_attn",
                &"off",
                "`auto` or `on` where `exact` is set",
            ));
        }
        Ok(LlamaCppChoice {
            n_gpu_layers: self.n_gpu_layers,
            main_gpu: self.main_gpu.unwrap_or(0),
            split_mode: name("backend.llama-cpp.split_mode", self.split_mode, SplitMode::parse)?
                .unwrap_or(SplitMode::Layer),
            threads: threads("backend.llama-cpp.threads", self.threads)?,
            threads_batch: threads("backend.llama-cpp.threads_batch", self.threads_batch)?,
            flash_attn,
            exact,
            cache_type_k: name("backend.llama-cpp.cache_type_k", self.cache_type_k, CacheType::parse)?
                .unwrap_or(CacheType::F16),
            cache_type_v,
            mmap: self.mmap.unwrap_or(true),
            mlock: self.mlock.unwrap_or(false),
            n_ctx: number("backend.llama-cpp.n_ctx", self.n_ctx, MAX_CONTEXT)?,
            n_batch,
            n_ubatch,
            n_seq_max,
            rope_scaling: name("backend.llama-cpp.rope_scaling", self.rope_scaling, RopeScaling::parse)?,
            rope_freq_base: positive("backend.llama-cpp.rope_freq_base", self.rope_freq_base)?,
            rope_freq_scale: positive("backend.llama-cpp.rope_freq_scale", self.rope_freq_scale)?,
            lora: self.lora.check()?,
        })
    }

    /// A table that has every key.
    pub(super) fn specimen() -> Self {
        let text = || Some(String::new());
        Self {
            n_gpu_layers: Some(0),
            main_gpu: Some(0),
            split_mode: text(),
            threads: Some(0),
            threads_batch: Some(0),
            flash_attn: text(),
            exact: Some(false),
            cache_type_k: text(),
            cache_type_v: text(),
            mmap: Some(false),
            mlock: Some(false),
            n_ctx: Some(0),
            n_batch: Some(0),
            n_ubatch: Some(0),
            n_seq_max: Some(0),
            rope_scaling: text(),
            rope_freq_base: Some(0.0),
            rope_freq_scale: Some(0.0),
            lora: RawLora { path: Some(PathBuf::new()), scale: Some(0.0) },
        }
    }
}

impl RawLora {
    fn check(self) -> Result<Option<(PathBuf, f32)>, Problem> {
        const SCALE: &str = "backend.llama-cpp.lora.scale";
        match (self.path, self.scale) {
            (None, None) => Ok(None),
            (None, Some(scale)) => {
                Err(out_of_range(SCALE, &scale, "no scale where there is no `backend.llama-cpp.lora.path`"))
            }
            (Some(_), Some(scale)) if !scale.is_finite() => {
                Err(out_of_range(SCALE, &scale, "a finite number"))
            }
            (Some(path), scale) => {
                Ok(Some((existing_file("backend.llama-cpp.lora.path", path)?, scale.unwrap_or(1.0))))
            }
        }
    }
}

impl From<LlamaCppChoice> for RawLlamaCpp {
    fn from(choice: LlamaCppChoice) -> Self {
        let (path, scale) = choice.lora.unzip();
        Self {
            n_gpu_layers: choice.n_gpu_layers,
            main_gpu: Some(choice.main_gpu),
            split_mode: Some(choice.split_mode.name().to_owned()),
            threads: choice.threads.map(NonZeroUsize::get),
            threads_batch: choice.threads_batch.map(NonZeroUsize::get),
            flash_attn: Some(choice.flash_attn.name().to_owned()),
            exact: Some(choice.exact),
            cache_type_k: Some(choice.cache_type_k.name().to_owned()),
            cache_type_v: Some(choice.cache_type_v.name().to_owned()),
            mmap: Some(choice.mmap),
            mlock: Some(choice.mlock),
            n_ctx: choice.n_ctx.map(NonZeroU32::get),
            n_batch: Some(choice.n_batch.get()),
            n_ubatch: Some(choice.n_ubatch.get()),
            n_seq_max: Some(choice.n_seq_max.into()),
            rope_scaling: choice.rope_scaling.map(|scaling| scaling.name().to_owned()),
            rope_freq_base: choice.rope_freq_base,
            rope_freq_scale: choice.rope_freq_scale,
            lora: RawLora { path, scale },
        }
    }
}
