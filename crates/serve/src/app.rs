//! What all handlers share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use upcycle::{Engine, ServerOptions};
use upcycle_core::SamplingConfig;

use crate::error::ApiError;
use crate::metrics::Metrics;

/// Where the server finds its model, which may still be loading.
pub(crate) type Slot = Arc<OnceLock<App>>;

impl FromRequestParts<Slot> for App {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, slot: &Slot) -> Result<Self, ApiError> {
        slot.get().cloned().ok_or_else(ApiError::loading)
    }
}

/// The state of the server, once its model is loaded.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) options: ServerOptions,
    /// The name of the model in answers.
    pub(crate) model: String,
    /// How tokens are chosen where a request does not say.
    pub(crate) sampling: SamplingConfig,
    pub(crate) metrics: Metrics,
    /// Seconds since 1970.
    pub(crate) started: u64,
    next_seed: AtomicU64,
    next_id: AtomicU64,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    pub(crate) fn new(engine: Engine, options: ServerOptions) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let model = options.model_name.clone().unwrap_or_else(|| engine.model_name().to_owned());
        let metrics = Metrics::new(&engine);
        let sampling = engine.suggested_sampling();
        Self(Arc::new(Shared {
            engine,
            options,
            model,
            sampling,
            metrics,
            started: now.as_secs(),
            next_seed: AtomicU64::new(now.as_nanos() as u64),
            next_id: AtomicU64::new(0),
        }))
    }
}

impl Shared {
    /// Whether a request for `model` is meant for the one that is served.
    pub(crate) fn serves(&self, model: &str) -> bool {
        model.is_empty() || model == self.model || model == "default"
    }

    pub(crate) fn next_seed(&self) -> u64 {
        self.next_seed.fetch_add(1, Ordering::Relaxed)
    }

    /// An id that no other answer of this process has.
    pub(crate) fn next_id(&self, prefix: &str) -> String {
        format!("{prefix}-{:x}{:08x}", self.started, self.next_id.fetch_add(1, Ordering::Relaxed))
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
