use std::sync::Arc;

use crate::vocabulary::Vocabulary;
use crate::{StopFilter, TextError, Tokenizer};

/// Strings that end generation when they appear in the output.
///
/// Two questions have to be answered about them. [`ends_with_stop`](Self::ends_with_stop) decides, token by token,
/// whether generation is over; it keeps no state, so it answers the same for a speculated path as for the real one.
/// A [`StopFilter`] decides what of the text may be shown.
///
/// Both see text as bytes. A stop string that itself contains U+FFFD does not match bytes that only decode to it.
#[derive(Debug, Clone)]
pub struct StopStrings {
    vocabulary: Arc<Vocabulary>,
    stops: Arc<[String]>,
}

impl StopStrings {
    /// Takes the stop strings for texts of this tokenizer. With none, nothing ever stops.
    ///
    /// # Errors
    /// [`TextError::EmptyStopString`] if one is empty.
    pub fn new<S: Into<String>>(
        tokenizer: &Tokenizer,
        stops: impl IntoIterator<Item = S>,
    ) -> Result<Self, TextError> {
        let stops: Arc<[String]> = stops.into_iter().map(Into::into).collect();
        if let Some(index) = stops.iter().position(String::is_empty) {
            return Err(TextError::EmptyStopString { index });
        }
        Ok(Self { vocabulary: Arc::clone(tokenizer.vocabulary()), stops })
    }

    /// The stop strings, in the order given.
    #[must_use]
    pub fn strings(&self) -> &[String] {
        &self.stops
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stops.is_empty()
    }

    /// Whether the last token of `output` completes a stop string: whether an occurrence of one ends within that
    /// token's bytes. Tokens without text (special ones, ids outside the vocabulary) complete nothing and do not
    /// interrupt.
    ///
    /// Looks back only as many tokens as the match at hand goes on, and allocates nothing: O(bytes of the last token
    /// x bytes of all stop strings) at worst.
    #[must_use]
    pub fn ends_with_stop(&self, output: &[u32]) -> bool {
        let Some((&last, before)) = output.split_last() else { return false };
        let last = self.bytes(last);
        (1..=last.len())
            .any(|end| self.stops.iter().any(|stop| self.matches_back(stop.as_bytes(), &last[..end], before)))
    }

    /// Whether the text of the tokens `before`, followed by `piece`, ends with `stop`.
    fn matches_back<'b>(&'b self, mut stop: &[u8], mut piece: &'b [u8], before: &[u32]) -> bool {
        let mut before = before.iter().rev();
        loop {
            let common = stop.len().min(piece.len());
            let (rest, tail) = stop.split_at(stop.len() - common);
            if !piece.ends_with(tail) {
                return false;
            }
            if rest.is_empty() {
                return true;
            }
            stop = rest;
            let Some(&token) = before.next() else { return false };
            piece = self.bytes(token);
        }
    }

    fn bytes(&self, token: u32) -> &[u8] {
        self.vocabulary.get(token).unwrap_or_default()
    }

    /// A filter for the display of one text.
    #[must_use]
    pub fn filter(&self) -> StopFilter {
        StopFilter::new(Arc::clone(&self.stops))
    }
}
