use std::sync::Arc;

use crate::error::TextError;
use crate::stop_filter::StopFilter;
use crate::tokenizer::Tokenizer;
use crate::vocabulary::Vocabulary;

/// Strings that end generation when they appear in the output.
///
/// [`ends_with_stop`](Self::ends_with_stop) decides after each token whether generation is over. It keeps no state, so it works on
/// speculated tokens too. A [`StopFilter`] decides how much of the text may be shown.
///
/// A stop string that is the name of a special token stops at that token, which contributes no text, and at the spelled name.
#[derive(Debug, Clone)]
pub struct StopStrings {
    vocabulary: Arc<Vocabulary>,
    stops: Arc<[String]>,
    /// The special tokens among the stop strings.
    tokens: Arc<[u32]>,
}

impl StopStrings {
    /// Stop strings for the tokens of this tokenizer. With none, nothing ever stops.
    ///
    /// # Errors
    /// [`TextError::EmptyStopString`]; [`TextError::StopWithReplacement`] for U+FFFD, since invalid bytes that decode to it cannot be
    /// told from it; [`TextError::StopAroundToken`] for the name of a special token among other text, which the output never
    /// spells.
    pub fn new<S: Into<String>>(
        tokenizer: &Tokenizer,
        stops: impl IntoIterator<Item = S>,
    ) -> Result<Self, TextError> {
        let stops: Arc<[String]> = stops.into_iter().map(Into::into).collect();
        let mut tokens = Vec::new();
        for (index, stop) in stops.iter().enumerate() {
            if stop.is_empty() {
                return Err(TextError::EmptyStopString { index });
            }
            if stop.contains(char::REPLACEMENT_CHARACTER) {
                return Err(TextError::StopWithReplacement { index, stop: stop.clone() });
            }
            match tokenizer.special_in(stop) {
                None => (),
                Some((_, Some(id))) => tokens.push(id),
                Some((token, None)) => {
                    return Err(TextError::StopAroundToken { index, stop: stop.clone(), token });
                }
            }
        }
        Ok(Self { vocabulary: Arc::clone(tokenizer.vocabulary()), stops, tokens: tokens.into() })
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

    /// Whether the last token of `output` completes a stop string: whether it is one of the special tokens among them, or an
    /// occurrence of one ends within that token's bytes.
    /// Other tokens without text (special tokens, ids outside the vocabulary) complete nothing and interrupt nothing.
    ///
    /// Looks back only while a match continues, and does not allocate. O(bytes of the last token x bytes of all stop strings).
    #[must_use]
    pub fn ends_with_stop(&self, output: &[u32]) -> bool {
        let Some((&last, before)) = output.split_last() else { return false };
        if self.tokens.contains(&last) {
            return true;
        }
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
                // A text loses the space that SentencePiece puts in front.
                let stripped = self.vocabulary.strip_space_prefix
                    && tail.starts_with(b" ")
                    && piece.len() == common
                    && before.all(|&token| self.bytes(token).is_empty());
                return !stripped;
            }
            stop = rest;
            let Some(&token) = before.next() else { return false };
            piece = self.bytes(token);
        }
    }

    fn bytes(&self, token: u32) -> &[u8] {
        self.vocabulary.get(token).unwrap_or_default()
    }

    /// A filter for one streamed text.
    #[must_use]
    pub fn filter(&self) -> StopFilter {
        StopFilter::new(Arc::clone(&self.stops))
    }
}
