//! `[engine]`: how requests share the model.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[engine]`: how requests share the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EngineOptions {
    /// Requests answered at the same time. The others wait in the queue.
    #[schemars(range(min = 1, max = 1024))]
    pub max_sequences: usize,
    /// Requests that may wait. One more is refused at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_queue: usize,
    /// Tokens in the KV cache, those of finished requests included. These are kept for prompts that begin alike, and dropped
    /// first, the oldest first. Running requests may exceed this number.
    pub max_cached_tokens: usize,
    /// The longest time between two tokens of an answer while prompts of other requests are read, in milliseconds. Prompts are
    /// read in chunks that take about as long at most.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_inter_token_ms: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { max_sequences: 16, max_queue: 256, max_cached_tokens: 16384, max_inter_token_ms: 50 }
    }
}

impl EngineOptions {
    pub(super) fn max_inter_token(&self) -> Duration {
        Duration::from_millis(self.max_inter_token_ms)
    }
}
