//! A loaded model.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;

use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams, RopeScalingType};
use llama_cpp_2::model::params::{LlamaModelParams, LlamaSplitMode};
use llama_cpp_2::model::{LlamaLoraAdapter, LlamaModel};
use tracing::{debug, info_span};
use upcycle_checkpoint::gguf::Gguf;
use upcycle_core::Support;

use crate::context::Context;
use crate::native::{devices, library, listen};
use crate::rounding::{Rounding, float_products};
use crate::support::{ModelKind, kind_of};
use crate::{CacheType, FlashAttention, LoadError, Lora, Options, RopeScaling, SplitMode};
use crate::{file, vocabulary};

/// The longest context where neither file nor options ask for less.
const DEFAULT_CONTEXT: u32 = 8192;

/// What llama.cpp rounds the cells of a context up to.
const CELLS: u32 = 256;

/// A loaded model, to be shared by verifiers through an `Arc`. Each verifier makes a context of its own on it.
pub struct Model {
    pub(crate) llama: LlamaModel,
    adapter: Option<(Mutex<LlamaLoraAdapter>, Lora)>,
    options: Options,
    kind: ModelKind,
    rounding: Rounding,
    /// Whether a pass of one row takes other kernels than one of more.
    float_products: bool,
    vocab: usize,
    n_ctx: u32,
    /// Bytes of the cache.
    cache_bytes: u64,
    threads: usize,
    threads_batch: usize,
    engine: String,
}

impl Model {
    /// Loads a GGUF file; of a model in several files, the first part, and the others from beside it.
    ///
    /// # Errors
    /// [`LoadError`]. What the header tells is checked before llama.cpp sees the file.
    pub fn load(path: &Path, options: &Options) -> Result<Arc<Self>, LoadError> {
        let _span = info_span!("load", path = %path.display()).entered();
        let parts = file::open(path)?;
        check_options(options)?;
        let kind = kind_of(parts.first());
        let header = Header::read(path, parts.first())?;
        if let ModelKind::NotGenerative { what } = kind {
            return Err(LoadError::NotGenerative { architecture: header.architecture, what });
        }
        let library = library()?;
        if let Some(layers) = options.n_gpu_layers.filter(|&layers| layers > 0)
            && !library.backend.supports_gpu_offload()
        {
            return Err(LoadError::NoGpu { layers, devices: devices()?.join(", ") });
        }
        let mut params = pin!(model_params(options));
        if options.exact && !library.backend.supports_gpu_offload() {
            // Weights that are repacked have one kernel for four rows and another for one.
            params.as_mut().add_cpu_buft_override(c".*");
        }
        let mut llama = vocabulary::load(library, path, &params)?;
        let kind = if llama.is_recurrent() {
            ModelKind::Recurrent
        } else if llama.is_hybrid() {
            ModelKind::Hybrid
        } else {
            kind
        };
        let vocab = usize::try_from(llama.n_vocab()).unwrap_or(0);
        if vocab == 0 {
            let reason = "its vocabulary is empty".to_owned();
            return Err(LoadError::Model { path: path.to_owned(), reason });
        }
        let n_ctx = match options.n_ctx {
            Some(n_ctx) => n_ctx.get(),
            None => llama.n_ctx_train().clamp(1, DEFAULT_CONTEXT),
        };
        let adapter = options.lora.as_ref().map(|lora| adapter(&mut llama, lora)).transpose()?;
        let cores = || available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = options.threads.map_or_else(cores, NonZeroUsize::get);
        let model = Self {
            llama,
            adapter,
            options: options.clone(),
            kind,
            rounding: Rounding::of(&parts),
            float_products: float_products(&parts),
            vocab,
            n_ctx,
            cache_bytes: header.cache_bytes(options, n_ctx),
            threads,
            threads_batch: options.threads_batch.map_or(threads, NonZeroUsize::get),
            engine: library.name.clone(),
        };
        debug!(?model, "loaded");
        Ok(Arc::new(model))
    }

    /// Tokens in the vocabulary.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Rows of a pass at most.
    pub(crate) fn max_rows(&self) -> usize {
        // A batch is no longer than the context.
        self.options.n_batch.get().min(self.n_ctx.max(CELLS)) as usize
    }

    /// Sequence ids.
    pub(crate) fn n_seq_max(&self) -> u16 {
        self.options.n_seq_max
    }

    /// Tokens of the context.
    #[must_use]
    pub fn max_context(&self) -> usize {
        self.n_ctx as usize
    }

    /// Which trees can be verified, and why not more.
    #[must_use]
    pub fn support(&self) -> Support {
        self.kind.support()
    }

    /// Threads of a pass with one row, and with more.
    #[must_use]
    pub fn threads(&self) -> (usize, usize) {
        (self.threads, self.threads_batch)
    }

    /// llama.cpp's version and the instruction sets that it uses.
    #[must_use]
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// How far a logit may move when its row stands beside others.
    pub(crate) fn row_tolerance(&self) -> f32 {
        let cache = [self.options.cache_type_k, self.options.cache_type_v].contains(&CacheType::Q8_0);
        if cache { Rounding::Quantized.row_tolerance() } else { self.rounding.row_tolerance() }
    }

    /// Whether rows are to have the bits of plain decoding.
    pub(crate) fn exact(&self) -> bool {
        self.options.exact
    }

    /// Whether that takes a second row beside a single one.
    pub(crate) fn pads(&self) -> bool {
        self.exact() && self.float_products
    }

    /// The types of cached keys and values. Where both are the same float type, llama.cpp's attention splits the cells of a
    /// pass with one row over the threads, and goes by tiles from 64 rows on; and its graph turns both `f32` and `f16` into
    /// `f16`.
    fn cache_types(&self) -> (KvCacheType, KvCacheType) {
        let (keys, values) = (self.options.cache_type_k, self.options.cache_type_v);
        let values = match self.exact() && keys != CacheType::Q8_0 && values != CacheType::Q8_0 {
            true => KvCacheType::BF16,
            false => cache_type(values),
        };
        (cache_type(keys), values)
    }

    /// A context of its own for `sequences` sequence ids, of which `beside` is for rows that make a second one.
    pub(crate) fn context(
        self: Arc<Self>,
        sequences: u16,
        beside: Option<i32>,
    ) -> Result<Context, LoadError> {
        self.check_memory()?;
        let options = &self.options;
        let (type_k, type_v) = self.cache_types();
        let more = u32::from(beside.is_some());
        // llama.cpp rounds the cells up to 256 anyway, and ends the process if it has ids for more rows than a batch.
        let n_ctx = self.n_ctx.saturating_add(more).max(CELLS);
        let n_batch = options.n_batch.get().saturating_add(more).max(sequences.into()).min(n_ctx);
        let mut params = LlamaContextParams::default()
            .with_n_ctx(n_ctx.try_into().ok())
            .with_n_batch(n_batch)
            .with_n_ubatch(if options.exact { n_batch } else { options.n_ubatch.get().min(n_batch) })
            .with_n_seq_max(sequences.into())
            .with_n_threads(i32::try_from(self.threads).unwrap_or(i32::MAX))
            .with_n_threads_batch(i32::try_from(self.threads_batch).unwrap_or(i32::MAX))
            .with_type_k(type_k)
            .with_type_v(type_v)
            .with_flash_attention_policy(match options.flash_attn {
                FlashAttention::Auto if options.exact => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_ENABLED,
                FlashAttention::Auto => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_AUTO,
                FlashAttention::On => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_ENABLED,
                FlashAttention::Off => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED,
            })
            // Sequences share cells only where there is one pool of them.
            .with_kv_unified(true)
            .with_swa_full(true)
            .with_no_perf(true);
        if let Some(scaling) = options.rope_scaling {
            params = params.with_rope_scaling_type(match scaling {
                RopeScaling::None => RopeScalingType::None,
                RopeScaling::Linear => RopeScalingType::Linear,
                RopeScaling::Yarn => RopeScalingType::Yarn,
            });
        }
        if let Some(base) = options.rope_freq_base {
            params = params.with_rope_freq_base(base);
        }
        if let Some(scale) = options.rope_freq_scale {
            params = params.with_rope_freq_scale(scale);
        }
        let refused = |reason| LoadError::Context { n_ctx: self.n_ctx, reason };
        let mut context = Context::new(Arc::clone(&self), &library()?.backend, params, sequences, beside)
            .map_err(refused)?;
        if let Some((adapter, lora)) = &self.adapter {
            let mut adapter = adapter.lock().unwrap_or_else(PoisonError::into_inner);
            let (set, reason) = listen(|| context.inner().lora_adapter_set(&mut adapter, lora.scale));
            set.map_err(|_| LoadError::Lora { path: lora.path.clone(), reason })?;
        }
        Ok(context)
    }

    /// llama.cpp writes zeros to the whole cache, and the system ends a process that writes to more memory than there is.
    fn check_memory(&self) -> Result<(), LoadError> {
        let offloaded = self.options.n_gpu_layers != Some(0) && library()?.backend.supports_gpu_offload();
        let Some(available) = available_memory().filter(|_| !offloaded) else { return Ok(()) };
        if self.cache_bytes > available {
            let mib = |bytes: u64| bytes >> 20;
            let (needed, available) = (mib(self.cache_bytes), mib(available));
            return Err(LoadError::ContextMemory { n_ctx: self.n_ctx, needed, available });
        }
        Ok(())
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model")
            .field("kind", &self.kind)
            .field("vocab", &self.vocab)
            .field("n_ctx", &self.n_ctx)
            .field("threads", &self.threads)
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

/// Numbers of the header that this crate needs, or that llama.cpp does not survive.
struct Header {
    architecture: String,
    /// Numbers cached for each token: keys, values.
    cached: (u64, u64),
}

impl Header {
    fn read(path: &Path, gguf: &Gguf) -> Result<Self, LoadError> {
        let need = |error| LoadError::Gguf { path: path.to_owned(), source: error };
        let architecture = gguf.string("general.architecture").map_err(need)?.to_owned();
        let key = |part: &str| format!("{architecture}.{part}");
        let number = |part: &str| gguf.get_u64(&key(part)).ok().flatten();
        let bounded = |part: &str, range: std::ops::RangeInclusive<u64>| match number(part) {
            Some(found) if !range.contains(&found) => {
                let expected = format!("{} to {}", range.start(), range.end());
                Err(LoadError::Metadata { key: key(part), found, expected })
            }
            other => Ok(other),
        };
        let layers = bounded("block_count", 1..=512)?.unwrap_or(0);
        let width = bounded("embedding_length", 1..=1 << 20)?.unwrap_or(0);
        let heads = bounded("attention.head_count", 0..=1 << 16)?.unwrap_or(0);
        let kv_heads = bounded("attention.head_count_kv", 0..=1 << 16)?.unwrap_or(heads);
        bounded("context_length", 1..=1 << 30)?;
        let head = width.checked_div(heads).unwrap_or(0);
        let keys = bounded("attention.key_length", 1..=1 << 16)?.unwrap_or(head);
        let values = bounded("attention.value_length", 1..=1 << 16)?.unwrap_or(head);
        let all = layers * kv_heads;
        Ok(Self { architecture, cached: (all * keys, all * values) })
    }

    fn cache_bytes(&self, options: &Options, n_ctx: u32) -> u64 {
        let numbers = |each: u64| each.saturating_mul(n_ctx.into());
        let (keys, values) = self.cached;
        let keys = options.cache_type_k.bytes(numbers(keys));
        keys.saturating_add(options.cache_type_v.bytes(numbers(values)))
    }
}

/// Bytes of memory that are free, where the system tells.
fn available_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn check_options(options: &Options) -> Result<(), LoadError> {
    let refused = |reason: &str| Err(LoadError::Options { reason: reason.to_owned() });
    if options.n_ubatch > options.n_batch {
        return refused("backend.llama-cpp.n_ubatch is above n_batch; set it to n_batch or less");
    }
    if options.cache_type_v == CacheType::Q8_0 && options.flash_attn == FlashAttention::Off {
        return refused(
            "cache_type_v = \"q8_0\" needs flash attention; set flash_attn to \"on\" or \"auto\"",
        );
    }
    if options.exact && options.flash_attn == FlashAttention::Off {
        return refused(
            "backend.llama-cpp.exact needs flash attention; set flash_attn to \"on\" or \"auto\"",
        );
    }
    if !(4..=256).contains(&options.n_seq_max) {
        return refused("backend.llama-cpp.n_seq_max is not in 4 to 256");
    }
    if options.n_ctx.is_some_and(|n_ctx| n_ctx.get() > 1 << 30) {
        return refused("backend.llama-cpp.n_ctx is above 2^30; set it to what the model was made for");
    }
    Ok(())
}

fn model_params(options: &Options) -> LlamaModelParams {
    let params = LlamaModelParams::default()
        .with_main_gpu(i32::try_from(options.main_gpu).unwrap_or(i32::MAX))
        .with_split_mode(match options.split_mode {
            SplitMode::None => LlamaSplitMode::None,
            SplitMode::Layer => LlamaSplitMode::Layer,
            SplitMode::Row => LlamaSplitMode::Row,
        })
        .with_use_mmap(options.mmap)
        .with_use_mlock(options.mlock);
    match options.n_gpu_layers {
        Some(layers) => params.with_n_gpu_layers(layers),
        None => params,
    }
}

fn adapter(llama: &mut LlamaModel, lora: &Lora) -> Result<(Mutex<LlamaLoraAdapter>, Lora), LoadError> {
    let refused = |reason: String| LoadError::Lora { path: lora.path.clone(), reason };
    if !lora.path.is_file() {
        return Err(refused("there is no such file".to_owned()));
    }
    Gguf::open(&lora.path).map_err(|error| refused(error.to_string()))?;
    if !lora.scale.is_finite() {
        return Err(refused(format!("its scale is {}", lora.scale)));
    }
    let (made, reason) = listen(|| llama.lora_adapter_init(&lora.path));
    Ok((Mutex::new(made.map_err(|_| refused(reason))?), lora.clone()))
}

fn cache_type(choice: CacheType) -> KvCacheType {
    match choice {
        CacheType::F32 => KvCacheType::F32,
        CacheType::F16 => KvCacheType::F16,
        CacheType::Q8_0 => KvCacheType::Q8_0,
    }
}
