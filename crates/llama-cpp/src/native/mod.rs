//! All unsafe code of this crate, for what the safe binding lacks: a context that keeps its model alive, the log, and what the
//! library was compiled for.
#![expect(
    unsafe_code,
    reason = "a context that owns the model it borrows, and calls into llama.cpp that the binding lacks"
)]

mod cpu;
mod log;

use std::ffi::CStr;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::kv_cache::KvCacheConversionError;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::{LlamaLoraAdapter, LlamaModel};
use llama_cpp_2::{DecodeError, LlamaContextLoadError, LlamaLoraAdapterSetError};

use crate::error::LoadError;
pub(crate) use log::{listen, log_to_stderr};

/// llama.cpp, initialized once and never shut down, because other parts of the program may use it too.
pub(crate) struct Library {
    pub(crate) backend: LlamaBackend,
    /// The version, and the instruction sets in use.
    pub(crate) name: String,
}

/// llama.cpp, initialized by the first call.
///
/// # Errors
/// [`LoadError::Processor`], where an unknown instruction would end the process.
pub(crate) fn library() -> Result<&'static Library, LoadError> {
    static LIBRARY: LazyLock<Result<Library, String>> = LazyLock::new(start);
    LIBRARY.as_ref().map_err(|missing| LoadError::Processor { missing: missing.clone() })
}

fn start() -> Result<Library, String> {
    let features = cpu::features();
    let missing = cpu::list(&features, |feature| feature.compiled && !feature.detected);
    if !missing.is_empty() {
        return Err(missing);
    }
    log::install();
    // Fails only if the program has initialized llama.cpp by itself. Dropping a `LlamaBackend` shuts llama.cpp down, so none may be
    // made in vain.
    let backend = LlamaBackend::init().unwrap_or_else(|_| LlamaBackend {});
    let used = cpu::list(&features, |feature| feature.compiled);
    let unused = cpu::list(&features, |feature| feature.detected && !feature.compiled);
    let name = format!("llama.cpp {} ({used})", version());
    tracing::info!(used, unused, "started {name}");
    if features.iter().any(|feature| feature.name == "AVX2" && feature.detected && !feature.compiled) {
        tracing::warn!(
            "this build of llama.cpp does not use AVX2, which this processor has, and is several times slower for it; build it \
             with `eval \"$(scripts/llama-cpp-flags.sh)\"` first"
        );
    }
    Ok(Library { backend, name })
}

fn version() -> String {
    // SAFETY: it returns a constant string of the library.
    let version = unsafe { llama_cpp_sys_2::llama_version() };
    if version.is_null() {
        return String::new();
    }
    // SAFETY: it is not null, and ends in a zero byte.
    unsafe { CStr::from_ptr(version) }.to_string_lossy().into_owned()
}

/// The devices that llama.cpp can use on this machine.
///
/// # Errors
/// [`LoadError::Processor`].
pub fn devices() -> Result<Vec<String>, LoadError> {
    library()?;
    let devices = llama_cpp_2::list_llama_ggml_backend_devices();
    Ok(devices.into_iter().map(|device| device.name.to_lowercase()).collect())
}

/// A context, and the model that it borrows.
///
/// The context is the first field, so that it is dropped first. It is lent to nobody: it could be swapped for another one, and its
/// public field has the model's invented lifetime.
pub(crate) struct OwnedContext {
    context: LlamaContext<'static>,
    _model: Arc<LlamaModel>,
}

impl OwnedContext {
    /// A context over `model`.
    ///
    /// # Errors
    /// If llama.cpp refuses. Its log says why.
    pub(crate) fn new(
        model: Arc<LlamaModel>,
        backend: &LlamaBackend,
        params: LlamaContextParams,
    ) -> Result<Self, LlamaContextLoadError> {
        // llama.cpp writes to the model while it makes a context, so only one may be made at a time.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let borrowed: *const LlamaModel = Arc::as_ptr(&model);
        // SAFETY: the `Arc` does not move the model, lends it only shared, and lives in the same value as the context, which is
        // dropped first. The lifetime does not leave this type: no method returns the context, or anything with its lifetime.
        let borrowed: &'static LlamaModel = unsafe { &*borrowed };
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let context = borrowed.new_context(backend, params)?;
        Ok(Self { context, _model: model })
    }

    /// The most rows of a batch.
    pub(crate) fn n_batch(&self) -> usize {
        self.context.n_batch() as usize
    }

    /// Cells of the cache.
    pub(crate) fn n_ctx(&self) -> usize {
        self.context.n_ctx() as usize
    }

    /// Scores a batch.
    pub(crate) fn decode(&mut self, batch: &mut LlamaBatch<'_>) -> Result<(), DecodeError> {
        self.context.decode(batch)
    }

    /// The logits of a row of the last batch.
    pub(crate) fn logits(&self, row: i32) -> &[f32] {
        self.context.get_logits_ith(row)
    }

    /// Applies an adapter.
    pub(crate) fn set_adapter(
        &mut self,
        adapter: &mut LlamaLoraAdapter,
        scale: f32,
    ) -> Result<(), LlamaLoraAdapterSetError> {
        self.context.lora_adapter_set(adapter, scale)
    }

    /// Adds id `to` to the cells of id `from` at these positions.
    pub(crate) fn share(
        &mut self,
        from: i32,
        to: i32,
        positions: Range<u32>,
    ) -> Result<(), KvCacheConversionError> {
        self.context.kv_cache_seq_cp(from, to, Some(positions.start), Some(positions.end))
    }

    /// Removes an id from its cells at `start` and later.
    pub(crate) fn drop_from(&mut self, id: i32, start: u32) -> Result<(), KvCacheConversionError> {
        self.context.kv_cache_seq_rm(id, Some(start), None)
    }
}

impl fmt::Debug for OwnedContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.context.fmt(f)
    }
}
