//! The fields that chat completions, completions and responses share.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use upcycle::{CacheGroup, Request};
use upcycle_core::{LogitBias, SamplingConfig};

use crate::app::App;
use crate::error::ApiError;

/// Answers of one request.
const MOST_ANSWERS: u32 = 64;

/// One string or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of strings")]
pub(crate) enum Strings {
    One(String),
    Many(Vec<String>),
}

impl Strings {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(string) => vec![string],
            Self::Many(strings) => strings,
        }
    }
}

/// What a streamed answer includes.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct StreamOptions {
    #[serde(default)]
    pub(crate) include_usage: Option<bool>,
}

/// How an answer is generated.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Fields {
    pub(crate) model: Option<String>,
    pub(crate) stream: Option<bool>,
    pub(crate) stream_options: Option<StreamOptions>,
    pub(crate) n: Option<u32>,
    seed: Option<i64>,
    stop: Option<Strings>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i64>,
    min_p: Option<f32>,
    repetition_penalty: Option<f32>,
    repeat_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    frequency_penalty: Option<f32>,
    ignore_eos: Option<bool>,
    /// Requests with different salts share no cache, as in vLLM.
    cache_salt: Option<String>,
    pub(crate) logprobs: Option<Value>,
    pub(crate) top_logprobs: Option<u32>,
    /// Token ids, as strings, and numbers.
    logit_bias: Option<BTreeMap<String, f32>>,
    tools: Option<Value>,
    functions: Option<Value>,
    response_format: Option<Value>,
}

impl Fields {
    /// Refuses what this server does not support.
    pub(crate) fn check(&self, app: &App) -> Result<(), ApiError> {
        if let Some(model) = &self.model
            && !app.serves(model)
        {
            return Err(ApiError::unknown_model(model, &app.model));
        }
        let is_set = |value: &Option<Value>| match value {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(Value::Array(items)) => !items.is_empty(),
            Some(Value::Object(entries)) => !entries.is_empty(),
            Some(_) => true,
        };
        for (name, set) in [
            ("tools", is_set(&self.tools)),
            ("functions", is_set(&self.functions)),
            ("presence_penalty", self.presence_penalty.is_some_and(|penalty| penalty != 0.0)),
            ("frequency_penalty", self.frequency_penalty.is_some_and(|penalty| penalty != 0.0)),
        ] {
            if set {
                return Err(ApiError::unsupported(name, "leave it out"));
            }
        }
        let format = self.response_format.as_ref().and_then(|format| format.get("type"));
        if format.is_some_and(|format| format != "text") {
            return Err(ApiError::unsupported("response_format", "only the type `text` is"));
        }
        if let Some(n) = self.n
            && !(1..=MOST_ANSWERS).contains(&n)
        {
            return Err(ApiError::invalid("n", format!("`n` is {n}; expected 1 to {MOST_ANSWERS}")));
        }
        Ok(())
    }

    /// The number of answers.
    pub(crate) fn answers(&self) -> u32 {
        self.n.unwrap_or(1)
    }

    pub(crate) fn include_usage(&self) -> bool {
        self.stream_options.and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// Applies the fields to a request.
    pub(crate) fn apply(
        &self,
        mut request: Request,
        max_tokens: Option<usize>,
        app: &App,
    ) -> Result<Request, ApiError> {
        let defaults = app.sampling;
        let top_k = match self.top_k {
            None => defaults.top_k,
            // vLLM writes -1 for off.
            Some(-1) => 0,
            Some(k) => usize::try_from(k).map_err(|_| {
                ApiError::invalid("top_k", format!("`top_k` is {k}; expected 0 (off) or more"))
            })?,
        };
        let sampling = SamplingConfig {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k,
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            repeat_penalty: self
                .repetition_penalty
                .or(self.repeat_penalty)
                .unwrap_or(defaults.repeat_penalty),
            // Without a seed every answer is another sample, as with other servers.
            seed: self.seed.map_or_else(|| app.next_seed(), |seed| seed as u64),
            sample_index: 0,
        };
        request =
            request.sampling(sampling).map_err(|error| ApiError::invalid(error.name, error.to_string()))?;
        if let Some(bias) = &self.logit_bias {
            request = request.logit_bias(logit_bias(bias)?);
        }
        if let Some(stop) = &self.stop {
            request = request.stop(stop.clone().into_vec());
        }
        if let Some(max_tokens) = max_tokens {
            request = request.max_tokens(max_tokens);
        } else {
            // As long as the context allows.
            request = request.max_tokens(app.engine.limits().max_context);
        }
        if self.ignore_eos == Some(true) {
            request = request.ignore_eos();
        }
        if let Some(salt) = &self.cache_salt {
            request = request.cache_group(CacheGroup::Named(salt.clone()));
        }
        Ok(request)
    }
}

fn logit_bias(biases: &BTreeMap<String, f32>) -> Result<LogitBias, ApiError> {
    let pairs = biases.iter().map(|(token, &bias)| match token.trim().parse() {
        Ok(token) => Ok((token, bias)),
        Err(_) => {
            let message = format!("`logit_bias` has the key {token:?}; expected the id of a token");
            Err(ApiError::invalid("logit_bias", message))
        }
    });
    LogitBias::new(pairs.collect::<Result<Vec<_>, _>>()?)
        .map_err(|error| ApiError::invalid(error.name, error.to_string()))
}
