//! Tracks which parts of an answer's text were drafted.

use std::collections::VecDeque;

use crate::failure::Failure;

/// A piece of text whose tokens were all drafted, or all not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextPiece<'a> {
    pub(crate) text: &'a str,
    /// Whether the text comes from accepted draft tokens.
    pub(crate) drafted: bool,
}

/// The drafted and undrafted spans of text that is held back. Text enters token by token and leaves once no stop string can
/// begin in it.
#[derive(Debug, Default)]
pub(crate) struct DraftSpans {
    /// Lengths in bytes, and whether the bytes were drafted. Neighbours differ in that.
    held: VecDeque<(usize, bool)>,
}

impl DraftSpans {
    /// Adds the `len` bytes of a token.
    pub(crate) fn push(&mut self, len: usize, drafted: bool) {
        match self.held.back_mut() {
            _ if len == 0 => {}
            Some((held, kind)) if *kind == drafted => *held += len,
            _ => self.held.push_back((len, drafted)),
        }
    }

    /// Passes `shown`, the oldest held text, to `show`, split by span.
    pub(crate) fn pieces(
        &mut self,
        mut shown: &str,
        show: &mut dyn FnMut(TextPiece<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        while !shown.is_empty() {
            let (held, drafted) = self.held.pop_front().unwrap_or((shown.len(), false));
            // A stop string may end a text within a token, but never within a character.
            let len = (held.min(shown.len())..=shown.len()).find(|&len| shown.is_char_boundary(len));
            let (text, rest) = shown.split_at(len.unwrap_or(shown.len()));
            if held > text.len() {
                self.held.push_front((held - text.len(), drafted));
            }
            shown = rest;
            show(TextPiece { text, drafted })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_survive_any_cut_of_the_text() {
        let tokens = [("one", false), (" two", true), ("", true), (" three", true), (" vier é", false)];
        let whole: String = tokens.iter().map(|(text, _)| *text).collect();
        for cut in (0..=whole.len()).filter(|&cut| whole.is_char_boundary(cut)) {
            let mut spans = DraftSpans::default();
            tokens.iter().for_each(|(text, drafted)| spans.push(text.len(), *drafted));
            let mut kinds = Vec::new();
            let mut show = |piece: TextPiece<'_>| {
                kinds.extend(piece.text.bytes().map(|_| piece.drafted));
                Ok(())
            };
            spans.pieces(&whole[..cut], &mut show).unwrap();
            spans.pieces(&whole[cut..], &mut show).unwrap();
            let expected: Vec<bool> =
                tokens.iter().flat_map(|(text, drafted)| text.bytes().map(|_| *drafted)).collect();
            assert_eq!(kinds, expected, "cut at {cut}");
        }
    }
}
