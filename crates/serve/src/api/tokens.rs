//! `POST /tokenize` and `POST /detokenize`, as vLLM and llama-server have them.

use axum::Json;
use serde::Deserialize;
use serde_json::{Value, json};
use upcycle::Request;

use super::body::JsonBody;
use super::chat::{ChatMessage, messages};
use crate::error::ApiError;

#[derive(Debug, Deserialize)]
pub(crate) struct Tokenize {
    /// vLLM's name.
    prompt: Option<String>,
    /// llama-server's name.
    content: Option<String>,
    messages: Option<Vec<ChatMessage>>,
}

pub(crate) async fn tokenize(JsonBody { app, body }: JsonBody<Tokenize>) -> Result<Json<Value>, ApiError> {
    let request = match (body.prompt.or(body.content), body.messages) {
        (Some(text), None) => Request::text(text),
        (None, Some(found)) => Request::chat(messages(found, "messages")?),
        _ => {
            let message = "expected one of `prompt`, `content` and `messages`";
            return Err(ApiError::invalid("prompt", message));
        }
    };
    let tokens = app.engine.tokenize(&request)?;
    Ok(Json(json!({
        "tokens": tokens, "count": tokens.len(), "max_model_len": app.engine.limits().max_context,
    })))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Detokenize {
    tokens: Vec<u32>,
}

pub(crate) async fn detokenize(
    JsonBody { app, body }: JsonBody<Detokenize>,
) -> Result<Json<Value>, ApiError> {
    let text = app.engine.text().tokenizer.decode(&body.tokens);
    let text = text.map_err(|error| ApiError::invalid("tokens", error.to_string()))?;
    Ok(Json(json!({"prompt": text, "content": text})))
}
