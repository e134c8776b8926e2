//! Why a request was not answered.

use upcycle_core::DecodeError;
use upcycle_text::TextError;

use crate::loaded_model::PromptError;
use crate::parts::BuildError;

/// Why a request was refused, or why its answer ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// As many requests wait as the queue holds.
    #[error("{waiting} requests are waiting already; try again later")]
    QueueFull {
        /// Requests in the queue.
        waiting: usize,
    },
    /// The engine takes no more requests.
    #[error("the engine was shut down")]
    ShutDown,
    /// The prompt cannot be encoded.
    #[error(transparent)]
    Prompt(#[from] PromptError),
    /// The stop strings cannot be used, or the model emitted a token that the tokenizer lacks.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The prompt does not fit the model, or the backend failed.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The tables of a cache group cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}
