//! Why nothing was decoded.

use std::error::Error;
use std::fmt;

use crate::token::TokenId;
use crate::verifier::VerifyError;

/// Why nothing was decoded. The session is unchanged, and it can be passed to `step` again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There is nothing to continue.
    #[error("the prompt is empty; give at least one token, such as the beginning-of-sequence token")]
    EmptyPrompt,
    /// The prompt does not fit.
    #[error("the prompt has {len} tokens and the context holds {max}; shorten it")]
    PromptTooLong {
        /// Tokens of the prompt.
        len: usize,
        /// Tokens that the context holds.
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
    /// A bias for a token that the vocabulary lacks.
    #[error("`logit_bias` names token {token}, which is outside the vocabulary of {vocab}")]
    BiasOutOfRange {
        /// The token.
        token: TokenId,
        /// The size of the vocabulary.
        vocab: usize,
    },
    /// The backend refused or failed.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// A step over several sessions did not advance all of them.
    #[error(transparent)]
    Step(#[from] StepError),
}

/// Some sessions of a [step](crate::Decoder::step) did not advance; all others did.
///
/// The text and token counts of a session that did not advance are unchanged, and it can be passed to `step` again. The
/// time of the failed pass may count in its statistics.
/// [`Session::tree`](crate::Session::tree) and [`Session::accepted_path`](crate::Session::accepted_path) show the pass
/// that failed.
#[derive(Debug)]
pub struct StepError {
    /// At least one.
    pub(super) failures: Vec<StepFailure>,
}

/// One failure of a step and the sessions that it stopped.
#[derive(Debug)]
pub struct StepFailure {
    /// The positions of these sessions among those that the caller gave, ascending.
    pub sessions: Vec<usize>,
    /// What failed.
    pub error: VerifyError,
}

impl StepError {
    /// The failures, at least one, in the order in which they happened.
    #[must_use]
    pub fn failures(&self) -> &[StepFailure] {
        &self.failures
    }

    /// Why the session at position `index` of the caller's sessions did not advance; `None` if nothing failed for it.
    #[must_use]
    pub fn session_error(&self, index: usize) -> Option<&VerifyError> {
        let failure = self.failures.iter().find(|failure| failure.sessions.contains(&index))?;
        Some(&failure.error)
    }

    /// The failures by value.
    #[must_use]
    pub fn into_failures(self) -> Vec<StepFailure> {
        self.failures
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, StepFailure { sessions, error }) in self.failures.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}sessions {sessions:?} did not advance: {error}")?;
        }
        Ok(())
    }
}

impl Error for StepError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.failures.first().and_then(|failure| failure.error.source())
    }
}
