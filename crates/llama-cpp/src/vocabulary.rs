//! llama.cpp's own tokenizer, which knows more kinds of vocabulary than ours.

use std::fmt;
use std::path::Path;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use upcycle_core::TokenId;

use crate::error::LoadError;
use crate::file;
use crate::native::library;

/// The vocabulary of a GGUF file, without its weights.
pub struct Vocabulary {
    llama: LlamaModel,
}

/// A token of a [`Vocabulary`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The token as the vocabulary spells it.
    pub name: String,
    /// The bytes that it adds to a text; none for a control token.
    pub bytes: Vec<u8>,
}

impl Vocabulary {
    /// Reads the vocabulary of a GGUF file. For a model in several files, `path` is the first part.
    ///
    /// # Errors
    /// [`LoadError::Gguf`], [`LoadError::MissingPart`], [`LoadError::Path`], [`LoadError::Processor`], [`LoadError::Model`].
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let parts = file::open(path)?;
        // llama.cpp aborts the process if such a vocabulary is asked for a token.
        if matches!(parts.first().get_string("tokenizer.ggml.model"), Ok(None | Some("no_vocab" | "none"))) {
            let reason = "the file holds no vocabulary".to_owned();
            return Err(LoadError::Model { path: path.to_owned(), reason });
        }
        let library = library()?;
        let params = LlamaModelParams::default().with_vocab_only(true);
        Ok(Self { llama: file::load(library, path, &params)? })
    }

    /// The tokens of a text, unchanged. `specials` is whether the name of a special token in the text becomes that token. None for
    /// a text of 2 GiB or more.
    #[must_use]
    pub fn tokenize(&self, text: &str, specials: bool) -> Option<Vec<TokenId>> {
        i32::try_from(text.len()).ok()?;
        let tokens = self.llama.vocab().tokenize(text.as_bytes(), false, specials);
        tokens.into_iter().map(id).collect()
    }

    /// All tokens, in the order of their ids.
    #[must_use]
    pub fn pieces(&self) -> Vec<Piece> {
        let vocab = self.llama.vocab();
        let piece = |token| Piece {
            name: vocab.text(token).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            bytes: vocab.token_to_piece(token, false, None),
        };
        vocab.tokens().map(piece).collect()
    }

    /// The token that begins a text, and whether prompts should begin with it.
    #[must_use]
    pub fn bos(&self) -> (Option<TokenId>, bool) {
        let vocab = self.llama.vocab();
        (id(vocab.bos()), vocab.should_add_bos())
    }

    /// The tokens that end a generation. The one that ends a text comes first.
    #[must_use]
    pub fn ends(&self) -> Vec<TokenId> {
        let vocab = self.llama.vocab();
        let eos = id(vocab.eos());
        let others = vocab.tokens().filter(|&token| vocab.is_eog(token)).filter_map(id);
        eos.into_iter().chain(others.filter(|&other| Some(other) != eos)).collect()
    }
}

/// The id of a token; none for llama.cpp's -1.
fn id(token: LlamaToken) -> Option<TokenId> {
    TokenId::try_from(token.0).ok()
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").field("tokens", &self.llama.n_vocab()).finish_non_exhaustive()
    }
}
