//! Log probabilities in the shapes of chat completions and of completions.

use serde_json::{Map, Value, json};
use upcycle_core::{TokenId, TokenLogprobs};
use upcycle_text::Tokenizer;

use crate::error::ApiError;

/// The most alternatives for each token, as in OpenAI's API.
const MOST: u32 = 20;

/// What a request asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Logprobs(Option<usize>);

impl Logprobs {
    /// From the fields of a chat completion.
    pub(crate) fn of_chat(logprobs: Option<&Value>, top: Option<u32>) -> Result<Self, ApiError> {
        let asked = match logprobs {
            None | Some(Value::Null) => false,
            Some(Value::Bool(asked)) => *asked,
            Some(other) => {
                let message = format!("`logprobs` is {other}; expected true or false");
                return Err(ApiError::invalid("logprobs", message));
            }
        };
        match top {
            Some(1..) if !asked => {
                Err(ApiError::invalid("top_logprobs", "`top_logprobs` needs `logprobs`: true"))
            }
            top => Ok(Self(asked.then(|| checked("top_logprobs", top.unwrap_or(0).into())).transpose()?)),
        }
    }

    /// From the field of a completion.
    pub(crate) fn of_completion(logprobs: Option<&Value>) -> Result<Self, ApiError> {
        match logprobs {
            None | Some(Value::Null | Value::Bool(false)) => Ok(Self(None)),
            Some(Value::Number(top)) => {
                Ok(Self(Some(checked("logprobs", top.as_u64().unwrap_or(u64::MAX))?)))
            }
            Some(other) => {
                let message = format!("`logprobs` is {other}; expected a number");
                Err(ApiError::invalid("logprobs", message))
            }
        }
    }

    /// The number of alternatives for each token; `None` if nothing was asked for.
    pub(crate) fn top(self) -> Option<usize> {
        self.0
    }

    /// The `logprobs` of a choice of a chat completion.
    pub(crate) fn chat_json(self, tokens: &[TokenLogprobs], tokenizer: &Tokenizer) -> Value {
        if self.0.is_none() {
            return Value::Null;
        }
        let entry = |token: TokenId, logprob: f32| {
            let (text, bytes) = text(token, tokenizer);
            json!({"token": text, "logprob": logprob, "bytes": bytes})
        };
        let content: Vec<Value> = tokens
            .iter()
            .map(|found| {
                let mut token = entry(found.token, found.logprob);
                token["top_logprobs"] =
                    found.top.iter().map(|&(token, logprob)| entry(token, logprob)).collect();
                token
            })
            .collect();
        json!({"content": content, "refusal": null})
    }

    /// The `logprobs` of a choice of a completion. `offset` is the number of characters of the text before, and is moved on.
    pub(crate) fn completion_json(
        self,
        tokens: &[TokenLogprobs],
        tokenizer: &Tokenizer,
        offset: &mut usize,
    ) -> Value {
        if self.0.is_none() {
            return Value::Null;
        }
        let mut offsets = Vec::new();
        for found in tokens {
            offsets.push(*offset);
            *offset += text(found.token, tokenizer).0.chars().count();
        }
        let top = |found: &TokenLogprobs| -> Map<String, Value> {
            found.top.iter().map(|&(token, logprob)| (text(token, tokenizer).0, logprob.into())).collect()
        };
        json!({
            "tokens": tokens.iter().map(|found| text(found.token, tokenizer).0).collect::<Vec<_>>(),
            "token_logprobs": tokens.iter().map(|found| found.logprob).collect::<Vec<_>>(),
            "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
            "text_offset": offsets,
        })
    }
}

fn checked(name: &str, top: u64) -> Result<usize, ApiError> {
    match u32::try_from(top) {
        Ok(top @ 0..=MOST) => Ok(top as usize),
        _ => Err(ApiError::invalid(name, format!("`{name}` is out of range; expected 0 to {MOST}"))),
    }
}

/// The text of a token by itself, and its bytes. A special token has its name.
fn text(token: TokenId, tokenizer: &Tokenizer) -> (String, Vec<u8>) {
    let bytes = tokenizer.token_bytes(token).unwrap_or_default();
    if bytes.is_empty() {
        let name = tokenizer.name(token).unwrap_or_default();
        return (name.clone(), name.into_bytes());
    }
    (String::from_utf8_lossy(bytes).into_owned(), bytes.to_vec())
}
