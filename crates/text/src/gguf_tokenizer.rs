//! Tokenizers in GGUF files.

use tokenizers::AddedToken;
use tokenizers::models::bpe::{BPE, Merges, Vocab};
use upcycle_checkpoint::gguf::{Gguf, GgufError, StringArray, Value};

use crate::error::TextError;
use crate::parts::{TokenizerParts, is_merge};
use crate::pre_tokenizer::PreTokenizerRule;
use crate::sentencepiece;
use crate::vocabulary::{PieceFormat, TokenKind, Vocabulary, is_control_name};

const TYPES_KEY: &str = "tokenizer.ggml.token_type";
const SCORES_KEY: &str = "tokenizer.ggml.scores";

/// The keys of end tokens, besides the end of the text.
const END_KEYS: [&str; 2] = ["tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];

/// The keys of tokens that end code to fill in.
const FILL_IN_END_KEYS: [&str; 3] =
    ["tokenizer.ggml.fim_pad_token_id", "tokenizer.ggml.fim_rep_token_id", "tokenizer.ggml.fim_sep_token_id"];

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
    let rule = gguf.get_string("tokenizer.ggml.pre")?.filter(|rule| !rule.is_empty()).unwrap_or_else(|| {
        tracing::warn!(
            "the file does not name its pre-tokenizer (`tokenizer.ggml.pre`): using `default`, which may split text in ways \
             that the model never saw"
        );
        "default"
    });
    let rule = PreTokenizerRule::named(rule)?;
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
    // llama.cpp's default for both is 11, Falcon's `<|endoftext|>`, which is `,` in most vocabularies.
    finish(
        gguf,
        encoder,
        PieceFormat::ByteLevel,
        tokens,
        Defaults { bos: None, eos: None, add_bos: rule.add_bos },
    )
}

/// What holds where a file does not say.
#[derive(Clone, Copy)]
struct Defaults {
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: bool,
}

/// The defaults are Llama 2's: a space in front, a BOS token, and its ids of special tokens.
fn sentence_piece(gguf: &Gguf) -> Result<TokenizerParts, TextError> {
    let add_space_prefix = gguf.get_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let format = PieceFormat::SentencePiece { add_space_prefix };
    let tokens = tokens(gguf, format)?;
    let scores = scores(gguf, tokens.len())?;
    let pieces: Vec<(&str, f32)> = tokens
        .iter()
        .zip(scores)
        .filter(|((_, kind), _)| matches!(kind, TokenKind::Normal | TokenKind::UserDefined))
        .map(|((token, _), score)| (token.as_str(), score))
        .collect();
    let unknown = special(gguf, "tokenizer.ggml.unknown_token_id", tokens.len(), Some(0))?;
    let unknown = unknown.and_then(|id| tokens.get(id as usize)).map(|(token, _)| token.as_str());
    let encoder = sentencepiece::encoder(
        vocab(&tokens)?,
        &pieces,
        unknown.filter(|token| !token.is_empty()),
        add_space_prefix,
    )?;
    finish(gguf, encoder, format, tokens, Defaults { bos: Some(1), eos: Some(2), add_bos: true })
}

/// The score of each token; zero for all if the file has none.
fn scores(gguf: &Gguf, tokens: usize) -> Result<Vec<f32>, TextError> {
    let scores = match gguf.get(SCORES_KEY) {
        None => {
            tracing::warn!("the file has no `{SCORES_KEY}`: joining pieces from left to right");
            return Ok(vec![0.0; tokens]);
        }
        // llama.cpp takes whole numbers as well.
        Some(Value::Array(array)) if array.to_integers().is_some() => {
            gguf.i32s(SCORES_KEY)?.into_iter().map(|score| score as f32).collect()
        }
        Some(_) => gguf.f32s(SCORES_KEY)?.to_vec(),
    };
    check_length(SCORES_KEY, scores.len(), tokens)?;
    Ok(scores)
}

/// Checks that an array has an entry for each token. As in llama.cpp, it may have more.
fn check_length(key: &'static str, found: usize, tokens: usize) -> Result<(), TextError> {
    if found < tokens { Err(TextError::LengthMismatch { key, expected: tokens, found }) } else { Ok(()) }
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
    defaults: Defaults,
) -> Result<TokenizerParts, TextError> {
    let added = tokens.iter().filter_map(|(token, kind)| match kind {
        TokenKind::Control => Some(AddedToken::from(token.as_str(), true)),
        TokenKind::UserDefined => Some(AddedToken::from(token.as_str(), false).normalized(false)),
        TokenKind::Normal | TokenKind::Byte(_) | TokenKind::Unused => None,
    });
    encoder.add_tokens(added).map_err(TextError::library)?;

    let special = |key: &'static str, default| special(gguf, key, tokens.len(), default);
    let bos = special("tokenizer.ggml.bos_token_id", defaults.bos)?;
    let eos = special("tokenizer.ggml.eos_token_id", defaults.eos)?;
    let mut ends: Vec<u32> = eos.into_iter().collect();
    for key in END_KEYS {
        ends.extend(special(key, None)?);
    }
    let eos = ends.first().copied();
    for key in FILL_IN_END_KEYS {
        ends.extend(special(key, None)?);
    }
    let add_bos = gguf.get_bool("tokenizer.ggml.add_bos_token")?.unwrap_or(defaults.add_bos) && bos.is_some();
    Ok(TokenizerParts { encoder, format, tokens, bos, add_bos, eos, ends })
}

/// The tokens and their kinds, in id order.
fn tokens(gguf: &Gguf, format: PieceFormat) -> Result<Vec<(String, TokenKind)>, TextError> {
    let texts = gguf.strings("tokenizer.ggml.tokens")?;
    Vocabulary::check_size(texts.len() as u64)?;
    let types = gguf.get_i32s(TYPES_KEY)?;
    if let Some(types) = &types {
        check_length(TYPES_KEY, types.len(), texts.len())?;
    } else {
        tracing::warn!("the file has no `{TYPES_KEY}`: telling control tokens by their names");
    }
    let (mut renamed, mut unknown) = (Vec::new(), 0);
    let mut tokens = Vec::with_capacity(texts.len());
    for (id, text) in texts.iter().enumerate() {
        let byte =
            sentencepiece::byte_of(text).filter(|_| format != PieceFormat::ByteLevel).map(TokenKind::Byte);
        let kind = match types.as_ref().map(|types| types[id]) {
            // 2 is the unknown token, which contributes no text either.
            Some(2 | 3) => TokenKind::Control,
            _ if is_control_name(text) => {
                renamed.push(text);
                TokenKind::Control
            }
            None => byte.unwrap_or(TokenKind::Normal),
            Some(1) => TokenKind::Normal,
            Some(4) => TokenKind::UserDefined,
            // Byte-level BPE has no byte tokens: its alphabet covers them.
            Some(6) => byte.unwrap_or(TokenKind::Unused),
            Some(5) => TokenKind::Unused,
            Some(_) => {
                unknown += 1;
                TokenKind::Unused
            }
        };
        tokens.push((text.to_owned(), kind));
    }
    if !renamed.is_empty() {
        tracing::warn!(tokens = renamed.join(" "), "tokens that look like control tokens are taken as such");
    }
    if unknown > 0 {
        tracing::warn!(tokens = unknown, "tokens of unknown types (`{TYPES_KEY}`) are taken as unused");
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

/// The id of a special token, or its default. Where the file names one outside of the vocabulary, the default holds.
fn special(
    gguf: &Gguf,
    key: &'static str,
    vocab_size: usize,
    default: Option<u32>,
) -> Result<Option<u32>, TextError> {
    let default = default.filter(|&id| (id as usize) < vocab_size);
    let found = match gguf.get_i64(key) {
        Ok(None) => return Ok(default),
        Ok(Some(found)) => found.to_string(),
        Err(GgufError::OutOfRange { found, .. }) => found,
        Err(error) => return Err(error.into()),
    };
    match found.parse::<u32>() {
        Ok(id) if (id as usize) < vocab_size => Ok(Some(id)),
        _ => {
            let instead = default.map_or_else(|| "none".to_owned(), |id| id.to_string());
            tracing::warn!("`{key}` is {found}, which is not among the {vocab_size} tokens: using {instead}");
            Ok(default)
        }
    }
}
