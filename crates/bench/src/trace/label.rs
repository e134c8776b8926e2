//! Labels of tokens: white space is visible, incomplete characters are shown as bytes.

use std::fmt::Write as _;

use upcycle_core::TokenId;
use upcycle_text::Tokenizer;

/// The label of a token, and whether it is special.
///
/// A special token is shown by its name, an id without a token by its number.
pub(super) fn label(tokenizer: &Tokenizer, token: TokenId) -> (String, bool) {
    match tokenizer.token_bytes(token) {
        Ok(bytes) if !bytes.is_empty() => (visible(bytes), false),
        _ => (tokenizer.name(token).unwrap_or_else(|| format!("#{token}")), true),
    }
}

/// Bytes as text without invisible characters.
fn visible(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    let mut incomplete = Vec::new();
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            flush(&mut incomplete, &mut shown);
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
        incomplete.extend_from_slice(chunk.invalid());
    }
    flush(&mut incomplete, &mut shown);
    shown
}

/// Writes the bytes of an incomplete character: `<E2 80>`.
fn flush(incomplete: &mut Vec<u8>, shown: &mut String) {
    for (index, byte) in incomplete.iter().enumerate() {
        let _ = write!(shown, "{}{byte:02X}", if index == 0 { '<' } else { ' ' });
    }
    if !incomplete.is_empty() {
        shown.push('>');
    }
    incomplete.clear();
}

/// Whether a character is invisible or changes the layout of others.
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
    fn invisible_characters_are_spelled_out() {
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
