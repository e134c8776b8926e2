//! SentencePiece BPE, as in Llama 2 and Mistral. `▁` stands for a space, a space is put in front of a text, and text without a
//! piece falls back to bytes.

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{Prepend, Replace, Sequence};
use tokenizers::{DecoderWrapper, NormalizerWrapper, Tokenizer, decoders};

use crate::error::TextError;

/// Stands for a space in a piece.
pub(crate) const SPACE: char = '▁';

/// The byte that a piece such as `<0x0A>` stands for.
pub(crate) fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        u8::from_str_radix(digits, 16).ok()
    } else {
        None
    }
}

/// The piece that stands for a byte.
pub(crate) fn byte_piece(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}

/// The bytes that a piece of text stands for.
pub(crate) fn bytes_of(piece: &str) -> Vec<u8> {
    piece.replace(SPACE, " ").into_bytes()
}

/// The encoder of pieces with these scores. O(length of all pieces).
///
/// SentencePiece repeatedly joins the two neighbours whose union has the highest score, the leftmost on a tie. BPE does the same
/// if its merges are sorted by the score of their result. Every split of a piece into two pieces becomes a merge.
pub(crate) fn encoder(
    vocab: Vocab,
    pieces: &[(&str, f32)],
    unknown: Option<&str>,
    add_space_prefix: bool,
) -> Result<Tokenizer, TextError> {
    let mut ordered: Vec<&(&str, f32)> = pieces.iter().collect();
    // A stable sort: equal scores stay in id order.
    ordered.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut merges = Merges::new();
    for (piece, _) in ordered {
        let parts = piece.char_indices().skip(1).map(|(at, _)| piece.split_at(at));
        let both = parts.filter(|(left, right)| vocab.contains_key(*left) && vocab.contains_key(*right));
        merges.extend(both.map(|(left, right)| (left.to_owned(), right.to_owned())));
    }
    let mut builder = BPE::builder().vocab_and_merges(vocab, merges).byte_fallback(true).fuse_unk(true);
    if let Some(unknown) = unknown {
        builder = builder.unk_token(unknown.to_owned());
    }
    let mut encoder = Tokenizer::new(builder.build().map_err(TextError::library)?);
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if add_space_prefix {
        steps.push(Prepend::new(SPACE.to_string()).into());
    }
    steps.push(Replace::new(" ", SPACE.to_string()).map_err(TextError::library)?.into());
    encoder.with_normalizer(Some(Sequence::new(steps))).map_err(TextError::library)?;
    Ok(encoder)
}

/// The decoder to write into a `tokenizer.json`.
pub(crate) fn decoder(add_space_prefix: bool) -> Result<decoders::sequence::Sequence, TextError> {
    let mut steps: Vec<DecoderWrapper> = vec![
        Replace::new(SPACE.to_string(), " ").map_err(TextError::library)?.into(),
        decoders::byte_fallback::ByteFallback::new().into(),
        decoders::fuse::Fuse::new().into(),
    ];
    if add_space_prefix {
        steps.push(decoders::strip::Strip::new(' ', 1, 0).into());
    }
    Ok(decoders::sequence::Sequence::new(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_pieces_are_recognised() {
        assert_eq!(byte_of("<0x0A>"), Some(10));
        assert_eq!(byte_of("<0xff>"), Some(255));
        for piece in ["<0x0>", "<0x+A>", "<0x0A", "0x0A", "<0xGG>", "<0x00A>"] {
            assert_eq!(byte_of(piece), None, "{piece}");
        }
        assert_eq!(bytes_of("▁a▁▁é"), " a  é".as_bytes());
    }
}
