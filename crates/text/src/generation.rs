//! What files about generation, beside a `tokenizer.json`, say of tokens that begin and end a text.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::TextError;

/// The files, and where each has its tokens: that of `transformers`, and that of `onnxruntime-genai`.
const FILES: [(&str, &str); 2] = [("generation_config.json", ""), ("genai_config.json", "/model")];

/// Tokens by their ids.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    /// What begins a text, as the first file says that has it.
    pub(crate) bos: Option<u32>,
    /// What ends one, of all files.
    pub(crate) ends: Vec<u32>,
}

impl Generation {
    /// Reads the files beside a `tokenizer.json` of `vocab` tokens, those that there are.
    pub(crate) fn beside(path: &Path, vocab: usize) -> Result<Self, TextError> {
        let mut all = Self::default();
        for (name, place) in FILES {
            let path = path.with_file_name(name);
            if !path.exists() {
                continue;
            }
            let wrong = |reason: String| TextError::Json { path: path.clone(), reason };
            let bytes = fs::read(&path).map_err(|source| TextError::Read { path: path.clone(), source })?;
            let json: Value = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
            let ids = |key: &str| {
                let value = json.pointer(place).map_or(&Value::Null, |object| &object[key]);
                // One token, or a list of them.
                let values = match value {
                    Value::Null => &[][..],
                    Value::Array(values) => values,
                    one => std::slice::from_ref(one),
                };
                let id = |value: &Value| {
                    let id =
                        value.as_u64().filter(|&id| id < vocab as u64).and_then(|id| u32::try_from(id).ok());
                    id.ok_or_else(|| {
                        wrong(format!(
                            "`{key}` is {value}; expected a token of the vocabulary, below {vocab}"
                        ))
                    })
                };
                values.iter().map(id).collect::<Result<Vec<_>, _>>()
            };
            all.bos = all.bos.or(ids("bos_token_id")?.first().copied());
            all.ends.extend(ids("eos_token_id")?);
        }
        Ok(all)
    }
}
