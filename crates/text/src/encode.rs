//! Encoding text into tokens.

use tokenizers::{Model, OffsetType, PreTokenizer};

use crate::error::TextError;
use crate::escape::{Escapes, escape_special_tokens};
use crate::specials::Specials;
use crate::template::{ChatTemplate, Message};
use crate::tokenizer::{Bpe, Encoder, Tokenizer};
use crate::vocabulary::PieceFormat;
use crate::{byte_level, sentencepiece};

/// The longest run of whitespace that [`Tokenizer::encode`] accepts, in characters.
///
/// The splitting rules backtrack within such a run. The regular-expression engine keeps at most a million positions for that, then
/// gives up without an error and splits the text after the run wrongly.
pub const WHITESPACE_RUN_LIMIT: usize = 500_000;

impl Tokenizer {
    /// The tokens of a text, without a BOS token in front (see [`add_bos`](Self::add_bos)).
    ///
    /// # Errors
    /// [`TextError::Unencodable`] for a character without tokens, and [`TextError::WhitespaceRun`] above
    /// [`WHITESPACE_RUN_LIMIT`].
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, TextError> {
        self.encode_escaped(text, specials, &Escapes::default())
    }

    /// The tokens of a conversation rendered by `template`, up to the beginning of the assistant's answer.
    ///
    /// Special tokens that the template writes are parsed. Their names within messages are ordinary text, so no message can end its
    /// own turn. (An [external](Self::external) tokenizer does not make this distinction: it parses all of them.)
    ///
    /// # Errors
    /// As [`ChatTemplate::render`] and [`encode`](Self::encode), and [`TextError::NoPlaceholder`].
    pub fn encode_conversation(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
    ) -> Result<Vec<u32>, TextError> {
        let escaped = match self.encoder() {
            Encoder::Bpe(bpe) => escape_special_tokens(messages, &bpe.specials)?,
            Encoder::External { .. } => None,
        };
        match escaped {
            None => self.encode(&template.render(messages, true)?, Specials::Parse),
            Some((messages, escapes)) => {
                self.encode_escaped(&template.render(&messages, true)?, Specials::Parse, &escapes)
            }
        }
    }

    fn encode_escaped(
        &self,
        text: &str,
        specials: Specials,
        escapes: &Escapes,
    ) -> Result<Vec<u32>, TextError> {
        let Bpe { encoder, format, plain, drops_unknown, .. } = match self.encoder() {
            Encoder::Bpe(bpe) => &**bpe,
            Encoder::External { encoder, .. } => return encoder.encode(text, specials),
        };
        check_whitespace(text)?;
        let failed = |error: tokenizers::Error| match error.downcast::<TextError>() {
            Ok(own) => *own,
            Err(other) => TextError::library(other),
        };
        let added = match specials {
            Specials::Parse => encoder.get_added_vocabulary(),
            Specials::Plain => plain,
        };
        let mut split = added.extract_and_normalize(encoder.get_normalizer(), text);
        if !escapes.is_empty() {
            // Skips the parts that are tokens by now.
            split.normalize(|text| escapes.unescape(text)).map_err(failed)?;
        }
        if let Some(splitter) = encoder.get_pre_tokenizer() {
            splitter.pre_tokenize(&mut split).map_err(failed)?;
        }
        let model = encoder.get_model();
        split
            .tokenize(|word| {
                let word = word.get();
                let tokens = model.tokenize(word)?;
                let encoded = tokens.last().map_or(0, |token| token.offsets.1);
                if *drops_unknown && encoded != word.len() {
                    return Err(Box::new(unencodable(encoder, *format, word)));
                }
                Ok(tokens)
            })
            .map_err(failed)?;
        let encoding = split.into_encoding(None, 0, OffsetType::None).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// The error for a word with a byte that has no token.
fn unencodable(encoder: &tokenizers::Tokenizer, format: PieceFormat, word: &str) -> TextError {
    let known = |character: &char| encoder.token_to_id(character.encode_utf8(&mut [0; 4])).is_some();
    let byte_of = |missing: char| match format {
        PieceFormat::ByteLevel => byte_level::byte_of(missing),
        PieceFormat::SentencePiece { .. } => missing
            .to_string()
            .bytes()
            .find(|byte| encoder.token_to_id(&sentencepiece::byte_piece(*byte)).is_none()),
    };
    let byte = word.chars().filter(|character| !known(character)).find_map(byte_of).unwrap_or_default();
    let piece = String::from_utf8_lossy(&format.bytes_of(word)).into_owned();
    TextError::Unencodable { byte, piece }
}

/// Refuses a run of whitespace that is too long to split.
fn check_whitespace(text: &str) -> Result<(), TextError> {
    let mut run = 0;
    let mut found = 0;
    for character in text.chars() {
        run = if character.is_whitespace() { run + 1 } else { 0 };
        found = found.max(run);
    }
    if found > WHITESPACE_RUN_LIMIT {
        return Err(TextError::WhitespaceRun { found, limit: WHITESPACE_RUN_LIMIT });
    }
    Ok(())
}
