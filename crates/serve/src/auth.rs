//! API keys.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use subtle::ConstantTimeEq;

use crate::error::ApiError;

/// Refuses a request without one of `keys`, if there are any.
pub(crate) async fn check(
    State(keys): State<Arc<[String]>>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    // Every key is compared in full, so that the time tells nothing.
    let known = |key: &str| {
        keys.iter().fold(false, |found, known| found | bool::from(known.as_bytes().ct_eq(key.as_bytes())))
    };
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key =
        header.and_then(|value| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")));
    if keys.is_empty() || key.is_some_and(|key| known(key.trim())) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::unauthorized())
}
