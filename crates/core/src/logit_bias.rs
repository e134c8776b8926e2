//! Numbers that a request adds to the logits of some tokens.

use crate::sampling_error::SamplingError;
use crate::token::TokenId;

/// Numbers that are added to the logits of some tokens before anything else: 100 all but forces a token, -100 all but
/// bans it. Drafts change nothing about it: the token of each position is chosen from the changed logits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogitBias(Vec<(TokenId, f32)>);

impl LogitBias {
    /// Checks the range. Numbers for the same token are added up.
    ///
    /// # Errors
    /// [`SamplingError`] for a number outside -100 to 100.
    pub fn new(biases: impl IntoIterator<Item = (TokenId, f32)>) -> Result<Self, SamplingError> {
        let biases: Vec<_> = biases.into_iter().collect();
        match biases.iter().find(|(_, bias)| !(-100.0..=100.0).contains(bias)) {
            Some(&(_, found)) => {
                Err(SamplingError { name: "logit_bias", found, expected: "-100 to 100 for each token" })
            }
            None => Ok(Self(biases)),
        }
    }

    /// Whether it changes no logit.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A token that a vocabulary of `vocab` tokens lacks, if there is one.
    pub(crate) fn unknown_token(&self, vocab: usize) -> Option<TokenId> {
        self.0.iter().map(|&(token, _)| token).find(|&token| token as usize >= vocab)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (TokenId, f32)> + '_ {
        self.0.iter().copied()
    }
}
