//! `config.json`.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::architecture::Architecture;
use crate::error::CheckpointError;
use crate::hyperparameters::{HyperparameterError, Hyperparameters, RawHyperparameters, SlidingWindow};
use crate::rope::{RopeLayout, RopeScaling};

/// The architecture of each `model_type`.
const MODEL_TYPES: [(&str, Architecture); 4] = [
    ("llama", Architecture::Llama),
    ("mistral", Architecture::Llama),
    ("qwen2", Architecture::Qwen2),
    ("qwen3", Architecture::Qwen3),
];

/// A layer without a window, in `layer_types`.
const FULL: &str = "full_attention";
/// A layer with a window.
const SLIDING: &str = "sliding_attention";

/// The keys that affect the forward pass. Files have many more, for training and generation.
#[derive(Deserialize)]
pub(super) struct Config {
    model_type: String,
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u32>,
    vocab_size: u32,
    max_position_embeddings: u32,
    rms_norm_eps: f32,
    hidden_act: Option<String>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    rope_theta: Option<f32>,
    partial_rotary_factor: Option<f32>,
    original_max_position_embeddings: Option<u32>,
    /// The old name of `rope_parameters`.
    rope_scaling: Option<Rope>,
    rope_parameters: Option<Rope>,
    #[serde(default)]
    use_sliding_window: bool,
    /// `None` if missing, `Some(None)` if `null`.
    #[serde(default, deserialize_with = "present")]
    sliding_window: Option<Option<u32>>,
    max_window_layers: Option<u32>,
    layer_types: Option<Vec<String>>,
    quantization_config: Option<Value>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u32>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// Rotary embeddings. Unknown keys are refused, since ignoring one could give wrong text.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rope {
    rope_type: Option<String>,
    /// The old name of `rope_type`.
    r#type: Option<String>,
    rope_theta: Option<f32>,
    partial_rotary_factor: Option<f32>,
    factor: Option<f32>,
    original_max_position_embeddings: Option<u32>,
    low_freq_factor: Option<f32>,
    high_freq_factor: Option<f32>,
    attention_factor: Option<f32>,
    beta_fast: Option<f32>,
    beta_slow: Option<f32>,
    truncate: Option<bool>,
    /// No effect: says that the model was trained with the scaling.
    #[serde(rename = "finetuned")]
    _finetuned: Option<bool>,
}

/// The architecture that `model_type` names.
pub(super) fn architecture(config: &Value) -> Result<Architecture, CheckpointError> {
    const NAMES: &[&str] = &[MODEL_TYPES[0].0, MODEL_TYPES[1].0, MODEL_TYPES[2].0, MODEL_TYPES[3].0];
    let found = config["model_type"].as_str().unwrap_or("none");
    let known = MODEL_TYPES.iter().find(|(name, _)| *name == found);
    let unknown = || HyperparameterError::UnknownArchitecture {
        key: "model_type",
        found: found.to_owned(),
        known: NAMES,
    };
    known.map(|&(_, architecture)| architecture).ok_or_else(|| CheckpointError::Hyperparameters(unknown()))
}

fn invalid(key: &str, expected: impl Into<String>, found: &dyn ToString) -> CheckpointError {
    let (key, expected, found) = (key.to_owned(), expected.into(), found.to_string());
    CheckpointError::Hyperparameters(HyperparameterError::Metadata { key, expected, found })
}

/// The key that corresponds to a GGUF key (without the architecture).
fn key(part: &str) -> String {
    let key = match part {
        "embedding_length" => "hidden_size",
        "block_count" => "num_hidden_layers",
        "attention.head_count" => "num_attention_heads",
        "attention.head_count_kv" => "num_key_value_heads",
        "attention.key_length" | "rope.dimension_count" => "head_dim",
        "feed_forward_length" => "intermediate_size",
        "context_length" => "max_position_embeddings",
        "attention.layer_norm_rms_epsilon" => "rms_norm_eps",
        "attention.sliding_window" => "sliding_window",
        "rope.freq_base" => "rope_theta",
        "rope.scaling.factor" => "rope_parameters.factor",
        "rope.scaling.original_context_length" => "rope_parameters.original_max_position_embeddings",
        "rope.scaling.low_freq_factor" => "rope_parameters.low_freq_factor",
        "rope.scaling.high_freq_factor" => "rope_parameters.high_freq_factor",
        "rope.scaling.yarn_beta_fast" => "rope_parameters.beta_fast",
        "rope.scaling.yarn_beta_slow" => "rope_parameters.beta_slow",
        "rope.scaling.attn_factor" => "rope_parameters.attention_factor",
        other => other,
    };
    key.to_owned()
}

/// The checked contents of a `config.json`.
pub(super) struct Parsed {
    pub(super) hyperparameters: Hyperparameters,
    pub(super) tied: bool,
    pub(super) biased: bool,
}

impl Config {
    /// Checks the configuration of a model with so many tensors.
    pub(super) fn parse(self, architecture: Architecture, tensors: usize) -> Result<Parsed, CheckpointError> {
        if let Some(found) = &self.quantization_config {
            let expected = "none: quantized safetensors are not supported; use a quantized GGUF file";
            return Err(invalid("quantization_config", expected, found));
        }
        if let Some(found) = self.hidden_act.as_deref().filter(|&found| found != "silu") {
            return Err(invalid("hidden_act", "`silu`; others are not supported", &found));
        }
        if self.num_key_value_heads.is_none() && self.model_type != "llama" {
            return Err(invalid("num_key_value_heads", "a number", &"none"));
        }
        if self.head_dim.is_none() && architecture == Architecture::Qwen3 {
            return Err(invalid("head_dim", "a number", &"none"));
        }
        let (rope_base, rope_scaling) = self.rope()?;
        let window = self.window(tensors)?;
        let size = |number: u32| number as usize;
        let raw = RawHyperparameters {
            architecture,
            hidden_size: size(self.hidden_size),
            layers: size(self.num_hidden_layers),
            heads: size(self.num_attention_heads),
            kv_heads: self.num_key_value_heads.map(size),
            head_dim: self.head_dim.map(size),
            value_head: None,
            feed_forward: size(self.intermediate_size),
            vocab: size(self.vocab_size),
            context: size(self.max_position_embeddings),
            epsilon: self.rms_norm_eps,
            rotary_dim: None,
            rope_layout: RopeLayout::Halves,
            rope_base,
            rope_scaling,
            window,
            tensors,
        };
        let hyperparameters = raw.check(&key).map_err(CheckpointError::Hyperparameters)?;
        let biased = self.attention_bias && self.model_type != "mistral";
        Ok(Parsed { hyperparameters, tied: self.tie_word_embeddings, biased })
    }

    fn rope(&self) -> Result<(f32, RopeScaling), CheckpointError> {
        let rope = match (&self.rope_parameters, &self.rope_scaling) {
            (Some(new), Some(old)) if new != old => {
                let expected = "the value of `rope_parameters`, or none";
                return Err(invalid("rope_scaling", expected, &"another value"));
            }
            (new, old) => new.as_ref().or(old.as_ref()),
        };
        let partial = rope.and_then(|rope| rope.partial_rotary_factor).or(self.partial_rotary_factor);
        if let Some(found) = partial.filter(|&partial| partial != 1.0) {
            return Err(invalid("partial_rotary_factor", "1; others are not supported", &found));
        }
        let base = rope.and_then(|rope| rope.rope_theta).or(self.rope_theta).unwrap_or(10_000.0);
        let Some(rope) = rope else { return Ok((base, RopeScaling::None)) };

        let kind = rope.rope_type.as_deref().or(rope.r#type.as_deref()).unwrap_or("default");
        let needed = |key: &str, number: Option<f32>| {
            number.ok_or_else(|| invalid(&format!("rope_parameters.{key}"), "a number", &"none"))
        };
        let factor = || needed("factor", rope.factor);
        let original = self
            .original_max_position_embeddings
            .or(rope.original_max_position_embeddings)
            .unwrap_or(self.max_position_embeddings);
        let scaling = match kind {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: factor()? },
            "llama3" => RopeScaling::Llama3 {
                factor: factor()?,
                low_frequency: needed("low_freq_factor", rope.low_freq_factor)?,
                high_frequency: needed("high_freq_factor", rope.high_freq_factor)?,
                original_context: original as usize,
            },
            "yarn" => {
                if rope.truncate == Some(false) {
                    return Err(invalid(
                        "rope_parameters.truncate",
                        "true; false is not supported",
                        &"false",
                    ));
                }
                let factor = factor()?;
                RopeScaling::Yarn {
                    factor,
                    beta_fast: rope.beta_fast.unwrap_or(32.0),
                    beta_slow: rope.beta_slow.unwrap_or(1.0),
                    original_context: original as usize,
                    magnitude: rope.attention_factor.unwrap_or_else(|| RopeScaling::yarn_magnitude(factor)),
                }
            }
            other => {
                let expected = "`default`, `linear`, `llama3` or `yarn`; others are not supported";
                return Err(invalid("rope_parameters.rope_type", expected, &other));
            }
        };
        Ok((base, scaling))
    }

    /// The layers with a window. Their number is limited to the number of tensors: a file may claim any number.
    fn window(&self, tensors: usize) -> Result<Option<SlidingWindow>, CheckpointError> {
        let layers = (self.num_hidden_layers as usize).min(tensors);
        match self.model_type.as_str() {
            "mistral" => {
                if let Some(types) = &self.layer_types {
                    let expected = "none: layers of several kinds are not supported for `mistral`";
                    return Err(invalid("layer_types", expected, &types.join(", ")));
                }
                let window = self
                    .sliding_window
                    .ok_or_else(|| invalid("sliding_window", "a number of positions, or null", &"none"))?;
                Ok(window.map(|positions| SlidingWindow {
                    positions: positions as usize,
                    layers: vec![true; layers],
                }))
            }
            "qwen2" | "qwen3" if self.use_sliding_window => {
                let Some(Some(positions)) = self.sliding_window else {
                    let expected = "a number of positions, since `use_sliding_window` is true";
                    return Err(invalid("sliding_window", expected, &"none"));
                };
                let layers = match (&self.layer_types, self.max_window_layers) {
                    (Some(types), _) => {
                        if types.len() != self.num_hidden_layers as usize {
                            let expected = format!("{} of them, one for each layer", self.num_hidden_layers);
                            return Err(invalid("layer_types", expected, &types.len()));
                        }
                        if let Some(found) =
                            types.iter().find(|kind| ![FULL, SLIDING].contains(&kind.as_str()))
                        {
                            let expected = format!("`{FULL}` or `{SLIDING}` for each layer");
                            return Err(invalid("layer_types", expected, found));
                        }
                        types.iter().map(|kind| kind == SLIDING).collect()
                    }
                    (None, Some(full)) => (0..layers).map(|layer| layer >= full as usize).collect(),
                    (None, None) => {
                        let expected = "a number, since `use_sliding_window` is true";
                        return Err(invalid("max_window_layers", expected, &"none"));
                    }
                };
                Ok(Some(SlidingWindow { positions: positions as usize, layers }))
            }
            _ => Ok(None),
        }
    }
}
