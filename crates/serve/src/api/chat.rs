//! `POST /v1/chat/completions`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use upcycle::{Message, Request};

use super::body::Generate;
use super::logprobs::Logprobs;
use super::stream::{Part, Whole, begin_all, collect, event, merged, sse};
use crate::app::now;
use crate::error::ApiError;
use crate::summary::Usage;

#[derive(Debug, Deserialize)]
pub(crate) struct ChatBody {
    messages: Vec<ChatMessage>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    /// Marks the text of accepted draft tokens: `drafted` in the deltas of a stream.
    #[serde(default)]
    mark_drafted: bool,
}

/// A message of a conversation.
#[derive(Debug, Deserialize)]
pub(crate) struct ChatMessage {
    role: String,
    content: Option<Content>,
    tool_calls: Option<Value>,
}

/// The content of a message: a string, or parts.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of parts")]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, Deserialize)]
pub(crate) struct ContentPart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
}

impl Content {
    pub(crate) fn into_text(self, param: &str) -> Result<String, ApiError> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Parts(parts) => parts
                .into_iter()
                .map(|part| match (part.kind.as_str(), part.text) {
                    ("text" | "input_text" | "output_text", Some(text)) => Ok(text),
                    (kind, _) => Err(ApiError::invalid(
                        param,
                        format!("a part of the type `{kind}` is not supported; this model reads text"),
                    )),
                })
                .collect(),
        }
    }
}

/// The messages of a conversation for the chat template.
pub(crate) fn messages(found: Vec<ChatMessage>, param: &str) -> Result<Vec<Message>, ApiError> {
    if found.is_empty() {
        return Err(ApiError::invalid(param, format!("`{param}` is empty; expected at least one message")));
    }
    let mut messages = Vec::new();
    for (index, message) in found.into_iter().enumerate() {
        let param = format!("{param}[{index}]");
        if message.tool_calls.is_some_and(|calls| calls.as_array().is_some_and(|calls| !calls.is_empty())) {
            return Err(ApiError::unsupported(&format!("{param}.tool_calls"), "leave it out"));
        }
        let role = match message.role.as_str() {
            "developer" => "system".to_owned(),
            "system" | "user" | "assistant" => message.role,
            role => {
                let expected = "expected system, developer, user or assistant";
                return Err(ApiError::invalid(
                    format!("{param}.role"),
                    format!("the role `{role}` is not supported; {expected}"),
                ));
            }
        };
        let content = message.content.map(|content| content.into_text(&param)).transpose()?;
        messages.push(Message::new(role, content.unwrap_or_default()));
    }
    Ok(messages)
}

pub(crate) async fn chat(Generate { app, fields, body }: Generate<ChatBody>) -> Result<Response, ApiError> {
    let request = Request::chat(messages(body.messages, "messages")?);
    let mut request = fields.apply(request, body.max_completion_tokens.or(body.max_tokens), &app)?;
    let logprobs = Logprobs::of_chat(fields.logprobs.as_ref(), fields.top_logprobs)?;
    if let Some(top) = logprobs.top() {
        request = request.logprobs(top);
    }
    let answers = begin_all(&app, &request, fields.answers()).await?;
    let (id, created, model) = (app.next_id("chatcmpl"), now(), app.model.clone());
    if fields.stream != Some(true) {
        let answers = try_join_all(answers.into_iter().map(|answer| collect(app.clone(), answer))).await?;
        let tokenizer = &app.engine.text().tokenizer;
        let mut usage = Usage::default();
        let choices: Vec<Value> = answers
            .into_iter()
            .enumerate()
            .map(|(index, Whole { text, logprobs: found, summary })| {
                usage.add_answer(summary.usage);
                json!({
                    "index": index,
                    "message": {"role": "assistant", "content": text, "refusal": null},
                    "logprobs": logprobs.chat_json(&found, tokenizer),
                    "finish_reason": summary.finish_reason,
                    "stop_reason": summary.stop_reason,
                })
            })
            .collect();
        return Ok(Json(json!({
            "id": id, "object": "chat.completion", "created": created, "model": model,
            "choices": choices, "usage": usage.to_json(), "system_fingerprint": null,
        }))
        .into_response());
    }

    let (count, include_usage, mark) = (answers.len(), fields.include_usage(), body.mark_drafted);
    let chunk = move |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": id, "object": "chat.completion.chunk", "created": created, "model": model,
            "choices": choices, "system_fingerprint": null,
        });
        if include_usage {
            chunk["usage"] = usage.unwrap_or(Value::Null);
        }
        chunk
    };
    let choice = |index: usize, delta: Value, logprobs: Value, finish: Option<&str>| json!([{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}]);
    let first: Vec<_> = (0..count)
        .map(|index| {
            let delta = json!({"role": "assistant", "content": ""});
            event(None, &chunk(choice(index, delta, Value::Null, None), None))
        })
        .collect();
    let (mut usage, mut open) = (Usage::default(), count);
    let parts = merged(&app, answers);
    let rest = parts.flat_map(move |(index, part)| {
        let mut events = Vec::new();
        match part {
            Part::Text(piece) => {
                let mut delta = json!({"content": piece.text});
                if mark {
                    delta["drafted"] = piece.drafted.into();
                }
                let logprobs = logprobs.chat_json(&piece.logprobs, &app.engine.text().tokenizer);
                events.push(event(None, &chunk(choice(index, delta, logprobs, None), None)));
            }
            Part::End(summary) => {
                usage.add_answer(summary.usage);
                open -= 1;
                let end = choice(index, json!({}), Value::Null, Some(summary.finish_reason));
                events.push(event(None, &chunk(end, None)));
                if open == 0 {
                    if include_usage {
                        events.push(event(None, &chunk(json!([]), Some(usage.to_json()))));
                    }
                    events.push(done());
                }
            }
            Part::Failed(error) => events.push(event(None, &error.to_json())),
        }
        stream::iter(events)
    });
    Ok(sse(stream::iter(first).chain(rest)))
}

/// The last event of a stream.
pub(crate) fn done() -> axum::response::sse::Event {
    axum::response::sse::Event::default().data("[DONE]")
}
