//! An OpenAI-compatible HTTP server over an [`Engine`].
//!
//! [`run`] binds, loads the model while it answers `/health` with 503, serves, and drains on SIGTERM. [`router`] is the same
//! as an axum router, to mount in a server of one's own.
//!
//! Endpoints: `POST /v1/chat/completions`, `/v1/completions`, `/v1/responses`, `/v1/messages`, `/tokenize`, `/detokenize`;
//! `GET /v1/models`, `/health`, `/ready`, `/metrics`, `/openapi.json`, and a page to chat at `/`.
#![forbid(unsafe_code)]

mod api;
mod app;
mod auth;
mod error;
mod listen;
mod metrics;
mod pages;
mod summary;

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::HeaderValue;
use axum::routing::{get, post};
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer};
use tower_http::trace::TraceLayer;
use upcycle::{Engine, ServerOptions};

use api::{chat, completions, messages, models, responses, tokens};
use app::{App, Slot};
use error::ApiError;

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address cannot be used.
    #[error("cannot listen on {address}; choose another `server.host` or `server.port`")]
    Bind {
        /// The address.
        address: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file of API keys cannot be used.
    #[error("cannot read API keys from {}", path.display())]
    ApiKeys {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An origin that is not one.
    #[error("`server.cors_origins` has {0:?}, which is not an origin such as \"https://example.org\"")]
    Origin(String),
    /// The system refuses what a server needs.
    #[error("cannot start the server")]
    Start(#[source] io::Error),
    /// The model cannot be loaded.
    #[error("the model was not loaded")]
    Load(#[source] Box<dyn Error + Send + Sync>),
}

/// The routes. Those that need the model answer 503 until `slot` is filled.
fn routes(slot: Slot, options: &ServerOptions, keys: &Arc<[String]>) -> Result<Router, ServeError> {
    let keyed = Router::new()
        .route("/v1/chat/completions", post(chat::chat))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/responses", post(responses::responses))
        .route("/v1/messages", post(messages::messages))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*model}", get(models::one))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/metrics", get(pages::metrics))
        .route("/openapi.json", get(pages::openapi))
        .route_layer(middleware::from_fn_with_state(Arc::clone(keys), auth::check));
    let router = keyed
        .route("/health", get(pages::health))
        .route("/ready", get(pages::health))
        .route("/", get(pages::chat))
        .fallback(async || ApiError::not_found("there is no such endpoint; /openapi.json lists them"))
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .with_state(slot)
        .layer(CatchPanicLayer::new())
        .layer(TraceLayer::new_for_http());
    if options.cors_origins.is_empty() {
        return Ok(router);
    }
    let origins = options
        .cors_origins
        .iter()
        .map(|origin| HeaderValue::from_str(origin).map_err(|_| ServeError::Origin(origin.clone())));
    let origin = match &options.cors_origins[..] {
        [any] if any == "*" => AllowOrigin::any(),
        _ => AllowOrigin::list(origins.collect::<Result<Vec<_>, _>>()?),
    };
    let cors = CorsLayer::new().allow_origin(origin).allow_methods(AllowMethods::any());
    Ok(router.layer(cors.allow_headers(AllowHeaders::any())))
}

/// The server's routes over a loaded model. Requests need one of `api_keys`, unless there are none.
///
/// # Errors
/// [`ServeError::Origin`].
pub fn router(engine: Engine, options: &ServerOptions, api_keys: &[String]) -> Result<Router, ServeError> {
    let slot = Slot::default();
    // The slot is new, so this cannot fail.
    let _ = slot.set(App::new(engine, options.clone()));
    routes(slot, options, &api_keys.into())
}

/// The keys in a file, one a line. Blank lines and lines that begin with `#` do not count.
///
/// # Errors
/// [`ServeError::ApiKeys`] for a file that cannot be read or has no key.
pub fn read_api_keys(path: &Path) -> Result<Vec<String>, ServeError> {
    let failed = |source| ServeError::ApiKeys { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    let keys: Vec<_> =
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    if keys.is_empty() {
        return Err(failed(io::Error::other("the file has no key; write one a line")));
    }
    Ok(keys)
}

/// Listens, calls `on_listening`, loads the model with `load`, and serves until SIGTERM or Ctrl-C. Requests that were accepted are then answered;
/// a second signal ends the process at once.
///
/// # Errors
/// [`ServeError`].
pub fn run<E: Into<Box<dyn Error + Send + Sync>>>(
    options: ServerOptions,
    api_keys: Vec<String>,
    load: impl FnOnce() -> Result<Engine, E> + Send + 'static,
    on_listening: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The model's threads need the cores more.
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(ServeError::Start)?;
    let served = runtime.block_on(serve(options, api_keys, load, on_listening));
    // A blocked thread, such as one that loads a model, does not keep the process alive.
    runtime.shutdown_background();
    served
}

async fn serve<E: Into<Box<dyn Error + Send + Sync>>>(
    options: ServerOptions,
    api_keys: Vec<String>,
    load: impl FnOnce() -> Result<Engine, E> + Send + 'static,
    on_listening: impl FnOnce(SocketAddr),
) -> Result<(), ServeError> {
    let address = format!("{}:{}", options.host, options.port);
    let bind = |source| ServeError::Bind { address: address.clone(), source };
    let listener = TcpListener::bind((options.host.as_str(), options.port)).await.map_err(bind)?;
    let local = listener.local_addr().map_err(bind)?;
    if !local.ip().is_loopback() {
        let open = if api_keys.is_empty() { "without an API key" } else { "with an API key" };
        tracing::warn!("listening on {local}: other machines can use this server {open}");
    }
    let slot = Slot::default();
    let router = routes(Arc::clone(&slot), &options, &api_keys.into())?;
    let mut signals = listen::Signals::new().map_err(ServeError::Start)?;

    let loading = {
        let (slot, options) = (Arc::clone(&slot), options.clone());
        tokio::task::spawn_blocking(move || {
            let engine = load().map_err(Into::into)?;
            let app = App::new(engine, options);
            tracing::info!(model = app.model, "ready");
            let _ = slot.set(app);
            Ok(())
        })
    };
    on_listening(local);
    let served = listen::accept(listener, router, loading, &mut signals).await;
    if let Some(app) = slot.get() {
        let engine = app.engine.clone();
        let _ = tokio::task::spawn_blocking(move || {
            if let Err(error) = engine.save_snapshot() {
                tracing::error!(error = &error as &dyn Error, "the snapshot was not saved");
            }
            engine.shut_down();
        })
        .await;
    }
    served
}
