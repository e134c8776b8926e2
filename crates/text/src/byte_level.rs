//! GPT-2's alphabet, which writes each of the 256 bytes as a printable character.
//!
//! Printable ASCII and most of Latin-1 stand for themselves. The other 68 bytes map, in order, to the characters from U+0100
//! on. See `bytes_to_unicode` in <https://github.com/openai/gpt-2/blob/master/src/encoder.py>.

/// Whether a byte stands for itself.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// The bytes that do not stand for themselves, in order.
const SHIFTED: [u8; 68] = {
    let mut shifted = [0; 68];
    let (mut byte, mut next) = (0_usize, 0);
    while byte < 256 {
        if !is_printable(byte as u8) {
            shifted[next] = byte as u8;
            next += 1;
        }
        byte += 1;
    }
    shifted
};

/// The byte that a character of the alphabet stands for.
pub(crate) fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    match u8::try_from(code) {
        Ok(byte) => is_printable(byte).then_some(byte),
        Err(_) => SHIFTED.get(code.checked_sub(0x100)? as usize).copied(),
    }
}

/// The bytes that a token stands for. As in Hugging Face's decoder, a token with a character outside the alphabet stands for its
/// own UTF-8.
pub(crate) fn bytes_of(token: &str) -> Vec<u8> {
    token.chars().map(byte_of).collect::<Option<Vec<u8>>>().unwrap_or_else(|| token.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_one_character() {
        let mut seen = [0; 256];
        for code in 0..0x300 {
            if let Some(byte) = char::from_u32(code).and_then(byte_of) {
                seen[usize::from(byte)] += 1;
            }
        }
        assert_eq!(seen, [1; 256]);
    }

    #[test]
    fn known_tokens() {
        assert_eq!(bytes_of("ĠHello"), b" Hello");
        assert_eq!(bytes_of("Ċ"), b"\n");
        assert_eq!(bytes_of("Ã©"), "é".as_bytes());
        assert_eq!(bytes_of("a b"), b"a b");
        assert_eq!(bytes_of("中"), "中".as_bytes());
    }
}
