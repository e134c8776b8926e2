//! Why nothing could be decoded.

use crate::{TokenId, VerifyError};

/// Why nothing could be decoded. After an error every session's text and statistics are as they were, and it may be
/// stepped again; [`Session::tree`](crate::Session::tree) and [`Session::accepted_path`](crate::Session::accepted_path) show the pass that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Nothing to continue.
    #[error("the prompt is empty; give at least one token, such as the beginning-of-sequence token")]
    EmptyPrompt,
    /// The prompt does not fit.
    #[error("the prompt has {len} tokens and the context holds {max}; shorten it")]
    PromptTooLong {
        /// Tokens of the prompt.
        len: usize,
        /// The context.
        max: usize,
    },
    /// A prompt token that the vocabulary lacks.
    #[error("prompt token {token} is outside the vocabulary of {vocab}; is this the model's own tokenizer?")]
    TokenOutOfRange {
        /// The token.
        token: TokenId,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// The backend refused or failed.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}
