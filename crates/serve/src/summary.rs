//! How an answer ended, and its counts of tokens.

use serde_json::{Value, json};
use upcycle::Answer;
use upcycle_core::FinishReason;

/// An answer's end.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) finish_reason: &'static str,
    /// The stop string that ended the text.
    pub(crate) stop_reason: Option<String>,
    pub(crate) usage: Usage,
}

/// Counts of tokens, as OpenAI's API names them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    cached: usize,
    pub(crate) completion: usize,
    accepted: usize,
    rejected: usize,
}

impl Usage {
    /// That of an answer that has not begun.
    pub(crate) fn of_prompt(prompt: usize) -> Self {
        Self { prompt, ..Self::default() }
    }

    /// Several answers to one prompt; the prompt counts once.
    pub(crate) fn add_answer(&mut self, other: Usage) {
        self.completion += other.completion;
        self.accepted += other.accepted;
        self.rejected += other.rejected;
        self.prompt = self.prompt.max(other.prompt);
        self.cached = self.cached.max(other.cached);
    }

    /// Answers to different prompts.
    pub(crate) fn add_prompt(&mut self, other: Usage) {
        let Usage { prompt, cached, .. } = *self;
        self.add_answer(other);
        (self.prompt, self.cached) = (prompt + other.prompt, cached + other.cached);
    }

    pub(crate) fn to_json(self) -> Value {
        json!({
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {
                "accepted_prediction_tokens": self.accepted,
                "rejected_prediction_tokens": self.rejected,
                "reasoning_tokens": 0,
            },
        })
    }

    /// Anthropic counts cached tokens apart.
    pub(crate) fn to_messages_json(self) -> Value {
        json!({
            "input_tokens": self.prompt - self.cached,
            "cache_read_input_tokens": self.cached,
            "cache_creation_input_tokens": 0,
            "output_tokens": self.completion,
        })
    }

    pub(crate) fn to_responses_json(self) -> Value {
        json!({
            "input_tokens": self.prompt,
            "input_tokens_details": {"cached_tokens": self.cached},
            "output_tokens": self.completion,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.prompt + self.completion,
        })
    }
}

impl Summary {
    pub(crate) fn new(answer: &Answer) -> Self {
        let stats = answer.stats();
        let finish_reason = match answer.finish_reason() {
            Some(FinishReason::MaxTokens | FinishReason::ContextFull) => "length",
            _ => "stop",
        };
        let usage = Usage {
            prompt: answer.prompt_tokens(),
            cached: answer.cached_tokens(),
            completion: answer.tokens().len(),
            accepted: stats.accepted,
            rejected: stats.drafted.saturating_sub(stats.accepted),
        };
        Self { finish_reason, stop_reason: answer.stopped_by().map(str::to_owned), usage }
    }
}
