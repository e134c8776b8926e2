//! `POST /v1/messages`: Anthropic's messages.

use axum::Json;
use axum::extract::{FromRequest, Request as HttpRequest, State};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use upcycle::{Answer, Message, Request};

use super::body::Generate;
use super::chat::{ChatMessage, Content, messages as conversation};
use super::stream::{Part, Whole, begin, collect, event, parts, sse};
use crate::app::{App, Slot};
use crate::error::ApiError;
use crate::summary::{Summary, Usage};

#[derive(Debug, Deserialize)]
struct MessagesBody {
    messages: Vec<ChatMessage>,
    max_tokens: usize,
    system: Option<Content>,
    stop_sequences: Option<Vec<String>>,
    thinking: Option<Value>,
}

pub(crate) async fn messages(State(slot): State<Slot>, request: HttpRequest) -> Response {
    match answer(&slot, request).await {
        Ok(response) => response,
        Err(error) => error.respond(error.to_messages_json()),
    }
}

async fn answer(slot: &Slot, request: HttpRequest) -> Result<Response, ApiError> {
    let Generate { app, fields, body } = Generate::<MessagesBody>::from_request(request, slot).await?;
    if body.thinking.is_some_and(|thinking| thinking["type"] == "enabled") {
        return Err(ApiError::unsupported("thinking", "leave it out"));
    }
    let system = body.system.map(|system| system.into_text("system")).transpose()?;
    let mut all: Vec<Message> = system.map(Message::system).into_iter().collect();
    all.extend(conversation(body.messages, "messages")?);
    let mut request = fields.apply(Request::chat(all), Some(body.max_tokens), &app)?;
    if let Some(stop) = body.stop_sequences {
        request = request.stop(stop);
    }
    let answer = begin(&app, request).await?;
    let id = app.next_id("msg");
    if fields.stream == Some(true) {
        return Ok(sse(events(app, answer, &id)));
    }
    let model = app.model.clone();
    let Whole { text, summary, .. } = collect(app, answer).await?;
    let mut message = message(&id, &model, summary.usage);
    message["content"] = json!([{"type": "text", "text": text}]);
    (message["stop_reason"], message["stop_sequence"]) = (end(&summary).into(), json!(summary.stop_reason));
    Ok(Json(message).into_response())
}

/// A message without text.
fn message(id: &str, model: &str, usage: Usage) -> Value {
    json!({
        "id": id, "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage.to_messages_json(),
    })
}

/// Why a message ended.
fn end(summary: &Summary) -> &'static str {
    match (&summary.stop_reason, summary.finish_reason) {
        (Some(_), _) => "stop_sequence",
        (None, "length") => "max_tokens",
        (None, _) => "end_turn",
    }
}

/// The events of a streamed message.
fn events(
    app: App,
    answer: Answer,
    id: &str,
) -> impl stream::Stream<Item = axum::response::sse::Event> + Send + 'static {
    // How much of the prompt is cached is known at the end.
    let usage = Usage::of_prompt(answer.prompt_tokens());
    let first = [
        ("message_start", json!({"message": message(id, &app.model, usage)})),
        ("content_block_start", json!({"index": 0, "content_block": {"type": "text", "text": ""}})),
    ];
    let rest = parts(app, answer).flat_map(|part| {
        stream::iter(match part {
            Part::Text(piece) => {
                let delta = json!({"type": "text_delta", "text": piece.text});
                vec![("content_block_delta", json!({"index": 0, "delta": delta}))]
            }
            Part::End(summary) => {
                let delta = json!({"stop_reason": end(&summary), "stop_sequence": summary.stop_reason});
                vec![
                    ("content_block_stop", json!({"index": 0})),
                    ("message_delta", json!({"delta": delta, "usage": summary.usage.to_messages_json()})),
                    ("message_stop", json!({})),
                ]
            }
            Part::Failed(error) => vec![("error", error.to_messages_json())],
        })
    });
    stream::iter(first).chain(rest).map(|(name, mut data)| {
        data["type"] = name.into();
        event(Some(name), &data)
    })
}
