//! What the safe binding leaves open, and all that is unsafe here: a context that keeps its model alive, the log, and what the
//! library was compiled for.
#![expect(
    unsafe_code,
    reason = "a borrow that an Arc outlives, and calls into llama.cpp that the binding lacks"
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

use crate::{LoadError, Model};
pub(crate) use log::listen;

/// llama.cpp, started once and never ended: other parts of the program may use it too.
pub(crate) struct Library {
    pub(crate) backend: LlamaBackend,
    /// Its version, and the instruction sets that it uses.
    pub(crate) name: String,
}

/// Starts llama.cpp, or finds it started.
///
/// # Errors
/// [`LoadError::Processor`], instead of the signal that an unknown instruction is.
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
    // If the program has started it itself, it is there already, and this value stands for that.
    let backend = LlamaBackend::init().unwrap_or(LlamaBackend {});
    let used = cpu::list(&features, |feature| feature.compiled);
    let unused = cpu::list(&features, |feature| feature.detected && !feature.compiled);
    let name = format!("llama.cpp {} ({used})", version());
    tracing::info!(used, unused, "started {name}");
    if features.iter().any(|feature| feature.name == "AVX2" && feature.detected && !feature.compiled) {
        tracing::warn!(
            "this build of llama.cpp does not use AVX2, which this processor has: it is several times slower than it could be; \
             build it with `eval \"$(scripts/llama-cpp-flags.sh)\"` first"
        );
    }
    Ok(Library { backend, name })
}

fn version() -> String {
    // SAFETY: a constant string of the library.
    let version = unsafe { llama_cpp_sys_2::llama_version() };
    if version.is_null() {
        return String::new();
    }
    // SAFETY: it is not null, and ends in a zero byte.
    unsafe { CStr::from_ptr(version) }.to_string_lossy().into_owned()
}

/// The devices that llama.cpp can run on here.
///
/// # Errors
/// [`LoadError::Processor`].
pub fn devices() -> Result<Vec<String>, LoadError> {
    library()?;
    let devices = llama_cpp_2::list_llama_ggml_backend_devices();
    Ok(devices.into_iter().map(|device| device.name.to_lowercase()).collect())
}

/// A context and the model that it borrows from.
///
/// The order of the fields is the order in which they are dropped.
pub(crate) struct OwnedContext {
    context: LlamaContext<'static>,
    model: Arc<Model>,
}

impl OwnedContext {
    /// A context over `model`.
    ///
    /// # Errors
    /// If llama.cpp refuses; it says why in its log.
    pub(crate) fn new(
        model: Arc<Model>,
        backend: &LlamaBackend,
        params: LlamaContextParams,
    ) -> Result<Self, LlamaContextLoadError> {
        // llama.cpp writes to the model while it makes a context, so that two must not be made at once.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let llama: *const LlamaModel = &raw const model.llama;
        // SAFETY: the model lies in the `Arc`, which does not move it, is never lent mutably once shared, and lives in the same
        // value as the context, which is dropped before it. The lifetime does not leave this type: `Deref` lends the context
        // for as long as `self` is borrowed, and none of its methods gives the model's lifetime out.
        let llama: &'static LlamaModel = unsafe { &*llama };
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let context = llama.new_context(backend, params)?;
        Ok(Self { context, model })
    }

    pub(crate) fn model(&self) -> &Arc<Model> {
        &self.model
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
