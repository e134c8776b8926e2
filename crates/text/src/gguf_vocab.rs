//! The tokenizer that a GGUF file describes.

use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use upcycle_gguf::{Gguf, StringArray};

use crate::TextError;
use crate::pre::Pre;
use crate::tokenizer::Parts;
use crate::vocabulary::{TokenKind, Vocabulary, is_end_name};

const TYPES_KEY: &str = "tokenizer.ggml.token_type";

/// The kinds that are built here.
pub(crate) const KNOWN: &str = "`gpt2` (byte-level BPE)";

/// Reads and checks vocabulary, merges and special tokens. O(vocabulary + merges).
pub(crate) fn parts(gguf: &Gguf) -> Result<Parts, TextError> {
    let kind = gguf.string("tokenizer.ggml.model")?;
    if kind != "gpt2" {
        return Err(TextError::UnsupportedKind { found: kind.to_owned(), known: KNOWN });
    }
    let pre = Pre::named(gguf.string("tokenizer.ggml.pre")?)?;
    let tokens = tokens(gguf)?;

    let mut vocab = Vocab::with_capacity_and_hasher(tokens.len(), Default::default());
    // `check_size` has seen to it that ids fit in 32 bits. A token without text can never be encoded.
    for (id, (token, _)) in (0_u32..).zip(&tokens).filter(|(_, (token, _))| !token.is_empty()) {
        if let Some(first) = vocab.insert(token.clone(), id) {
            return Err(TextError::DuplicateToken { token: token.clone(), first, second: id });
        }
    }
    let merges = merges(gguf.strings("tokenizer.ggml.merges")?, &vocab)?;
    let failed = |error: tokenizers::Error| TextError::Tokenizer { reason: error.to_string() };
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(pre.ignore_merges)
        .build()
        .map_err(failed)?;
    let mut encoder = tokenizers::Tokenizer::new(model);
    encoder.with_pre_tokenizer(Some(pre.splitter));
    let added = tokens.iter().filter_map(|(token, kind)| match kind {
        TokenKind::Control => Some(AddedToken::from(token.as_str(), true)),
        TokenKind::UserDefined => Some(AddedToken::from(token.as_str(), false).normalized(false)),
        TokenKind::Normal | TokenKind::Unused => None,
    });
    encoder.add_tokens(added).map_err(failed)?;

    let special = |key: &'static str| special(gguf, key, tokens.len());
    let bos = special("tokenizer.ggml.bos_token_id")?;
    let mut ends = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        ends.extend(special(key)?);
    }
    let add_bos = gguf.get_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(pre.add_bos) && bos.is_some();
    Ok(Parts { encoder, tokens, bos, add_bos, ends })
}

/// The tokens in id order, and what each one is.
fn tokens(gguf: &Gguf) -> Result<Vec<(String, TokenKind)>, TextError> {
    let texts = gguf.strings("tokenizer.ggml.tokens")?;
    Vocabulary::check_size(texts.len() as u64)?;
    let types = gguf.i32s(TYPES_KEY)?;
    if types.len() != texts.len() {
        let (expected, found) = (texts.len(), types.len());
        return Err(TextError::LengthMismatch { key: TYPES_KEY, expected, found });
    }
    let mut tokens = Vec::with_capacity(texts.len());
    for ((id, text), found) in (0_u32..).zip(texts.iter()).zip(types) {
        let kind = match found {
            1 => TokenKind::Normal,
            // The unknown token is no part of the text either.
            2 | 3 => TokenKind::Control,
            // Some converters forget that an end token is a control token.
            4 if is_end_name(text) => TokenKind::Control,
            4 => TokenKind::UserDefined,
            // Bytes (6) belong to other kinds of tokenizer.
            5 | 6 => TokenKind::Unused,
            _ => return Err(TextError::UnknownTokenType { id, found }),
        };
        tokens.push((text.to_owned(), kind));
    }
    Ok(tokens)
}

/// Checks each merge: the tokenizers library takes two tokens for granted whose concatenation is a token.
fn merges(merges: &StringArray, vocab: &Vocab) -> Result<Merges, TextError> {
    let mut pairs = Merges::with_capacity(merges.len());
    for (index, merge) in merges.iter().enumerate() {
        let pair = merge.split_once(' ').filter(|(left, right)| is_merge(vocab, left, right));
        let Some((left, right)) = pair else {
            return Err(TextError::InvalidMerge { index, merge: merge.to_owned() });
        };
        pairs.push((left.to_owned(), right.to_owned()));
    }
    Ok(pairs)
}

/// Whether two tokens can be merged to a third.
fn is_merge(vocab: &Vocab, left: &str, right: &str) -> bool {
    vocab.contains_key(left) && vocab.contains_key(right) && vocab.contains_key(&format!("{left}{right}"))
}

/// A special token's id, where the file names it.
fn special(gguf: &Gguf, key: &'static str, vocab_size: usize) -> Result<Option<u32>, TextError> {
    let Some(found) = gguf.get_u64(key)? else { return Ok(None) };
    match u32::try_from(found) {
        Ok(id) if (id as usize) < vocab_size => Ok(Some(id)),
        _ => Err(TextError::SpecialOutOfVocabulary { key, found, vocab_size }),
    }
}
