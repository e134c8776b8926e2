//! `POST /v1/responses`, without state: a request holds the whole conversation.

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use upcycle::{Message, Request};

use super::body::Generate;
use super::chat::{ChatMessage, messages};
use super::stream::{Part, Whole, begin, collect, event, parts, sse};
use crate::app::{App, now};
use crate::error::ApiError;
use crate::summary::Summary;

#[derive(Debug, Deserialize)]
pub(crate) struct ResponsesBody {
    input: Input,
    instructions: Option<String>,
    max_output_tokens: Option<usize>,
    previous_response_id: Option<String>,
    background: Option<bool>,
    text: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of messages")]
enum Input {
    Text(String),
    Messages(Vec<ChatMessage>),
}

/// What all events of a response repeat.
#[derive(Clone)]
struct Frame {
    id: String,
    message_id: String,
    created: u64,
    model: String,
}

impl Frame {
    fn response(&self, status: &str, output: &Value, end: Option<&Summary>) -> Value {
        let incomplete = end.is_some_and(|end| end.finish_reason == "length");
        json!({
            "id": self.id, "object": "response", "created_at": self.created, "model": self.model,
            "status": if incomplete { "incomplete" } else { status },
            "incomplete_details": incomplete.then(|| json!({"reason": "max_output_tokens"})),
            "error": null, "instructions": null, "metadata": {}, "output": output,
            "parallel_tool_calls": false, "tool_choice": "none", "tools": [],
            "temperature": null, "top_p": null,
            "usage": end.map(|end| end.usage.to_responses_json()),
        })
    }

    fn message(&self, status: &str, content: &Value) -> Value {
        json!({
            "id": self.message_id, "type": "message", "role": "assistant", "status": status, "content": content,
        })
    }
}

fn content(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

pub(crate) async fn responses(
    Generate { app, fields, body }: Generate<ResponsesBody>,
) -> Result<Response, ApiError> {
    if body.previous_response_id.is_some() {
        return Err(ApiError::unsupported("previous_response_id", "send the whole conversation as `input`"));
    }
    if body.background == Some(true) {
        return Err(ApiError::unsupported("background", "leave it out"));
    }
    if fields.top_logprobs.is_some_and(|top| top > 0) {
        return Err(ApiError::unsupported("top_logprobs", "chat completions have it"));
    }
    let format = body.text.as_ref().and_then(|text| text.get("format")?.get("type"));
    if format.is_some_and(|format| format != "text") {
        return Err(ApiError::unsupported("text.format", "only the type `text` is"));
    }
    let mut conversation: Vec<Message> = body.instructions.map(Message::system).into_iter().collect();
    match body.input {
        Input::Text(text) => conversation.push(Message::user(text)),
        Input::Messages(found) => conversation.extend(messages(found, "input")?),
    }
    let request = fields.apply(Request::chat(conversation), body.max_output_tokens, &app)?;
    let answer = begin(&app, request).await?;
    let frame = Frame {
        id: app.next_id("resp"),
        message_id: app.next_id("msg"),
        created: now(),
        model: app.model.clone(),
    };
    if fields.stream == Some(true) {
        return Ok(sse(events(app, answer, frame)));
    }
    let Whole { text, summary, .. } = collect(app, answer).await?;
    let output = json!([frame.message("completed", &json!([content(&text)]))]);
    Ok(Json(frame.response("completed", &output, Some(&summary))).into_response())
}

/// The events of a streamed response, numbered.
fn events(
    app: App,
    answer: upcycle::Answer,
    frame: Frame,
) -> impl stream::Stream<Item = axum::response::sse::Event> + Send + 'static {
    let started = frame.response("in_progress", &json!([]), None);
    let mut first = vec![
        ("response.created", json!({"response": started})),
        ("response.in_progress", json!({"response": started})),
        (
            "response.output_item.added",
            json!({"output_index": 0, "item": frame.message("in_progress", &json!([]))}),
        ),
    ];
    let place = json!({"item_id": frame.message_id, "output_index": 0, "content_index": 0});
    let at = move |more: Value| {
        let mut data = place.clone();
        if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
            data.extend(more);
        }
        data
    };
    first.push(("response.content_part.added", at(json!({"part": content("")}))));
    let mut whole = String::new();
    let rest = parts(app, answer).flat_map(move |part| {
        stream::iter(match part {
            Part::Text(piece) => {
                whole.push_str(&piece.text);
                vec![("response.output_text.delta", at(json!({"delta": piece.text, "logprobs": []})))]
            }
            Part::End(end) => {
                let item = frame.message("completed", &json!([content(&whole)]));
                let name =
                    if end.finish_reason == "length" { "response.incomplete" } else { "response.completed" };
                vec![
                    ("response.output_text.done", at(json!({"text": whole, "logprobs": []}))),
                    ("response.content_part.done", at(json!({"part": content(&whole)}))),
                    ("response.output_item.done", json!({"output_index": 0, "item": item})),
                    (name, json!({"response": frame.response("completed", &json!([item]), Some(&end))})),
                ]
            }
            Part::Failed(error) => vec![("error", error.to_json()["error"].clone())],
        })
    });
    stream::iter(first).chain(rest).enumerate().map(|(number, (name, mut data))| {
        data["type"] = name.into();
        data["sequence_number"] = number.into();
        event(Some(name), &data)
    })
}
