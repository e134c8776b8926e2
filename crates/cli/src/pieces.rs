//! Which parts of an answer's text were drafted.

use std::collections::VecDeque;

use crate::failure::Failure;

/// Text that comes from tokens of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) text: &'a str,
    /// Drafted and accepted, so that it cost no pass of its own.
    pub(crate) drafted: bool,
}

/// Where the text that is still held back comes from: text goes in token by token and comes out when it is clear that no
/// stop string begins in it.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    /// Bytes, and whether they were drafted; neighbours differ.
    held: VecDeque<(usize, bool)>,
}

impl Origins {
    /// The next `len` bytes are a token's.
    pub(crate) fn push(&mut self, len: usize, drafted: bool) {
        match self.held.back_mut() {
            _ if len == 0 => {}
            Some((held, kind)) if *kind == drafted => *held += len,
            _ => self.held.push_back((len, drafted)),
        }
    }

    /// Hands out the next bytes that went in, whose text is `shown`, kind by kind.
    pub(crate) fn pieces(
        &mut self,
        mut shown: &str,
        show: &mut dyn FnMut(Piece<'_>) -> Result<(), Failure>,
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
            show(Piece { text, drafted })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_out_as_it_went_in_whenever_it_comes_out() {
        let tokens = [("one", false), (" two", true), ("", true), (" three", true), (" vier é", false)];
        let whole: String = tokens.iter().map(|(text, _)| *text).collect();
        for cut in (0..=whole.len()).filter(|&cut| whole.is_char_boundary(cut)) {
            let mut origins = Origins::default();
            tokens.iter().for_each(|(text, drafted)| origins.push(text.len(), *drafted));
            let mut kinds = Vec::new();
            let mut show = |piece: Piece<'_>| {
                kinds.extend(piece.text.bytes().map(|_| piece.drafted));
                Ok(())
            };
            origins.pieces(&whole[..cut], &mut show).unwrap();
            origins.pieces(&whole[cut..], &mut show).unwrap();
            let expected: Vec<bool> =
                tokens.iter().flat_map(|(text, drafted)| text.bytes().map(|_| *drafted)).collect();
            assert_eq!(kinds, expected, "cut at {cut}");
        }
    }
}
