//! Health, metrics, the API's description, and the page to chat.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};

use crate::app::{App, Slot};
use crate::error::ApiError;

/// 200 once the model is loaded, 503 before.
pub(crate) async fn health(State(slot): State<Slot>) -> Response {
    match slot.get() {
        Some(_) => (StatusCode::OK, axum::Json(serde_json::json!({"status": "ok"}))).into_response(),
        None => ApiError::loading().into_response(),
    }
}

pub(crate) async fn metrics(app: App) -> Result<Response, ApiError> {
    let text = app.metrics.to_text().map_err(|error| ApiError::internal(error.to_string()))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json")).into_response()
}

pub(crate) async fn chat() -> Html<&'static str> {
    Html(include_str!("chat.html"))
}
