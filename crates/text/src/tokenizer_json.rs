//! Tokenizers in `tokenizer.json` files.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use tokenizers::{AddedToken, DecoderWrapper};

use crate::error::TextError;
use crate::parts::{TokenizerParts, is_merge};
use crate::sidecars::{GenerationConfig, TokenizerConfig};
use crate::vocabulary::{PieceFormat, TokenKind, Vocabulary, is_control_name};
use crate::{json_file, sentencepiece};

/// The supported kinds, for messages.
const KNOWN: &str = "`BPE` with a `ByteLevel` decoder, or with `byte_fallback` and `▁` for spaces";

/// The normalizers and pre-tokenizers that the supported kinds use.
const KNOWN_STEPS: &[&str] = &[
    "ByteLevel",
    "Digits",
    "Lowercase",
    "Metaspace",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Prepend",
    "Punctuation",
    "Replace",
    "Sequence",
    "Split",
    "Strip",
];

/// Reads and checks the tokenizer, and its special tokens from the files beside it.
pub(crate) fn read(path: &Path) -> Result<TokenizerParts, TextError> {
    let bytes = json_file::read(path)?;
    let json = json_file::parse(path, &bytes)?;
    check(&json).map_err(|problem| match problem {
        Problem::Kind(found) => TextError::UnsupportedKind { found, known: KNOWN },
        Problem::Merge { index, merge } => TextError::InvalidMerge { index, merge },
        Problem::Other(reason) => json_file::invalid(path, reason),
    })?;
    let space_prefix = adds_space_prefix(&json);
    drop(json);
    let mut encoder =
        tokenizers::Tokenizer::from_bytes(&bytes).map_err(|error| json_file::invalid(path, error))?;
    mark_control_tokens(&mut encoder)?;
    let byte_level = match encoder.get_decoder() {
        Some(DecoderWrapper::ByteLevel(_)) => true,
        Some(DecoderWrapper::Sequence(steps)) => {
            matches!(steps.get_decoders(), [DecoderWrapper::ByteLevel(_)])
        }
        _ => false,
    };
    let format = match space_prefix {
        _ if byte_level => PieceFormat::ByteLevel,
        Some(add_space_prefix) => PieceFormat::SentencePiece { add_space_prefix },
        None => {
            let found = "BPE that is neither byte-level nor SentencePiece's".to_owned();
            return Err(TextError::UnsupportedKind { found, known: KNOWN });
        }
    };
    let tokens = tokens(&encoder, format, path)?;

    let config = TokenizerConfig::beside(path)?;
    // The post-processor turns an empty text into the BOS token, if it adds one.
    let empty = encoder.encode_fast("", true).map_err(|error| json_file::invalid(path, error))?;
    let first = empty.get_ids().first().copied();
    let id = |name: Option<&String>| name.and_then(|name| encoder.token_to_id(name));
    let generation = GenerationConfig::beside(path, tokens.len())?;
    let bos = id(config.bos.as_ref()).or(first).or(generation.bos);
    let add_bos = bos.is_some() && config.add_bos.unwrap_or(first == bos);
    let ends: Vec<u32> = id(config.eos.as_ref()).into_iter().chain(generation.ends).collect();
    let eos = ends.first().copied();
    Ok(TokenizerParts { encoder, format, tokens, bos, add_bos, eos, ends })
}

/// Makes tokens with the names of control tokens special, whatever the file says of them.
fn mark_control_tokens(encoder: &mut tokenizers::Tokenizer) -> Result<(), TextError> {
    let mut names: Vec<String> =
        encoder.get_vocab(true).into_keys().filter(|name| is_control_name(name)).collect();
    let added = encoder.get_added_vocabulary();
    names.retain(|name| !added.is_special_token(name));
    if names.is_empty() {
        return Ok(());
    }
    names.sort_unstable();
    tracing::warn!(tokens = names.join(" "), "tokens that look like control tokens are taken as such");
    let special = names.into_iter().map(|name| AddedToken::from(name, true));
    encoder.add_tokens(special).map_err(TextError::library)?;
    Ok(())
}

/// Why a `tokenizer.json` is refused.
enum Problem {
    Kind(String),
    Merge { index: usize, merge: String },
    Other(String),
}

/// The deepest nesting of lists and objects allowed; real files have six levels.
const MAX_NESTING: usize = 16;

/// Whether a value is nested deeper than `levels`.
fn is_deeper_than(levels: usize, value: &Value) -> bool {
    let below = |value| levels == 0 || is_deeper_than(levels - 1, value);
    match value {
        Value::Array(values) => values.iter().any(below),
        Value::Object(fields) => fields.values().any(below),
        _ => false,
    }
}

/// Checks what the tokenizers library relies on, so that no file makes it panic or exhaust the stack.
fn check(json: &Value) -> Result<(), Problem> {
    if is_deeper_than(MAX_NESTING, json) {
        let reason = format!("expected at most {MAX_NESTING} levels of nested lists and objects, found more");
        return Err(Problem::Other(reason));
    }
    let model = &json["model"];
    match model["type"].as_str() {
        Some("BPE") => {}
        None if model["merges"].is_array() => {}
        Some(other) => return Err(Problem::Kind(other.to_owned())),
        None => return Err(Problem::Other("expected a `model` of type `BPE`, found none".to_owned())),
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[key].as_str().is_some_and(|text| !text.is_empty()) {
            return Err(Problem::Kind(format!("BPE with `{key}`")));
        }
    }
    if model["dropout"].as_f64().is_some_and(|dropout| dropout > 0.0) {
        return Err(Problem::Other(
            "expected null or 0 under `model.dropout`: it would make tokens random".to_owned(),
        ));
    }
    for part in ["normalizer", "pre_tokenizer"] {
        check_steps(part, &json[part])?;
    }
    let Some(vocab) = model["vocab"].as_object() else {
        return Err(Problem::Other("expected an object under `model.vocab`".to_owned()));
    };
    let mut ids = HashSet::with_capacity(vocab.len());
    for (token, id) in vocab {
        if !id.as_u64().is_some_and(|id| ids.insert(id)) {
            return Err(Problem::Other(format!(
                "token `{token}` has the id {id}; expected a number that no other token has"
            )));
        }
    }
    let merges = model["merges"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, merge) in merges.iter().enumerate() {
        let pair = match merge {
            Value::String(merge) => merge.split_once(' '),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(left), Value::String(right)] => Some((left.as_str(), right.as_str())),
                _ => None,
            },
            _ => None,
        };
        if !pair.is_some_and(|(left, right)| is_merge(left, right, |token| vocab.contains_key(token))) {
            return Err(Problem::Merge { index, merge: merge.to_string() });
        }
    }
    Ok(())
}

/// Checks the type of a normalizer or pre-tokenizer, and of all steps within it.
fn check_steps(part: &str, step: &Value) -> Result<(), Problem> {
    match step {
        Value::Object(fields) => {
            if let Some(found) = fields.get("type").and_then(Value::as_str)
                && !KNOWN_STEPS.contains(&found)
            {
                let known = KNOWN_STEPS.join(", ");
                return Err(Problem::Other(format!(
                    "`{part}` has the unknown type `{found}`; expected one of: {known}"
                )));
            }
            fields.values().try_for_each(|field| check_steps(part, field))
        }
        Value::Array(steps) => steps.iter().try_for_each(|step| check_steps(part, step)),
        _ => Ok(()),
    }
}

/// Whether a SentencePiece tokenizer puts a space in front of every text. `None` for other tokenizers: those without byte
/// fallback, or that do not write spaces as `▁`.
fn adds_space_prefix(json: &Value) -> Option<bool> {
    if json["model"]["byte_fallback"] != true {
        return None;
    }
    let steps = |part: &Value| match part["type"].as_str() {
        Some("Sequence") => {
            let lists = ["normalizers", "pretokenizers"].into_iter().filter_map(|key| part[key].as_array());
            lists.flatten().cloned().collect::<Vec<_>>()
        }
        _ => vec![part.clone()],
    };
    let (mut replaces_spaces, mut prefix) = (false, false);
    for step in steps(&json["normalizer"]).into_iter().chain(steps(&json["pre_tokenizer"])) {
        match step["type"].as_str() {
            Some("Prepend") => prefix |= step["prepend"] == "▁",
            Some("Replace") => replaces_spaces |= step["content"] == "▁",
            Some("Metaspace") => {
                replaces_spaces = true;
                let scheme = step["prepend_scheme"].as_str();
                prefix |= scheme.map_or(step["add_prefix_space"] == true, |scheme| scheme != "never");
            }
            _ => {}
        }
    }
    replaces_spaces.then_some(prefix)
}

/// The tokens and their kinds, in id order. An id without a token is an unused token without text.
fn tokens(
    encoder: &tokenizers::Tokenizer,
    format: PieceFormat,
    path: &Path,
) -> Result<Vec<(String, TokenKind)>, TextError> {
    let vocab = encoder.get_vocab(true);
    let size = vocab.values().max().map_or(0, |&highest| u64::from(highest) + 1);
    Vocabulary::check_size(size)?;
    let added = encoder.get_added_tokens_decoder();
    let mut tokens = vec![None; size as usize];
    for (text, id) in vocab {
        let kind = match added.get(&id) {
            Some(AddedToken { special: true, .. }) => TokenKind::Control,
            Some(_) => TokenKind::UserDefined,
            None if format == PieceFormat::ByteLevel => TokenKind::Normal,
            None => sentencepiece::byte_of(&text).map_or(TokenKind::Normal, TokenKind::Byte),
        };
        if let Some((other, _)) = &tokens[id as usize] {
            let reason = format!(
                "the tokens `{text}` and `{other}` share the id {id}; expected one token for each id"
            );
            return Err(json_file::invalid(path, reason));
        }
        tokens[id as usize] = Some((text, kind));
    }
    Ok(tokens.into_iter().map(|token| token.unwrap_or((String::new(), TokenKind::Unused))).collect())
}
