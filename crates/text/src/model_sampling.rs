//! How the authors of a model suggest to choose tokens.

use std::path::Path;

use serde_json::Value;
use upcycle_checkpoint::gguf::{Gguf, GgufError};

use crate::error::TextError;
use crate::json_file;

/// The files of `transformers` and `onnxruntime-genai`, and where each has its settings.
const FILES: [(&str, &str); 2] = [("generation_config.json", ""), ("genai_config.json", "/search")];

/// How the authors of a model suggest to choose tokens. `None` where the model does not say. The numbers are those of the file,
/// which may be out of range.
///
/// `do_sample` is not read, as in vLLM: many models leave it out and name a temperature.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let folder = folder.path();
/// std::fs::write(folder.join("generation_config.json"), r#"{"temperature": 0.6, "top_k": 20}"#)?;
/// let sampling = upcycle_text::ModelSampling::from_folder(folder)?;
/// assert_eq!((sampling.temperature, sampling.top_k, sampling.top_p), (Some(0.6), Some(20), None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ModelSampling {
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// 0 is off.
    pub top_k: Option<u32>,
    /// 1 is off.
    pub top_p: Option<f32>,
    /// 0 is off.
    pub min_p: Option<f32>,
    /// 1 is off.
    pub repeat_penalty: Option<f32>,
}

impl ModelSampling {
    /// From the keys `general.sampling.*` of a GGUF file.
    ///
    /// # Errors
    /// [`TextError::Gguf`] for a key that is not a number.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, TextError> {
        let number = |name: &str| {
            let key = format!("general.sampling.{name}");
            gguf.get_f32(&key).or_else(|error| match error {
                // Whole numbers are stored as integers by some converters.
                GgufError::WrongType { .. } => Ok(gguf.get_i64(&key)?.map(|integer| integer as f32)),
                error => Err(error),
            })
        };
        Ok(Self {
            temperature: number("temp")?,
            top_k: gguf.get_i64("general.sampling.top_k")?.map(top_k),
            top_p: number("top_p")?,
            min_p: number("min_p")?,
            repeat_penalty: number("penalty_repeat")?,
        })
    }

    /// From `generation_config.json` and `genai_config.json` in a model's folder, whichever exist. The first that has a setting
    /// counts.
    ///
    /// # Errors
    /// [`TextError::Read`], [`TextError::Json`].
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self, TextError> {
        let mut all = Self::default();
        for (name, pointer) in FILES {
            let path = folder.as_ref().join(name);
            let Some(json) = json_file::read_if_exists(&path)? else { continue };
            let settings = json.pointer(pointer).unwrap_or(&Value::Null);
            let setting = |key: &str| match &settings[key] {
                Value::Null => Ok(None),
                Value::Number(number) => Ok(number.as_f64()),
                other => Err(json_file::invalid(&path, format!("`{key}` is {other}; expected a number"))),
            };
            let number = |key: &str| Ok::<_, TextError>(setting(key)?.map(|number| number as f32));
            all.temperature = all.temperature.or(number("temperature")?);
            all.top_k = all.top_k.or(setting("top_k")?.map(|number| top_k(number as i64)));
            all.top_p = all.top_p.or(number("top_p")?);
            all.min_p = all.min_p.or(number("min_p")?);
            all.repeat_penalty = all.repeat_penalty.or(number("repetition_penalty")?);
        }
        Ok(all)
    }
}

/// Negative numbers mean off.
fn top_k(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}
