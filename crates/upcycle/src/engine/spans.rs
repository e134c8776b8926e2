//! Tracks which parts of an answer's text were drafted.

use std::collections::VecDeque;

use super::piece::Piece;

/// The drafted and undrafted spans of text that is held back. Text enters token by token and leaves once no stop string can
/// begin in it.
#[derive(Debug, Default)]
pub struct DraftSpans {
    /// Lengths in bytes, and whether the bytes were drafted. Neighbours differ in that.
    held: VecDeque<(usize, bool)>,
}

impl DraftSpans {
    /// Adds the `len` bytes of a token.
    pub fn push(&mut self, len: usize, drafted: bool) {
        match self.held.back_mut() {
            _ if len == 0 => {}
            Some((held, kind)) if *kind == drafted => *held += len,
            _ => self.held.push_back((len, drafted)),
        }
    }

    /// Appends `shown`, the oldest held text, to `pieces`, split by span.
    pub fn split(&mut self, mut shown: &str, pieces: &mut VecDeque<Piece>) {
        while !shown.is_empty() {
            let (held, drafted) = self.held.pop_front().unwrap_or((shown.len(), false));
            // A stop string may end a text within a token, but never within a character.
            let len = (held.min(shown.len())..=shown.len()).find(|&len| shown.is_char_boundary(len));
            let (text, rest) = shown.split_at(len.unwrap_or(shown.len()));
            if held > text.len() {
                self.held.push_front((held - text.len(), drafted));
            }
            shown = rest;
            match pieces.back_mut() {
                Some(piece) if piece.drafted == drafted => piece.text.push_str(text),
                _ => pieces.push_back(Piece { text: text.to_owned(), drafted, logprobs: Vec::new() }),
            }
        }
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
            let mut pieces = VecDeque::new();
            spans.split(&whole[..cut], &mut pieces);
            spans.split(&whole[cut..], &mut pieces);
            let kinds: Vec<bool> =
                pieces.iter().flat_map(|piece| piece.text.bytes().map(|_| piece.drafted)).collect();
            let expected: Vec<bool> =
                tokens.iter().flat_map(|(text, drafted)| text.bytes().map(|_| *drafted)).collect();
            assert_eq!(kinds, expected, "cut at {cut}");
        }
    }
}
