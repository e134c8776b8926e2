//! `GET /v1/models`.

use axum::Json;
use axum::extract::Path;
use serde_json::{Value, json};

use crate::app::App;
use crate::error::ApiError;

fn model(app: &App) -> Value {
    json!({
        "id": app.model, "object": "model", "created": app.started, "owned_by": "upcycle",
        "max_model_len": app.engine.limits().max_context,
    })
}

pub(crate) async fn list(app: App) -> Json<Value> {
    Json(json!({"object": "list", "data": [model(&app)]}))
}

pub(crate) async fn one(app: App, Path(name): Path<String>) -> Result<Json<Value>, ApiError> {
    if app.serves(&name) { Ok(Json(model(&app))) } else { Err(ApiError::unknown_model(&name, &app.model)) }
}
