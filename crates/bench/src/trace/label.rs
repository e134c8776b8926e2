//! Tokens as they are shown: whitespace visible, half a character as its bytes.

use std::fmt::Write as _;

use upcycle_core::TokenId;
use upcycle_text::Tokenizer;

/// How a token is shown, and whether it is no part of the text.
///
/// A special token has its name, an id without any token its number.
pub(super) fn label(tokenizer: &Tokenizer, token: TokenId) -> (String, bool) {
    match tokenizer.token_bytes(token) {
        Ok(bytes) if !bytes.is_empty() => (visible(bytes), false),
        _ => (tokenizer.name(token).unwrap_or_else(|| format!("#{token}")), true),
    }
}

/// Bytes as text in which everything can be seen.
fn visible(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    let mut half = Vec::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            flush(&mut half, &mut shown);
            match character {
                ' ' => shown.push('·'),
                '\n' => shown.push('↵'),
                '\r' => shown.push('␍'),
                '\t' => shown.push('⇥'),
                hidden if is_hidden(hidden) => {
                    let _ = write!(shown, "<U+{:04X}>", u32::from(hidden));
                }
                other => shown.push(other),
            }
        }
        half.extend_from_slice(chunk.invalid());
    }
    flush(&mut half, &mut shown);
    shown
}

/// Writes the bytes of half a character: `<E2 80>`.
fn flush(half: &mut Vec<u8>, shown: &mut String) {
    for (index, byte) in half.iter().enumerate() {
        let _ = write!(shown, "{}{byte:02X}", if index == 0 { '<' } else { ' ' });
    }
    if !half.is_empty() {
        shown.push('>');
    }
    half.clear();
}

/// Whether a character leaves no mark of its own, or changes how others are laid out.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || character.is_whitespace()
        || matches!(
            character,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_seen_is_spelled_out() {
        assert_eq!(visible(b" the"), "·the");
        assert_eq!(visible(b"\t\r\n\n"), "⇥␍↵↵");
        assert_eq!(visible("é漢😀".as_bytes()), "é漢😀");
        assert_eq!(visible(b"\xe2\x80"), "<E2 80>");
        assert_eq!(visible(b"a\xff\xfe \x80"), "a<FF FE>·<80>");
        assert_eq!(visible("\u{7}\u{a0}\u{202e}\u{feff}".as_bytes()), "<U+0007><U+00A0><U+202E><U+FEFF>");
        assert_eq!(visible(b""), "");
    }

    proptest! {
        #[test]
        fn every_byte_leaves_a_mark(bytes in prop::collection::vec(any::<u8>(), 1..12)) {
            let shown = visible(&bytes);
            prop_assert!(!shown.is_empty());
            prop_assert!(!shown.chars().any(|c| is_hidden(c) && c != ' '), "{:?}", shown);
        }
    }
}
