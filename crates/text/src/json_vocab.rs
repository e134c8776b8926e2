//! The tokenizer that a `tokenizer.json` describes.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use tokenizers::{AddedToken, DecoderWrapper};

use crate::generation::Generation;
use crate::tokenizer::Parts;
use crate::vocabulary::{Spelling, TokenKind, Vocabulary, is_end_name};
use crate::{TextError, spm};

/// What is known of tokenizers in JSON.
const KNOWN: &str = "`BPE` with a `ByteLevel` decoder, or with `byte_fallback` and `▁` for spaces";

/// Steps of normalizing and splitting that the known kinds use. Others are refused: they belong to other kinds.
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

/// Reads and checks the tokenizer, and the names of its special tokens from the file beside it.
pub(crate) fn parts(path: &Path) -> Result<Parts, TextError> {
    let wrong = |reason: String| TextError::Json { path: path.to_owned(), reason };
    let bytes = read(path)?;
    let json: Value = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
    check(&json).map_err(|problem| match problem {
        Problem::Kind(found) => TextError::UnsupportedKind { found, known: KNOWN },
        Problem::Merge { index, merge } => TextError::InvalidMerge { index, merge },
        Problem::Other(reason) => wrong(reason),
    })?;
    let spaces = Spaces::of(&json);
    drop(json);
    let encoder = tokenizers::Tokenizer::from_bytes(&bytes).map_err(|error| wrong(error.to_string()))?;
    let byte_level = match encoder.get_decoder() {
        Some(DecoderWrapper::ByteLevel(_)) => true,
        Some(DecoderWrapper::Sequence(steps)) => {
            matches!(steps.get_decoders(), [DecoderWrapper::ByteLevel(_)])
        }
        _ => false,
    };
    let spelling = match spaces {
        _ if byte_level => Spelling::ByteLevel,
        Some(Spaces { in_front }) => Spelling::SentencePiece { space_in_front: in_front },
        None => {
            let found = "BPE that is neither byte-level nor SentencePiece's".to_owned();
            return Err(TextError::UnsupportedKind { found, known: KNOWN });
        }
    };
    let tokens = tokens(&encoder, spelling, path)?;

    let config = Config::beside(path)?;
    // What the file's own post-processor puts in front of an empty text is the BOS token.
    let in_front = encoder.encode_fast("", true).map_err(|error| wrong(error.to_string()))?;
    let first = in_front.get_ids().first().copied();
    let id = |name: Option<&String>| name.and_then(|name| encoder.token_to_id(name));
    let generation = Generation::beside(path, tokens.len())?;
    let bos = id(config.bos.as_ref()).or(first).or(generation.bos);
    let add_bos = bos.is_some() && config.add_bos.unwrap_or(first == bos);
    let ends = id(config.eos.as_ref()).into_iter().chain(generation.ends).collect();
    Ok(Parts { encoder, spelling, tokens, bos, add_bos, ends })
}

fn read(path: &Path) -> Result<Vec<u8>, TextError> {
    fs::read(path).map_err(|source| TextError::Read { path: path.to_owned(), source })
}

/// Why a `tokenizer.json` is refused.
enum Problem {
    Kind(String),
    Merge { index: usize, merge: String },
    Other(String),
}

/// Levels of lists and objects in each other; real files have six.
const NESTING: usize = 16;

/// Whether a value has more levels than `levels`.
fn is_deeper_than(levels: usize, value: &Value) -> bool {
    let below = |value| levels == 0 || is_deeper_than(levels - 1, value);
    match value {
        Value::Array(values) => values.iter().any(below),
        Value::Object(fields) => fields.values().any(below),
        _ => false,
    }
}

/// Checks what the tokenizers library takes for granted, so that it cannot panic on the file, nor run out of stack.
fn check(json: &Value) -> Result<(), Problem> {
    if is_deeper_than(NESTING, json) {
        let reason = format!("lists and objects stand in each other deeper than {NESTING} levels");
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
        return Err(Problem::Other("`model.dropout` makes tokens random; expected null or 0".to_owned()));
    }
    for part in ["normalizer", "pre_tokenizer"] {
        check_inputs(part, &json[part])?;
    }
    let Some(vocab) = model["vocab"].as_object() else {
        return Err(Problem::Other("expected an object under `model.vocab`".to_owned()));
    };
    let mut ids = HashSet::with_capacity(vocab.len());
    for (token, id) in vocab {
        if !id.as_u64().is_some_and(|id| ids.insert(id)) {
            return Err(Problem::Other(format!("token `{token}` has the id {id}; expected one of its own")));
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
        let sound = |(left, right): (&str, &str)| {
            vocab.contains_key(left)
                && vocab.contains_key(right)
                && vocab.contains_key(&format!("{left}{right}"))
        };
        if !pair.is_some_and(sound) {
            return Err(Problem::Merge { index, merge: merge.to_string() });
        }
    }
    Ok(())
}

/// Checks the types of a normalizer or pre-tokenizer and of all that it is made of.
fn check_inputs(part: &str, step: &Value) -> Result<(), Problem> {
    match step {
        Value::Object(fields) => {
            if let Some(found) = fields.get("type").and_then(Value::as_str)
                && !KNOWN_STEPS.contains(&found)
            {
                let known = KNOWN_STEPS.join(", ");
                return Err(Problem::Other(format!(
                    "`{part}` of type `{found}` is not known; known are: {known}"
                )));
            }
            fields.values().try_for_each(|field| check_inputs(part, field))
        }
        Value::Array(steps) => steps.iter().try_for_each(|step| check_inputs(part, step)),
        _ => Ok(()),
    }
}

/// How a tokenizer of SentencePiece's kind treats spaces.
struct Spaces {
    /// One is put in front of every text.
    in_front: bool,
}

impl Spaces {
    /// None where spaces are not written as `▁`, or what has no piece is not spelled in bytes.
    fn of(json: &Value) -> Option<Self> {
        if json["model"]["byte_fallback"] != true {
            return None;
        }
        let steps = |part: &Value| match part["type"].as_str() {
            Some("Sequence") => {
                let lists =
                    ["normalizers", "pretokenizers"].into_iter().filter_map(|key| part[key].as_array());
                lists.flatten().cloned().collect::<Vec<_>>()
            }
            _ => vec![part.clone()],
        };
        let (mut written, mut in_front) = (false, false);
        for step in steps(&json["normalizer"]).into_iter().chain(steps(&json["pre_tokenizer"])) {
            match step["type"].as_str() {
                Some("Prepend") => in_front |= step["prepend"] == "▁",
                Some("Replace") => written |= step["content"] == "▁",
                Some("Metaspace") => {
                    written = true;
                    let scheme = step["prepend_scheme"].as_str();
                    in_front |= scheme.map_or(step["add_prefix_space"] == true, |scheme| scheme != "never");
                }
                _ => {}
            }
        }
        written.then_some(Self { in_front })
    }
}

/// The tokens in id order, and what each one is.
fn tokens(
    encoder: &tokenizers::Tokenizer,
    spelling: Spelling,
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
            Some(_) if is_end_name(&text) => TokenKind::Control,
            Some(_) => TokenKind::UserDefined,
            None if spelling == Spelling::ByteLevel => TokenKind::Normal,
            None => spm::byte_of(&text).map_or(TokenKind::Normal, TokenKind::Byte),
        };
        if let Some((other, _)) = &tokens[id as usize] {
            let reason = format!(
                "the tokens `{text}` and `{other}` share the id {id}; expected one token for each id"
            );
            return Err(TextError::Json { path: path.to_owned(), reason });
        }
        tokens[id as usize] = Some((text, kind));
    }
    Ok(tokens.into_iter().map(|token| token.unwrap_or((String::new(), TokenKind::Unused))).collect())
}

/// What a `tokenizer_config.json` says of special tokens.
#[derive(Default)]
struct Config {
    bos: Option<String>,
    eos: Option<String>,
    add_bos: Option<bool>,
}

impl Config {
    /// Reads the file beside a `tokenizer.json`, if there is one.
    fn beside(path: &Path) -> Result<Self, TextError> {
        let path = path.with_file_name("tokenizer_config.json");
        if !path.exists() {
            return Ok(Self::default());
        }
        let json: Value = serde_json::from_slice(&read(&path)?)
            .map_err(|error| TextError::Json { path, reason: error.to_string() })?;
        // A token is written as a string or as an object with its `content`.
        let token = |key: &str| {
            let token = &json[key];
            token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
        };
        Ok(Self {
            bos: token("bos_token"),
            eos: token("eos_token"),
            add_bos: json["add_bos_token"].as_bool(),
        })
    }
}
