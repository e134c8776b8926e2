//! Text files as other programs write them.

/// The byte order mark in UTF-8.
const UTF_8: &[u8] = b"\xef\xbb\xbf";

/// The UTF-8 bytes of a text file without its byte order mark. UTF-16 with a mark, as PowerShell writes it, is converted. Bytes
/// that are not the text of their mark come back unchanged, so that a reader reports them.
#[must_use]
pub fn utf8(mut bytes: Vec<u8>) -> Vec<u8> {
    let read: fn([u8; 2]) -> u16 = match bytes[..] {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => {
            if bytes.starts_with(UTF_8) {
                bytes.drain(..UTF_8.len());
            }
            return bytes;
        }
    };
    let (units, rest) = bytes[2..].as_chunks();
    let text: Result<String, _> = char::decode_utf16(units.iter().map(|&unit| read(unit))).collect();
    match text {
        Ok(text) if rest.is_empty() => text.into_bytes(),
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_same_in_every_encoding_with_a_mark() {
        for text in ["", "a\n", "Grüße, 世界! 🙂\r\n"] {
            let units: Vec<u16> = "\u{feff}".encode_utf16().chain(text.encode_utf16()).collect();
            let little: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
            let big: Vec<u8> = units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            for bytes in [text.as_bytes().to_vec(), format!("\u{feff}{text}").into_bytes(), little, big] {
                assert_eq!(utf8(bytes), text.as_bytes());
            }
        }
    }

    #[test]
    fn other_bytes_are_unchanged() {
        for bytes in [&b"\xff\xfea"[..], b"\xff\xfe\x00\xd8", b"\xff", b"caf\xe9", b""] {
            assert_eq!(utf8(bytes.to_vec()), bytes);
        }
    }
}
