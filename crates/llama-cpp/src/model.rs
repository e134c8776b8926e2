//! A loaded model.

use std::fmt;
use std::num::{NonZeroU32, NonZeroUsize};
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
use crate::error::LoadError;
use crate::file;
use crate::header::Header;
use crate::native::{devices, library, listen};
use crate::options::{CacheType, DEFAULT_ROWS, FlashAttention, Lora, Options, RopeScaling, SplitMode};
use crate::rounding::{Rounding, has_float_matrices};
use crate::support::{ModelKind, kind_of};
use crate::trial::{Extent, Trial};

/// The longest context if the options state none.
const DEFAULT_CONTEXT: u32 = 8192;

/// llama.cpp rounds the cells of a context up to a multiple of this.
const CELL_UNIT: u32 = 256;

/// A loaded model. Verifiers share it through an `Arc`, and each makes its own context on it.
pub struct Model {
    llama: Arc<LlamaModel>,
    adapter: Option<(Mutex<LlamaLoraAdapter>, Lora)>,
    options: Options,
    kind: ModelKind,
    rounding: Rounding,
    /// Whether llama.cpp has other kernels for a pass of one row than for more rows.
    has_float_matrices: bool,
    vocab: usize,
    n_ctx: u32,
    /// The size of the cache.
    cache_bytes: u64,
    threads: usize,
    threads_batch: usize,
    engine: String,
}

/// The kind of a model, which llama.cpp knows better than its file.
fn kind_of_loaded(llama: &LlamaModel, kind: ModelKind) -> ModelKind {
    if llama.is_recurrent() {
        ModelKind::Recurrent
    } else if llama.is_hybrid() {
        ModelKind::Hybrid
    } else {
        kind
    }
}

fn context_length(llama: &LlamaModel, options: &Options) -> u32 {
    match options.n_ctx {
        Some(n_ctx) => n_ctx.get(),
        None => llama.n_ctx_train().clamp(1, DEFAULT_CONTEXT),
    }
}

/// What a model is loaded for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Use,
    Rehearsal,
}

impl Model {
    /// Loads a GGUF file. For a model in several files, `path` is the first part, and the others are in the same folder.
    ///
    /// # Errors
    /// [`LoadError`]. The header is checked before llama.cpp sees the file.
    pub fn load(path: &Path, options: &Options) -> Result<Arc<Self>, LoadError> {
        let _span = info_span!("load", path = %path.display()).entered();
        Self::load_with(path, options, Purpose::Use)
    }

    /// Loads the file into this process and scores one token: the child's part of a [trial](crate::trial). Uses the CPU and a short
    /// context, and maps the weights into memory as they are. So it takes about as long as that token.
    ///
    /// # Errors
    /// As for [`load`](Self::load), and [`PassError`](crate::PassError).
    pub(crate) fn rehearse(path: &Path, options: &Options) -> Result<(), Box<dyn std::error::Error>> {
        let mut options = Options { n_gpu_layers: None, mlock: false, ..options.clone() };
        if library()?.backend.supports_gpu_offload() {
            options.n_gpu_layers = Some(0);
        }
        options.n_ctx = options
            .n_ctx
            .map_or(NonZeroU32::new(CELL_UNIT), |n_ctx| NonZeroU32::new(n_ctx.get().min(CELL_UNIT)));
        let model = Self::load_with(path, &options, Purpose::Rehearsal)?;
        let mut context = model.context(model.n_seq_max(), None)?;
        context.push(0, 0, &[0], true)?;
        Ok(context.decode()?)
    }

    fn load_with(path: &Path, options: &Options, purpose: Purpose) -> Result<Arc<Self>, LoadError> {
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
        let mapped = options.mmap && file::is_mappable(&parts);
        let mut params = pin!(model_params(options).with_use_mmap(mapped));
        let rehearsal = purpose == Purpose::Rehearsal;
        if (options.row_invariant || rehearsal) && !library.backend.supports_gpu_offload() {
            // Repacked weights have different kernels for one row and for four. Repacking also takes long.
            params.as_mut().add_cpu_buft_override(c".*");
        }
        let trial = Trial::new(path, Some(options), Extent::Weights);
        let mut llama = file::load(library, path, &params, (!rehearsal).then_some(&trial))?;
        let kind = kind_of_loaded(&llama, kind);
        let vocab = usize::try_from(llama.n_vocab()).unwrap_or(0);
        if vocab == 0 {
            let reason = "its vocabulary is empty".to_owned();
            return Err(LoadError::Model { path: path.to_owned(), reason });
        }
        let n_ctx = context_length(&llama, options);
        let adapter = options.lora.as_ref().map(|lora| adapter(&mut llama, lora)).transpose()?;
        let cores = || available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = options.threads.map_or_else(cores, NonZeroUsize::get);
        let model = Self {
            llama: Arc::new(llama),
            adapter,
            options: options.clone(),
            kind,
            rounding: Rounding::new(&parts),
            has_float_matrices: has_float_matrices(&parts),
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

    /// Checks by the headers of its files that llama.cpp can load a model: it makes the model without memory for weights. Returns
    /// which trees can be verified, and the length of the context.
    ///
    /// # Errors
    /// Those of [`load`](Self::load) that the headers show.
    pub fn check(path: &Path, options: &Options) -> Result<(Support, usize), LoadError> {
        let parts = file::open(path)?;
        check_options(options)?;
        let kind = kind_of(parts.first());
        let header = Header::read(path, parts.first())?;
        if let ModelKind::NotGenerative { what } = kind {
            return Err(LoadError::NotGenerative { architecture: header.architecture, what });
        }
        let trial = Trial::new(path, Some(options), Extent::Headers);
        let params = LlamaModelParams::default().with_no_alloc(true);
        let llama = file::load(library()?, path, &params, Some(&trial))?;
        Ok((kind_of_loaded(&llama, kind).support(), context_length(&llama, options) as usize))
    }

    /// The size of the vocabulary.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The most rows of a pass.
    pub(crate) fn max_rows(&self) -> usize {
        // llama.cpp limits a batch to the context.
        self.options.n_batch.get().min(self.n_ctx.max(CELL_UNIT)) as usize
    }

    /// The number of sequence ids.
    pub(crate) fn n_seq_max(&self) -> u16 {
        self.options.n_seq_max
    }

    /// The length of the context.
    #[must_use]
    pub fn max_context(&self) -> usize {
        self.n_ctx as usize
    }

    /// Which trees can be verified, and why no richer ones.
    #[must_use]
    pub fn support(&self) -> Support {
        self.kind.support()
    }

    /// The threads of a pass of one row, and of a pass of more rows.
    #[must_use]
    pub fn threads(&self) -> (usize, usize) {
        (self.threads, self.threads_batch)
    }

    /// llama.cpp's version, and the instruction sets in use.
    #[must_use]
    pub fn engine(&self) -> &str {
        &self.engine
    }

    /// The most that a logit may differ from plain decoding because of the other rows in its pass.
    pub(crate) fn row_tolerance(&self) -> f32 {
        let quantized_cache =
            [self.options.cache_type_k, self.options.cache_type_v].contains(&CacheType::Q8_0);
        if quantized_cache { Rounding::Quantized.row_tolerance() } else { self.rounding.row_tolerance() }
    }

    /// Whether rows have to be bit for bit those of plain decoding.
    pub(crate) fn row_invariant(&self) -> bool {
        self.options.row_invariant
    }

    /// Whether that needs a second row beside a single one.
    pub(crate) fn pads_single_rows(&self) -> bool {
        self.row_invariant() && self.has_float_matrices
    }

    /// The types of cached keys and values. Row invariance needs two different float types. For equal ones, llama.cpp's attention
    /// splits the cells of a pass of one row over the threads and computes 64 and more rows by tiles. `bf16` is the only other
    /// choice, because its graph converts both `f32` and `f16` to `f16`.
    fn cache_types(&self) -> (KvCacheType, KvCacheType) {
        let (keys, values) = (self.options.cache_type_k, self.options.cache_type_v);
        let values = match self.row_invariant() && keys != CacheType::Q8_0 && values != CacheType::Q8_0 {
            true => KvCacheType::BF16,
            false => cache_type(values),
        };
        (cache_type(keys), values)
    }

    /// A new context with `id_count` sequence ids. `padding_id` is the one for a second row beside a single one.
    pub(crate) fn context(&self, id_count: u16, padding_id: Option<i32>) -> Result<Context, LoadError> {
        self.check_memory()?;
        let options = &self.options;
        let (type_k, type_v) = self.cache_types();
        let padding_rows = u32::from(padding_id.is_some());
        // llama.cpp rounds the cells up to 256 anyway, and aborts the process if a batch has fewer rows than there are ids.
        let n_ctx = self.n_ctx.saturating_add(padding_rows).max(CELL_UNIT);
        let n_batch = options.n_batch.get().saturating_add(padding_rows).max(id_count.into()).min(n_ctx);
        let mut params = LlamaContextParams::default()
            .with_n_ctx(n_ctx.try_into().ok())
            .with_n_batch(n_batch)
            .with_n_ubatch(if options.row_invariant {
                n_batch
            } else {
                options.n_ubatch.unwrap_or(DEFAULT_ROWS).get().min(n_batch)
            })
            .with_n_seq_max(id_count.into())
            .with_n_threads(i32::try_from(self.threads).unwrap_or(i32::MAX))
            .with_n_threads_batch(i32::try_from(self.threads_batch).unwrap_or(i32::MAX))
            .with_type_k(type_k)
            .with_type_v(type_v)
            .with_flash_attention_policy(match options.flash_attn {
                FlashAttention::Auto if options.row_invariant => {
                    llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_ENABLED
                }
                FlashAttention::Auto => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_AUTO,
                FlashAttention::On => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_ENABLED,
                FlashAttention::Off => llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED,
            })
            // Sequences can share cells only in one pool.
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
        let mut context =
            Context::new(Arc::clone(&self.llama), &library()?.backend, params, id_count, padding_id)
                .map_err(refused)?;
        if let Some((adapter, lora)) = &self.adapter {
            let mut adapter = adapter.lock().unwrap_or_else(PoisonError::into_inner);
            let set = context.set_adapter(&mut adapter, lora.scale);
            set.map_err(|reason| LoadError::Lora { path: lora.path.clone(), reason })?;
        }
        Ok(context)
    }

    /// Checks that the cache fits in memory. llama.cpp writes zeros to all of it, and the system kills a process that writes to
    /// more memory than there is.
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

/// The bytes of free memory, if the system reports them.
fn available_memory() -> Option<u64> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn check_options(options: &Options) -> Result<(), LoadError> {
    let refused = |reason: &str| Err(LoadError::Options { reason: reason.to_owned() });
    if options.n_ubatch.is_some_and(|rows| rows > options.n_batch) {
        return refused("backend.llama-cpp.n_ubatch is larger than n_batch; set it to n_batch or less");
    }
    if options.cache_type_v == CacheType::Q8_0 && options.flash_attn == FlashAttention::Off {
        return refused(
            "cache_type_v = \"q8_0\" needs flash attention; set flash_attn to \"on\" or \"auto\"",
        );
    }
    if options.row_invariant && options.flash_attn == FlashAttention::Off {
        return refused(
            "backend.llama-cpp.row_invariant needs flash attention; set flash_attn to \"on\" or \"auto\"",
        );
    }
    if !(4..=256).contains(&options.n_seq_max) {
        return refused("backend.llama-cpp.n_seq_max must be 4 to 256");
    }
    if options.n_ctx.is_some_and(|n_ctx| n_ctx.get() > 1 << 30) {
        return refused("backend.llama-cpp.n_ctx is larger than 2^30; set it to the context of the model");
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
    Gguf::open_lenient(&lora.path).map_err(|error| refused(error.to_string()))?;
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
