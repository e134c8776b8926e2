//! Tokenizers that somebody else brings, for vocabularies that are not built here.

use std::fmt;
use std::sync::Arc;

use crate::{Specials, TextError};

/// Splits text into tokens of a [`ForeignVocabulary`].
pub trait Encode: Send + Sync {
    /// The tokens of a text, as the text stands: no BOS token is put in front.
    ///
    /// # Errors
    /// [`TextError`], for a text that cannot be split.
    fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, TextError>;
}

/// A token of a vocabulary that is not built here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignToken {
    /// As the vocabulary writes it.
    pub name: String,
    /// What it contributes to the text: nothing for a control token.
    pub bytes: Vec<u8>,
}

/// A vocabulary and who splits text into it: see [`Tokenizer::foreign`](crate::Tokenizer::foreign).
#[derive(Clone)]
pub struct ForeignVocabulary {
    /// Who splits text.
    pub encoder: Arc<dyn Encode>,
    /// The kind of tokenizer, such as `llama` (SentencePiece).
    pub kind: String,
    /// The tokens, in id order.
    pub tokens: Vec<ForeignToken>,
    /// The token that begins a text.
    pub bos: Option<u32>,
    /// Whether prompts are to begin with it.
    pub add_bos: bool,
    /// The tokens that end a text, the first of them the template's `eos_token`.
    pub ends: Vec<u32>,
}

impl fmt::Debug for ForeignVocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignVocabulary")
            .field("kind", &self.kind)
            .field("tokens", &self.tokens.len())
            .field("bos", &self.bos)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}
