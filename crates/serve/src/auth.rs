//! API keys.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
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
    if keys.is_empty() || sent_key(request.headers()).is_some_and(|key| is_known(key, &keys)) {
        return Ok(next.run(request).await);
    }
    Err(ApiError::unauthorized())
}

/// The key of a request. Clients of Anthropic's API send it as `x-api-key`.
fn sent_key(headers: &HeaderMap) -> Option<&str> {
    let header = |name| headers.get(name)?.to_str().ok();
    let bearer = header("authorization")
        .and_then(|value: &str| value.strip_prefix("Bearer ").or_else(|| value.strip_prefix("bearer ")));
    bearer.or_else(|| header("x-api-key")).map(str::trim)
}

/// Every key is compared in full, so that the time tells nothing.
fn is_known(key: &str, keys: &[String]) -> bool {
    keys.iter().fold(false, |found, known| found | bool::from(known.as_bytes().ct_eq(key.as_bytes())))
}
