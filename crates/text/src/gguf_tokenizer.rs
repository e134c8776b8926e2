//! Tokenizers in GGUF files.

use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use upcycle_checkpoint::gguf::{Gguf, StringArray};

use crate::error::TextError;
use crate::parts::{TokenizerParts, is_merge};
use crate::pre_tokenizer::PreTokenizerRule;
use crate::sentencepiece;
use crate::vocabulary::{PieceFormat, TokenKind, Vocabulary, is_end_name};

const TYPES_KEY: &str = "tokenizer.ggml.token_type";
const SCORES_KEY: &str = "tokenizer.ggml.scores";

/// The supported kinds, for messages.
pub(crate) const KNOWN: &str = "`gpt2` (byte-level BPE) and `llama` (SentencePiece's BPE)";

/// Reads and checks vocabulary, merges or scores, and special tokens. O(vocabulary + merges).
pub(crate) fn read(gguf: &Gguf) -> Result<TokenizerParts, TextError> {
    match gguf.string("tokenizer.ggml.model")? {
        "gpt2" => byte_level(gguf),
        "llama" => sentence_piece(gguf),
        other => Err(TextError::UnsupportedKind { found: other.to_owned(), known: KNOWN }),
    }
}

fn byte_level(gguf: &Gguf) -> Result<TokenizerParts, TextError> {
    let rule = PreTokenizerRule::named(gguf.string("tokenizer.ggml.pre")?)?;
    let tokens = tokens(gguf, PieceFormat::ByteLevel)?;
    let vocab = vocab(&tokens)?;
    let merges = merges(gguf.strings("tokenizer.ggml.merges")?, &vocab)?;
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(rule.ignore_merges)
        .build()
        .map_err(TextError::library)?;
    let mut encoder = tokenizers::Tokenizer::new(model);
    encoder.with_pre_tokenizer(Some(rule.splitter));
    finish(gguf, encoder, PieceFormat::ByteLevel, tokens, rule.add_bos)
}

/// The defaults are Llama 2's: a space in front, and a BOS token.
fn sentence_piece(gguf: &Gguf) -> Result<TokenizerParts, TextError> {
    let add_space_prefix = gguf.get_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let format = PieceFormat::SentencePiece { add_space_prefix };
    let tokens = tokens(gguf, format)?;
    let scores = gguf.f32s(SCORES_KEY)?;
    if scores.len() != tokens.len() {
        let (expected, found) = (tokens.len(), scores.len());
        return Err(TextError::LengthMismatch { key: SCORES_KEY, expected, found });
    }
    let pieces: Vec<(&str, f32)> = tokens
        .iter()
        .zip(scores)
        .filter(|((_, kind), _)| *kind == TokenKind::Normal)
        .map(|((token, _), &score)| (token.as_str(), score))
        .collect();
    let unknown = special(gguf, "tokenizer.ggml.unknown_token_id", tokens.len())?;
    let unknown = unknown.and_then(|id| tokens.get(id as usize)).map(|(token, _)| token.as_str());
    let encoder = sentencepiece::encoder(
        vocab(&tokens)?,
        &pieces,
        unknown.filter(|token| !token.is_empty()),
        add_space_prefix,
    )?;
    finish(gguf, encoder, format, tokens, true)
}

/// Ids by token. Tokens without text are left out: no text encodes to them.
fn vocab(tokens: &[(String, TokenKind)]) -> Result<Vocab, TextError> {
    let mut vocab = Vocab::with_capacity_and_hasher(tokens.len(), Default::default());
    // `check_size` made sure that ids fit in 32 bits.
    for (id, (token, _)) in (0_u32..).zip(tokens).filter(|(_, (token, _))| !token.is_empty()) {
        if let Some(first) = vocab.insert(token.clone(), id) {
            return Err(TextError::DuplicateToken { token: token.clone(), first, second: id });
        }
    }
    Ok(vocab)
}

/// Adds special and user-defined tokens, and reads which tokens begin and end a text.
fn finish(
    gguf: &Gguf,
    mut encoder: tokenizers::Tokenizer,
    format: PieceFormat,
    tokens: Vec<(String, TokenKind)>,
    add_bos: bool,
) -> Result<TokenizerParts, TextError> {
    let added = tokens.iter().filter_map(|(token, kind)| match kind {
        TokenKind::Control => Some(AddedToken::from(token.as_str(), true)),
        TokenKind::UserDefined => Some(AddedToken::from(token.as_str(), false).normalized(false)),
        TokenKind::Normal | TokenKind::Byte(_) | TokenKind::Unused => None,
    });
    encoder.add_tokens(added).map_err(TextError::library)?;

    let special = |key: &'static str| special(gguf, key, tokens.len());
    let bos = special("tokenizer.ggml.bos_token_id")?;
    let mut ends = Vec::new();
    for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"] {
        ends.extend(special(key)?);
    }
    let add_bos = gguf.get_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(add_bos) && bos.is_some();
    Ok(TokenizerParts { encoder, format, tokens, bos, add_bos, ends })
}

/// The tokens and their kinds, in id order.
fn tokens(gguf: &Gguf, format: PieceFormat) -> Result<Vec<(String, TokenKind)>, TextError> {
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
            // 2 is the unknown token, which contributes no text either.
            2 | 3 => TokenKind::Control,
            // Some converters mark end tokens as user-defined.
            4 if is_end_name(text) => TokenKind::Control,
            4 => TokenKind::UserDefined,
            // Byte-level BPE has no byte tokens: its alphabet covers them.
            6 if format != PieceFormat::ByteLevel => {
                sentencepiece::byte_of(text).map_or(TokenKind::Unused, TokenKind::Byte)
            }
            5 | 6 => TokenKind::Unused,
            _ => return Err(TextError::UnknownTokenType { id, found }),
        };
        tokens.push((text.to_owned(), kind));
    }
    Ok(tokens)
}

/// Checks each merge. The tokenizers library relies on a merge being two tokens whose concatenation is a token.
fn merges(merges: &StringArray, vocab: &Vocab) -> Result<Merges, TextError> {
    let mut pairs = Merges::with_capacity(merges.len());
    for (index, merge) in merges.iter().enumerate() {
        let pair = merge
            .split_once(' ')
            .filter(|&(left, right)| is_merge(left, right, |token| vocab.contains_key(token)));
        let Some((left, right)) = pair else {
            return Err(TextError::InvalidMerge { index, merge: merge.to_owned() });
        };
        pairs.push((left.to_owned(), right.to_owned()));
    }
    Ok(pairs)
}

/// The id of a special token, if the file names it.
fn special(gguf: &Gguf, key: &'static str, vocab_size: usize) -> Result<Option<u32>, TextError> {
    let Some(found) = gguf.get_u64(key)? else { return Ok(None) };
    match u32::try_from(found) {
        Ok(id) if (id as usize) < vocab_size => Ok(Some(id)),
        _ => Err(TextError::SpecialOutOfVocabulary { key, found, vocab_size }),
    }
}
