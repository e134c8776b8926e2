//! Files beside a `tokenizer.json` that name the tokens which begin and end a text.

use std::path::Path;
use std::slice;

use serde_json::Value;

use crate::error::TextError;
use crate::json_file;

/// Special tokens by name, from `tokenizer_config.json`.
#[derive(Default)]
pub(crate) struct TokenizerConfig {
    pub(crate) bos: Option<String>,
    pub(crate) eos: Option<String>,
    pub(crate) add_bos: Option<bool>,
}

impl TokenizerConfig {
    /// Reads the file beside a `tokenizer.json`, if it exists.
    pub(crate) fn beside(tokenizer: &Path) -> Result<Self, TextError> {
        let path = tokenizer.with_file_name("tokenizer_config.json");
        let Some(json) = json_file::read_if_exists(&path)? else { return Ok(Self::default()) };
        // A token is a string, or an object with its `content`.
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

/// The files of `transformers` and `onnxruntime-genai`, and where each has its token ids.
const GENERATION_FILES: [(&str, &str); 2] = [("generation_config.json", ""), ("genai_config.json", "/model")];

/// Special tokens by id, from `generation_config.json` and `genai_config.json`.
#[derive(Debug, Default)]
pub(crate) struct GenerationConfig {
    /// From the first file that names one.
    pub(crate) bos: Option<u32>,
    /// From all files.
    pub(crate) ends: Vec<u32>,
}

impl GenerationConfig {
    /// Reads those files beside a `tokenizer.json` of `vocab` tokens that exist.
    pub(crate) fn beside(tokenizer: &Path, vocab: usize) -> Result<Self, TextError> {
        let mut all = Self::default();
        for (name, pointer) in GENERATION_FILES {
            let path = tokenizer.with_file_name(name);
            let Some(json) = json_file::read_if_exists(&path)? else { continue };
            let ids = |key: &str| {
                // One id, or a list of them.
                let values = match json.pointer(pointer).map_or(&Value::Null, |object| &object[key]) {
                    Value::Null => &[][..],
                    Value::Array(values) => values,
                    one => slice::from_ref(one),
                };
                let id = |value: &Value| match value.as_i64() {
                    Some(found) => match u32::try_from(found) {
                        Ok(id) if u64::from(id) < vocab as u64 => Ok(Some(id)),
                        _ => {
                            let path = path.display();
                            tracing::warn!(
                                "{path}: ignoring `{key}` {found}, which is not among the {vocab} tokens"
                            );
                            Ok(None)
                        }
                    },
                    None => {
                        let reason = format!("`{key}` is {value}; expected a token id below {vocab}");
                        Err(json_file::invalid(&path, reason))
                    }
                };
                values.iter().filter_map(|value| id(value).transpose()).collect::<Result<Vec<_>, _>>()
            };
            all.bos = all.bos.or(ids("bos_token_id")?.first().copied());
            all.ends.extend(ids("eos_token_id")?);
        }
        Ok(all)
    }
}
