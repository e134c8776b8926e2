//! SentencePiece's BPE, as Llama 2, Mistral and their kin have it: spaces are `▁`, one stands in front of a text, and what has no
//! piece is spelled in bytes.

use tokenizers::models::bpe::{BPE, Merges, Vocab};
use tokenizers::normalizers::{Prepend, Replace, Sequence};
use tokenizers::{DecoderWrapper, NormalizerWrapper, Tokenizer, decoders};

use crate::TextError;

/// What stands for a space in a piece.
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

/// The bytes that a piece of text stands for.
pub(crate) fn bytes_of(piece: &str) -> Vec<u8> {
    piece.replace(SPACE, " ").into_bytes()
}

/// The encoder of pieces with these scores.
///
/// SentencePiece joins, again and again, the neighbours whose union is the piece of the highest score, the leftmost of several.
/// BPE does the same where its merges are in order of the scores of what they make. Of one piece all ways to part it in two are
/// merges: which of them occurs, other merges decide. O(text of all pieces).
pub(crate) fn encoder(
    vocab: Vocab,
    pieces: &[(&str, f32)],
    unknown: Option<&str>,
    add_space: bool,
) -> Result<Tokenizer, TextError> {
    let failed = |error: tokenizers::Error| TextError::Tokenizer { reason: error.to_string() };
    let mut ordered: Vec<&(&str, f32)> = pieces.iter().collect();
    // The sort is stable: equal scores stay in order of ids.
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
    let mut encoder = Tokenizer::new(builder.build().map_err(failed)?);
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if add_space {
        steps.push(Prepend::new(SPACE.to_string()).into());
    }
    steps.push(Replace::new(" ", SPACE.to_string()).map_err(failed)?.into());
    encoder.with_normalizer(Some(Sequence::new(steps))).map_err(failed)?;
    Ok(encoder)
}

/// The decoder of a `tokenizer.json` of this kind.
pub(crate) fn decoder(space_in_front: bool) -> Result<decoders::sequence::Sequence, TextError> {
    let failed = |error: tokenizers::Error| TextError::Tokenizer { reason: error.to_string() };
    let mut steps: Vec<DecoderWrapper> = vec![
        Replace::new(SPACE.to_string(), " ").map_err(failed)?.into(),
        decoders::byte_fallback::ByteFallback::new().into(),
        decoders::fuse::Fuse::new().into(),
    ];
    if space_in_front {
        steps.push(decoders::strip::Strip::new(' ', 1, 0).into());
    }
    Ok(decoders::sequence::Sequence::new(steps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_stand_for_bytes() {
        assert_eq!(byte_of("<0x0A>"), Some(10));
        assert_eq!(byte_of("<0xff>"), Some(255));
        for piece in ["<0x0>", "<0x+A>", "<0x0A", "0x0A", "<0xGG>", "<0x00A>"] {
            assert_eq!(byte_of(piece), None, "{piece}");
        }
        assert_eq!(bytes_of("▁a▁▁é"), " a  é".as_bytes());
    }
}
