use std::sync::Arc;

use crate::error::TextError;
use crate::vocabulary::Vocabulary;

/// Turns tokens into text one at a time, in whole characters.
///
/// The pieces from [`push`](Self::push) and [`finish`](Self::finish) together equal
/// [`Tokenizer::decode`](crate::Tokenizer::decode) of the same tokens. At most three bytes are held back until their character is
/// complete. Bytes that cannot become a character turn into U+FFFD at once.
///
/// ```
/// # use upcycle_checkpoint::gguf::{Gguf, StringArray, write::GgufWriter};
/// # let tokens: StringArray = ["a", "Ã", "©"].into_iter().collect();
/// # let file = GgufWriter::new()
/// #     .metadata("tokenizer.ggml.model", "gpt2")
/// #     .metadata("tokenizer.ggml.pre", "gpt-2")
/// #     .metadata("tokenizer.ggml.tokens", tokens)
/// #     .metadata("tokenizer.ggml.token_type", vec![1; 3])
/// #     .metadata("tokenizer.ggml.merges", StringArray::new())
/// #     .to_bytes()?;
/// # let tokenizer = upcycle_text::Tokenizer::from_gguf(&Gguf::read(&mut std::io::Cursor::new(file))?)?;
/// // A vocabulary of three bytes: `a`, and the two bytes of `é`.
/// let mut detokenizer = tokenizer.detokenizer();
/// assert_eq!(detokenizer.push(0)?, "a");
/// assert_eq!(detokenizer.push(1)?, "");
/// assert_eq!(detokenizer.push(2)?, "é");
/// assert_eq!(detokenizer.push(1)?, "");
/// assert_eq!(detokenizer.finish(), "\u{fffd}");
/// # Ok::<(), upcycle_text::TextError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Detokenizer {
    vocabulary: Arc<Vocabulary>,
    /// The beginning of a character; during a push also the token's bytes.
    pending: Vec<u8>,
    complete: String,
    /// Whether to drop a space at the beginning of the text.
    strip_space: bool,
}

impl Detokenizer {
    pub(crate) fn new(vocabulary: Arc<Vocabulary>) -> Self {
        let strip_space = vocabulary.strip_space_prefix;
        Self { vocabulary, pending: Vec::new(), complete: String::new(), strip_space }
    }

    /// Takes the next token and returns the text that it completes, which may be empty. O(bytes of the token).
    ///
    /// # Errors
    /// [`TextError::UnknownToken`] for an id outside the vocabulary; the detokenizer is unchanged.
    pub fn push(&mut self, token: u32) -> Result<&str, TextError> {
        let mut bytes = self.vocabulary.bytes(token)?;
        if self.strip_space && !bytes.is_empty() {
            self.strip_space = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.pending.extend_from_slice(bytes);
        self.complete.clear();
        let mut rest = self.pending.as_slice();
        loop {
            match str::from_utf8(rest) {
                Ok(valid) => {
                    self.complete.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, invalid) = rest.split_at(error.valid_up_to());
                    self.complete.push_str(str::from_utf8(valid).unwrap_or_default());
                    rest = invalid;
                    // Without a length, the bytes may begin a character.
                    let Some(length) = error.error_len() else { break };
                    self.complete.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[length..];
                }
            }
        }
        let done = self.pending.len() - rest.len();
        self.pending.drain(..done);
        Ok(&self.complete)
    }

    /// Ends the text: an incomplete character becomes U+FFFD. The next token starts a new text.
    pub fn finish(&mut self) -> &str {
        let incomplete = !self.pending.is_empty();
        self.pending.clear();
        self.strip_space = self.vocabulary.strip_space_prefix;
        if incomplete { "\u{fffd}" } else { "" }
    }
}
