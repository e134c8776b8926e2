//! Tokenizers that a caller brings, for vocabularies that this crate cannot build.

use std::fmt;
use std::sync::Arc;

use crate::error::TextError;
use crate::specials::Specials;

/// Splits text into tokens of an [`ExternalVocabulary`].
pub trait Encode: Send + Sync {
    /// The tokens of a text, without a BOS token in front.
    ///
    /// # Errors
    /// [`TextError`] if the text cannot be split.
    fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, TextError>;
}

/// A token of an [`ExternalVocabulary`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalToken {
    /// The token as the vocabulary writes it.
    pub name: String,
    /// The bytes it contributes to the text: none for a control token.
    pub bytes: Vec<u8>,
}

/// A vocabulary and its encoder: see [`Tokenizer::external`](crate::Tokenizer::external).
#[derive(Clone)]
pub struct ExternalVocabulary {
    /// Splits text into tokens.
    pub encoder: Arc<dyn Encode>,
    /// The kind of tokenizer, such as `llama` (SentencePiece).
    pub kind: String,
    /// The tokens, in id order.
    pub tokens: Vec<ExternalToken>,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// Whether prompts begin with `bos`.
    pub add_bos: bool,
    /// The tokens that end a text; the first is the template's `eos_token`.
    pub ends: Vec<u32>,
}

impl fmt::Debug for ExternalVocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExternalVocabulary")
            .field("kind", &self.kind)
            .field("tokens", &self.tokens.len())
            .field("bos", &self.bos)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}
