//! The HTTP client of `llama-server`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use upcycle_core::TokenId;

use super::error::PeerError;

/// The most bytes of an answer. It repeats the prompt as text; 131 072 tokens take a few MB.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// The characters of an invalid answer to show.
const EXCERPT: usize = 300;

/// The answer of a peer, with the times that it reports.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerAnswer {
    /// The tokens of the answer, including an end token.
    pub tokens: Vec<TokenId>,
    /// Tokens of the prompt. All were read.
    pub prompt_tokens: usize,
    /// Seconds of the prefill, which gives the first token.
    pub prompt_seconds: f64,
    /// Tokens decoded in `decode_seconds`: all but the first. The server's `predicted_n` counts the first too, but
    /// `predicted_ms` begins after it.
    pub decode_tokens: usize,
    /// Seconds from the first token to the last.
    pub decode_seconds: f64,
    /// Drafted tokens.
    pub drafted: usize,
    /// Accepted draft tokens.
    pub accepted: usize,
}

/// The client of one server.
#[derive(Debug)]
pub(super) struct Client {
    agent: ureq::Agent,
    address: String,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The response is missing or incomplete. The server may have ended.
    Connection(ureq::Error),
    /// The response is an error or invalid.
    Answer(PeerError),
}

#[derive(Serialize)]
struct CompletionRequest<'a> {
    prompt: &'a [TokenId],
    n_predict: i32,
    stream: bool,
    return_tokens: bool,
    cache_prompt: bool,
    samplers: &'static [&'static str],
    top_k: i32,
    temperature: f32,
    repeat_penalty: f32,
}

#[derive(Deserialize)]
struct Completion {
    tokens: Vec<TokenId>,
    timings: Timings,
}

#[derive(Deserialize)]
struct Timings {
    prompt_n: usize,
    prompt_ms: f64,
    predicted_n: usize,
    predicted_ms: f64,
    /// Both are omitted if nothing was drafted.
    #[serde(default)]
    draft_n: usize,
    #[serde(default)]
    draft_n_accepted: usize,
}

/// An error response of the server.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalText,
}

#[derive(Deserialize)]
struct RefusalText {
    message: String,
}

impl Client {
    /// A client for `http://HOST:PORT`. An answer may take `timeout`.
    pub(super) fn new(address: String, timeout: Duration) -> Self {
        let config = ureq::Agent::config_builder()
            // The server is local, so proxies of the environment do not apply.
            .proxy(None)
            .http_status_as_error(false)
            // The server closes idle connections after some seconds, possibly during the next request.
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            .timeout_global(Some(timeout))
            .build();
        Self { agent: config.into(), address }
    }

    /// Whether it has loaded its model.
    pub(super) fn is_ready(&self, timeout: Duration) -> bool {
        let request = self.agent.get(format!("{}/health", self.address));
        let answer = request.config().timeout_global(Some(timeout)).build().call();
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    pub(super) fn ask(&self, prompt: &[TokenId], max_tokens: usize) -> Result<PeerAnswer, RequestError> {
        let question = serde_json::to_vec(&CompletionRequest::greedy(prompt, max_tokens));
        let question = question.map_err(|source| {
            RequestError::Answer(PeerError::InvalidAnswer {
                reason: source.to_string(),
                answer: String::new(),
            })
        })?;
        let request = self.agent.post(format!("{}/completion", self.address));
        let request = request.header("content-type", "application/json");
        let mut response = request.send(&question[..]).map_err(RequestError::Connection)?;
        let body = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec();
        let body = body.map_err(RequestError::Connection)?;
        let answer = match response.status().as_u16() {
            200 => read(&body, prompt.len(), max_tokens),
            status => Err(refused(status, &body)),
        };
        answer.map_err(RequestError::Answer)
    }
}

impl<'a> CompletionRequest<'a> {
    fn greedy(prompt: &'a [TokenId], max_tokens: usize) -> Self {
        Self {
            prompt,
            // The server's counts have this type, and larger numbers would wrap.
            n_predict: i32::try_from(max_tokens).unwrap_or(i32::MAX),
            stream: false,
            return_tokens: true,
            cache_prompt: false,
            // Among equal logits, a top-k of 1 keeps the lowest id, as we do.
            samplers: &["top_k"],
            top_k: 1,
            temperature: 0.0,
            repeat_penalty: 1.0,
        }
    }
}

/// Parses and checks the answer to a prompt of `prompt` tokens.
fn read(body: &[u8], prompt: usize, max_tokens: usize) -> Result<PeerAnswer, PeerError> {
    let invalid = |reason: String| PeerError::InvalidAnswer { reason, answer: excerpt(body) };
    let Completion { tokens, timings } = serde_json::from_slice(body).map_err(|source| {
        invalid(format!("expected an object with `tokens` and `timings`, found: {source}"))
    })?;
    let said = tokens.len();
    if !(1..=max_tokens).contains(&said) {
        return Err(invalid(format!("expected 1 to {max_tokens} tokens, found {said}")));
    }
    if timings.predicted_n != said {
        return Err(invalid(format!("it counts {} tokens and sent {said}", timings.predicted_n)));
    }
    // The time of an incomplete prefill is not comparable.
    if timings.prompt_n != prompt {
        return Err(invalid(format!("it read {} tokens of a prompt of {prompt}", timings.prompt_n)));
    }
    if timings.draft_n_accepted > timings.draft_n {
        let Timings { draft_n, draft_n_accepted, .. } = timings;
        return Err(invalid(format!("it accepted {draft_n_accepted} tokens of {draft_n} drafted ones")));
    }
    for (name, time) in [("prompt_ms", timings.prompt_ms), ("predicted_ms", timings.predicted_ms)] {
        if !(time.is_finite() && time >= 0.0) {
            return Err(invalid(format!("`{name}` is {time}")));
        }
    }
    Ok(PeerAnswer {
        tokens,
        prompt_tokens: prompt,
        prompt_seconds: timings.prompt_ms / 1e3,
        decode_tokens: said - 1,
        decode_seconds: timings.predicted_ms / 1e3,
        drafted: timings.draft_n,
        accepted: timings.draft_n_accepted,
    })
}

fn refused(status: u16, body: &[u8]) -> PeerError {
    let said = serde_json::from_slice::<Refusal>(body).map(|refusal| refusal.error.message);
    PeerError::Status { status, message: said.unwrap_or_else(|_| excerpt(body)) }
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * EXCERPT)]);
    let mut excerpt: String = text.chars().take(EXCERPT).collect();
    if excerpt.len() < body.len() {
        excerpt.push('…');
    }
    excerpt
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn answer(tokens: &[TokenId], drafted: Option<(usize, usize)>) -> Value {
        let mut timings = json!({
            "cache_n": 0, "prompt_n": 7, "prompt_ms": 250.0,
            "predicted_n": tokens.len(), "predicted_ms": 1500.0, "predicted_per_second": 1.0,
        });
        if let Some((drafted, accepted)) = drafted {
            timings["draft_n"] = drafted.into();
            timings["draft_n_accepted"] = accepted.into();
        }
        json!({ "content": "text", "tokens": tokens, "stop": true, "timings": timings })
    }

    fn read_value(answer: &Value) -> Result<PeerAnswer, PeerError> {
        read(answer.to_string().as_bytes(), 7, 64)
    }

    proptest! {
        #[test]
        fn an_answer_is_read_as_the_server_counts_it(
            tokens in prop::collection::vec(any::<TokenId>(), 1..64),
            drafted in prop::option::of((0_usize..100).prop_flat_map(|all| (Just(all), 0..=all))),
        ) {
            let read = read_value(&answer(&tokens, drafted)).unwrap();
            let (drafted, accepted) = drafted.unwrap_or_default();
            let decode_tokens = tokens.len() - 1;
            let (prompt_tokens, prompt_seconds, decode_seconds) = (7, 0.25, 1.5);
            let expected =
                PeerAnswer { tokens, prompt_tokens, prompt_seconds, decode_tokens, decode_seconds, drafted, accepted };
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn an_incomplete_answer_is_invalid(at: prop::sample::Index) {
            let whole = answer(&[1, 2, 3], None).to_string();
            let cut = &whole.as_bytes()[..at.index(whole.len())];
            let is_nonsense = matches!(read(cut, 7, 64), Err(PeerError::InvalidAnswer { .. }));
            prop_assert!(is_nonsense);
        }

        #[test]
        fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200), status: u16) {
            prop_assert!(read(&body, 7, 64).is_err());
            let _ = refused(status, &body);
        }
    }

    #[test]
    fn an_inconsistent_answer_is_invalid() {
        let sound = answer(&[1, 2, 3], Some((4, 2)));
        read_value(&sound).unwrap();
        for (pointer, value) in [
            ("/tokens", json!(["1", "2", "3"])),
            ("/tokens", json!([1, 2, -3])),
            ("/tokens", json!([1, 2, 3.5])),
            ("/tokens", json!([1, 2, 1_u64 << 32])),
            ("/tokens", json!([1, 2])),
            ("/tokens", json!(null)),
            ("/timings", json!(null)),
            ("/timings/predicted_n", json!(2)),
            ("/timings/prompt_n", json!(6)),
            ("/timings/prompt_ms", json!(-1.0)),
            ("/timings/predicted_ms", json!(-1.0)),
            ("/timings/predicted_ms", json!("fast")),
            ("/timings/draft_n", json!(1)),
        ] {
            let mut other = sound.clone();
            *other.pointer_mut(pointer).unwrap() = value;
            let found = read_value(&other);
            assert!(matches!(found, Err(PeerError::InvalidAnswer { .. })), "{pointer}: {found:?}");
        }
        for field in ["prompt_n", "prompt_ms", "predicted_n", "predicted_ms"] {
            let mut other = sound.clone();
            other["timings"].as_object_mut().unwrap().remove(field);
            assert!(read_value(&other).is_err(), "without {field}");
        }
        let empty = answer(&[], None);
        assert!(read_value(&empty).is_err());
        let long = answer(&[5; 65], None);
        assert!(read_value(&long).is_err());
    }

    #[test]
    fn an_error_response_shows_the_message_of_the_server() {
        let said =
            br#"{"error":{"code":400,"message":"the prompt is too long","type":"invalid_request_error"}}"#;
        assert!(refused(400, said).to_string().contains("400: the prompt is too long"));
        assert!(refused(502, b"<html>bad gateway").to_string().contains("502: <html>bad gateway"));
    }
}
