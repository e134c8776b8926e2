//! `POST /v1/completions`.

use axum::Json;
use axum::response::{IntoResponse, Response};
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use upcycle::Request;

use super::body::Generate;
use super::chat::done;
use super::logprobs::Logprobs;
use super::stream::{Part, begin_all, collect, event, merged, sse};
use crate::app::now;
use crate::error::ApiError;
use crate::summary::Usage;

/// Tokens of an answer, unless a request says another number: OpenAI's default.
const MAX_TOKENS: usize = 16;

/// Prompts of one request.
const MOST_PROMPTS: usize = 64;

#[derive(Debug, Deserialize)]
pub(crate) struct CompletionBody {
    prompt: Prompts,
    max_tokens: Option<usize>,
    echo: Option<bool>,
    suffix: Option<String>,
    best_of: Option<u32>,
}

/// The prompts of a request.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a string, an array of strings, an array of tokens or an array of those"
)]
enum Prompts {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

impl Prompts {
    fn into_requests(self) -> Vec<Request> {
        match self {
            Self::Text(text) => vec![Request::text(text)],
            Self::Texts(texts) => texts.into_iter().map(Request::text).collect(),
            Self::Tokens(tokens) => vec![Request::tokens(tokens)],
            Self::ManyTokens(prompts) => prompts.into_iter().map(Request::tokens).collect(),
        }
    }
}

pub(crate) async fn completions(
    Generate { app, fields, body }: Generate<CompletionBody>,
) -> Result<Response, ApiError> {
    if body.echo == Some(true) {
        return Err(ApiError::unsupported("echo", "leave it out"));
    }
    if body.suffix.is_some_and(|suffix| !suffix.is_empty()) {
        return Err(ApiError::unsupported("suffix", "leave it out"));
    }
    let count = fields.answers();
    if body.best_of.is_some_and(|best_of| best_of != count) {
        return Err(ApiError::unsupported("best_of", "leave it out, or give the number of `n`"));
    }
    let requests = body.prompt.into_requests();
    if !(1..=MOST_PROMPTS).contains(&requests.len()) {
        let message = format!("`prompt` has {} prompts; expected 1 to {MOST_PROMPTS}", requests.len());
        return Err(ApiError::invalid("prompt", message));
    }
    let logprobs = Logprobs::of_completion(fields.logprobs.as_ref())?;
    let mut answers = Vec::new();
    for mut request in requests {
        if let Some(top) = logprobs.top() {
            request = request.logprobs(top);
        }
        let request = fields.apply(request, Some(body.max_tokens.unwrap_or(MAX_TOKENS)), &app)?;
        answers.extend(begin_all(&app, &request, count).await?);
    }
    let (id, created, model) = (app.next_id("cmpl"), now(), app.model.clone());
    let choice = |index: usize, text: &str, logprobs: Value, finish: Option<&str>| json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish});
    let per_prompt = count as usize;
    if fields.stream != Some(true) {
        let answers = try_join_all(answers.into_iter().map(|answer| collect(app.clone(), answer))).await?;
        let mut usage = Usage::default();
        for prompt in answers.chunks(per_prompt) {
            let mut of_prompt = Usage::default();
            prompt.iter().for_each(|answer| of_prompt.add_answer(answer.summary.usage));
            usage.add_prompt(of_prompt);
        }
        let tokenizer = &app.engine.text().tokenizer;
        let choices: Vec<Value> = answers
            .iter()
            .enumerate()
            .map(|(index, answer)| {
                let logprobs = logprobs.completion_json(&answer.logprobs, tokenizer, &mut 0);
                choice(index, &answer.text, logprobs, Some(answer.summary.finish_reason))
            })
            .collect();
        return Ok(Json(json!({
            "id": id, "object": "text_completion", "created": created, "model": model,
            "choices": choices, "usage": usage.to_json(), "system_fingerprint": null,
        }))
        .into_response());
    }

    let include_usage = fields.include_usage();
    let chunk = move |choices: Value, usage: Option<Value>| {
        let mut chunk = json!({
            "id": id, "object": "text_completion", "created": created, "model": model, "choices": choices,
        });
        if include_usage {
            chunk["usage"] = usage.unwrap_or(Value::Null);
        }
        chunk
    };
    let mut usages = vec![Usage::default(); answers.len() / per_prompt];
    let mut open = answers.len();
    let mut offsets = vec![0; answers.len()];
    let parts = merged(&app, answers);
    let events = parts.flat_map(move |(index, part)| {
        let mut events = Vec::new();
        match part {
            Part::Text(piece) => {
                let tokenizer = &app.engine.text().tokenizer;
                let logprobs = logprobs.completion_json(&piece.logprobs, tokenizer, &mut offsets[index]);
                events.push(event(None, &chunk(json!([choice(index, &piece.text, logprobs, None)]), None)));
            }
            Part::End(summary) => {
                usages[index / per_prompt].add_answer(summary.usage);
                open -= 1;
                let end = choice(index, "", Value::Null, Some(summary.finish_reason));
                events.push(event(None, &chunk(json!([end]), None)));
                if open == 0 {
                    if include_usage {
                        let mut usage = Usage::default();
                        usages.iter().for_each(|prompt| usage.add_prompt(*prompt));
                        events.push(event(None, &chunk(json!([]), Some(usage.to_json()))));
                    }
                    events.push(done());
                }
            }
            Part::Failed(error) => events.push(event(None, &error.to_json())),
        }
        stream::iter(events)
    });
    Ok(sse(events))
}
