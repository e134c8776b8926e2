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
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use llama_cpp_2::LlamaContextLoadError;
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::model::LlamaModel;

use crate::error::LoadError;
pub(crate) use log::listen;

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
    // Fails only if the program has initialized llama.cpp by itself.
    let backend = LlamaBackend::init().unwrap_or(LlamaBackend {});
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
/// The context is the first field, so that it is dropped first.
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
        // dropped first. The lifetime does not leave this type: `Deref` lends the context for as long as `self` is borrowed,
        // and no method of the context returns the model's lifetime.
        let borrowed: &'static LlamaModel = unsafe { &*borrowed };
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let context = borrowed.new_context(backend, params)?;
        Ok(Self { context, _model: model })
    }
}

impl Deref for OwnedContext {
    type Target = LlamaContext<'static>;

    fn deref(&self) -> &Self::Target {
        &self.context
    }
}

impl DerefMut for OwnedContext {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.context
    }
}

impl fmt::Debug for OwnedContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.context.fmt(f)
    }
}
