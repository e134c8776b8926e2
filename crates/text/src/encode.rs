//! From text to tokens.

use tokenizers::{Model, NormalizedString, OffsetType, PreTokenizer};

use crate::tokenizer::{Bpe, Encoder};
use crate::veil::{Veil, veil};
use crate::{ChatTemplate, Message, TextError, Tokenizer, byte_level};

/// The longest run of whitespace that [`Tokenizer::encode`] takes, in characters.
///
/// The splitting rules look back into such a run, and the regular-expression engine remembers at most a million places
/// for that. Above it gives up without an error, and the text after the run would be split wrongly.
pub const WHITESPACE_RUN_LIMIT: usize = 500_000;

/// What to make of text that looks like a special token, such as `<|im_end|>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Specials {
    /// It is that token. For prompts that a template has rendered.
    Parse,
    /// It is text like any other. For what a user typed: it cannot end its own turn.
    Plain,
}

impl Tokenizer {
    /// The tokens of a text, as the text stands: no BOS token is put in front (see [`add_bos`](Self::add_bos)).
    ///
    /// # Errors
    /// [`TextError::Unencodable`] for a character that the vocabulary has no bytes for, and
    /// [`TextError::WhitespaceRun`] above [`WHITESPACE_RUN_LIMIT`].
    pub fn encode(&self, text: &str, specials: Specials) -> Result<Vec<u32>, TextError> {
        self.encode_veiled(text, specials, &Veil::default())
    }

    /// The tokens of a conversation that `template` renders, as far as the beginning of the assistant's answer.
    ///
    /// The template's special tokens are those tokens; their names in messages are text like any other, so that nobody can
    /// end a turn that is not theirs. (A [foreign](Self::foreign) tokenizer cannot tell them apart and parses all of them.)
    ///
    /// # Errors
    /// As [`ChatTemplate::render`] and [`encode`](Self::encode); [`TextError::Veil`].
    pub fn encode_conversation(
        &self,
        template: &ChatTemplate,
        messages: &[Message],
    ) -> Result<Vec<u32>, TextError> {
        let veiled = match self.encoder() {
            Encoder::Bpe(bpe) => veil(messages, &bpe.specials)?,
            Encoder::Foreign { .. } => None,
        };
        match veiled {
            None => self.encode(&template.render(messages, true)?, Specials::Parse),
            Some((messages, veil)) => {
                self.encode_veiled(&template.render(&messages, true)?, Specials::Parse, &veil)
            }
        }
    }

    fn encode_veiled(&self, text: &str, specials: Specials, veil: &Veil) -> Result<Vec<u32>, TextError> {
        let Bpe { encoder, plain, drops_unknown, .. } = match self.encoder() {
            Encoder::Bpe(bpe) => &**bpe,
            Encoder::Foreign { encoder, .. } => return encoder.encode(text, specials),
        };
        check_whitespace(text)?;
        let failed = |error: tokenizers::Error| match error.downcast::<TextError>() {
            Ok(own) => *own,
            Err(other) => TextError::Tokenizer { reason: other.to_string() },
        };
        let added = match specials {
            Specials::Parse => encoder.get_added_vocabulary(),
            Specials::Plain => plain,
        };
        let mut split = added.extract_and_normalize(encoder.get_normalizer(), text);
        if !veil.names.is_empty() {
            // What has become a token is passed over here.
            let unveil = |text: &mut NormalizedString| {
                veil.names.iter().try_for_each(|(sign, name)| text.replace(*sign, name))
            };
            split.normalize(unveil).map_err(failed)?;
        }
        if let Some(splitter) = encoder.get_pre_tokenizer() {
            splitter.pre_tokenize(&mut split).map_err(failed)?;
        }
        let model = encoder.get_model();
        split
            .tokenize(|word| {
                let word = word.get();
                let tokens = model.tokenize(word)?;
                if *drops_unknown && tokens.iter().map(|token| token.value.len()).sum::<usize>() != word.len()
                {
                    return Err(Box::new(unencodable(encoder, word)));
                }
                Ok(tokens)
            })
            .map_err(failed)?;
        let encoding = split.into_encoding(None, 0, OffsetType::None).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// Says which byte of a word has no token.
fn unencodable(encoder: &tokenizers::Tokenizer, word: &str) -> TextError {
    let missing =
        word.chars().find(|character| encoder.token_to_id(character.encode_utf8(&mut [0; 4])).is_none());
    let byte = missing.and_then(byte_level::byte_of).unwrap_or_default();
    let piece = String::from_utf8_lossy(&byte_level::bytes_of(word)).into_owned();
    TextError::Unencodable { byte, piece }
}

/// Refuses a text whose longest run of whitespace is too long to be split.
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
