use std::sync::Arc;

use crate::TextError;
use crate::vocabulary::Vocabulary;

/// Turns tokens into text one at a time, without ever giving out half a character.
///
/// All that [`push`](Self::push) and [`finish`](Self::finish) give out, put together, is what
/// [`Tokenizer::decode`](crate::Tokenizer::decode) makes of the same tokens: at most three bytes are held back until
/// the character is complete, and bytes that can no longer become one turn into U+FFFD at once.
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
/// // A vocabulary of three bytes: `a`, and the first and the second of `é`.
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
    /// The beginning of a character, followed during a push by the token's bytes.
    pending: Vec<u8>,
    complete: String,
    /// No text has come yet, and its first space would not be its own.
    in_front: bool,
}

impl Detokenizer {
    pub(crate) fn new(vocabulary: Arc<Vocabulary>) -> Self {
        let in_front = vocabulary.space_in_front;
        Self { vocabulary, pending: Vec::new(), complete: String::new(), in_front }
    }

    /// Takes the next token and gives the text that it completes, which may be empty. O(the token's bytes).
    ///
    /// # Errors
    /// [`TextError::UnknownToken`] for an id outside the vocabulary; nothing has changed then.
    pub fn push(&mut self, token: u32) -> Result<&str, TextError> {
        let mut bytes = self.vocabulary.bytes(token)?;
        if self.in_front && !bytes.is_empty() {
            self.in_front = false;
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
                    // Without a length, the bytes are a beginning that may yet be completed.
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

    /// Ends the text: an incomplete character becomes U+FFFD. The next token begins a new text.
    pub fn finish(&mut self) -> &str {
        let incomplete = !self.pending.is_empty();
        self.pending.clear();
        self.in_front = self.vocabulary.space_in_front;
        if incomplete { "\u{fffd}" } else { "" }
    }
}
