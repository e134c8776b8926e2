//! llama.cpp's own tokenizer, which knows more kinds of vocabulary than ours.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use upcycle_checkpoint::gguf::Gguf;
use upcycle_core::TokenId;

use crate::error::LoadError;
use crate::file;
use crate::native::library;
use crate::trial::{Extent, Trial};

/// The vocabulary of a GGUF file, without its weights.
pub struct Vocabulary {
    llama: LlamaModel,
    /// For a SentencePiece vocabulary that lacks bytes.
    incomplete: Option<Incomplete>,
}

/// Why a text cannot be split into tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizeError {
    /// The text is too long for llama.cpp.
    #[error("a text of {bytes} bytes is too long; expected less than 2 GiB")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The vocabulary has neither the character nor all of its bytes.
    #[error(
        "the vocabulary has no token for {character:?}, nor for its bytes; remove that character from the text"
    )]
    NoToken {
        /// The character.
        character: char,
    },
}

/// The characters and bytes of a SentencePiece vocabulary. For a text with others, llama.cpp ends the process.
struct Incomplete {
    characters: HashSet<char>,
    bytes: HashSet<u8>,
}

impl Incomplete {
    /// None for other vocabularies, and for one with all bytes.
    fn of(gguf: &Gguf) -> Option<Self> {
        let kind = gguf.get_string("tokenizer.ggml.model").ok().flatten();
        let tokens = gguf.get_strings("tokenizer.ggml.tokens").ok().flatten()?;
        let names: HashSet<&str> = tokens.iter().collect();
        let has_byte = |byte: &u8| {
            let plain = byte.is_ascii().then_some(char::from(*byte));
            names.contains(&*format!("<0x{byte:02X}>"))
                || plain.is_some_and(|byte| names.contains(&*byte.to_string()))
        };
        let bytes: HashSet<u8> = (0..=u8::MAX).filter(has_byte).collect();
        let single = |name: &&str| name.chars().next().filter(|first| first.len_utf8() == name.len());
        let characters = names.iter().filter_map(single).collect();
        (kind == Some("llama") && bytes.len() < 256).then_some(Self { characters, bytes })
    }

    /// The first character that has no tokens.
    fn missing(&self, text: &str) -> Option<char> {
        // A space, and one in front of the text, becomes this.
        let escaped = text.chars().map(|character| if character == ' ' { '\u{2581}' } else { character });
        let mut all = escaped.chain(std::iter::once('\u{2581}').filter(|_| !text.is_empty()));
        all.find(|&character| {
            let mut buffer = [0; 4];
            let mut bytes = character.encode_utf8(&mut buffer).bytes();
            !self.characters.contains(&character) && !bytes.all(|byte| self.bytes.contains(&byte))
        })
    }
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
        let incomplete = Incomplete::of(parts.first());
        Ok(Self {
            incomplete,
            llama: file::load(library, path, &params, Some(&Trial::new(path, None, Extent::Headers)))?,
        })
    }

    /// Does what a use of the vocabulary does: the child's part of a [trial](crate::trial).
    pub(crate) fn rehearse(&self) {
        let _ = self.pieces();
        let _ = self.ends();
        for text in ["Hello, world!\n", "\u{4f60}\u{597d} \u{1f600} \0\u{7f}"] {
            for specials in [false, true] {
                // A text that the vocabulary cannot hold is no fault of the file.
                let _ = self.tokenize(text, specials);
            }
        }
    }

    /// The tokens of a text, unchanged. `specials` is whether the name of a special token in the text becomes that token.
    ///
    /// # Errors
    /// [`TokenizeError`].
    pub fn tokenize(&self, text: &str, specials: bool) -> Result<Vec<TokenId>, TokenizeError> {
        i32::try_from(text.len()).map_err(|_| TokenizeError::TooLong { bytes: text.len() })?;
        if let Some(character) = self.incomplete.as_ref().and_then(|incomplete| incomplete.missing(text)) {
            return Err(TokenizeError::NoToken { character });
        }
        let tokens = self.llama.vocab().tokenize(text.as_bytes(), false, specials);
        // Leaves out llama.cpp's -1, for what the vocabulary has no token for.
        Ok(tokens.into_iter().filter_map(id).collect())
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
