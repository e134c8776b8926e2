//! What a `config.json` says of a model.

use crate::gguf::{
    Architecture, HyperparameterError, Hyperparameters, RopeLayout, RopeScaling, Stated, Window,
};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{MODEL_TYPES, Said};
use crate::CheckpointError;

/// Layers that look back all the way, in `layer_types`.
const FULL: &str = "full_attention";
/// Those with a window.
const SLIDING: &str = "sliding_attention";

/// The keys that a model of the known types depends on. Files have many more, of training and generation.
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
    /// The old name and the new one.
    rope_scaling: Option<Rope>,
    rope_parameters: Option<Rope>,
    #[serde(default)]
    use_sliding_window: bool,
    /// Missing is another thing than `null`.
    #[serde(default, deserialize_with = "present")]
    sliding_window: Option<Option<u32>>,
    max_window_layers: Option<u32>,
    layer_types: Option<Vec<String>>,
    quantization_config: Option<Value>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u32>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// How positions turn heads. A key that is not known here would be an effect left out.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rope {
    rope_type: Option<String>,
    /// The old name.
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
    /// Says that the model was trained with it: no effect.
    #[serde(rename = "finetuned")]
    _finetuned: Option<bool>,
}

/// The architecture that `model_type` names.
pub(super) fn architecture(config: &Value) -> Result<Architecture, CheckpointError> {
    const NAMES: &[&str] = &[MODEL_TYPES[0].0, MODEL_TYPES[1].0, MODEL_TYPES[2].0, MODEL_TYPES[3].0];
    let found = config["model_type"].as_str().unwrap_or("nothing");
    let known = MODEL_TYPES.iter().find(|(name, _)| *name == found);
    let unknown = || HyperparameterError::UnknownArchitecture {
        key: "model_type",
        found: found.to_owned(),
        known: NAMES,
    };
    known.map(|&(_, architecture)| architecture).ok_or_else(|| CheckpointError::Model(unknown()))
}

fn refused(key: &str, expected: impl Into<String>, found: &dyn ToString) -> CheckpointError {
    let (key, expected, found) = (key.to_owned(), expected.into(), found.to_string());
    CheckpointError::Model(HyperparameterError::Metadata { key, expected, found })
}

/// The key of a configuration that says what this one of a GGUF file says.
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

impl Config {
    /// The sizes of a model of this architecture with so many tensors.
    pub(super) fn read(
        self,
        architecture: Architecture,
        tensors: usize,
    ) -> Result<(Hyperparameters, Said), CheckpointError> {
        if let Some(found) = &self.quantization_config {
            let expected = "none: quantized safetensors are not supported; a GGUF file can be quantized";
            return Err(refused("quantization_config", expected, found));
        }
        if let Some(found) = self.hidden_act.as_deref().filter(|&found| found != "silu") {
            return Err(refused("hidden_act", "`silu`; others are not supported", &found));
        }
        if self.num_key_value_heads.is_none() && self.model_type != "llama" {
            return Err(refused("num_key_value_heads", "a number", &"none"));
        }
        if self.head_dim.is_none() && architecture == Architecture::Qwen3 {
            return Err(refused("head_dim", "a number", &"none"));
        }
        let (rope_base, rope_scaling) = self.rope()?;
        let window = self.window(tensors)?;
        let size = |number: u32| number as usize;
        let stated = Stated {
            architecture,
            width: size(self.hidden_size),
            layers: size(self.num_hidden_layers),
            heads: size(self.num_attention_heads),
            kv_heads: self.num_key_value_heads.map(size),
            head: self.head_dim.map(size),
            value_head: None,
            feed_forward: size(self.intermediate_size),
            vocab: size(self.vocab_size),
            context: size(self.max_position_embeddings),
            epsilon: self.rms_norm_eps,
            rotated: None,
            rope_layout: RopeLayout::Halves,
            rope_base,
            rope_scaling,
            window,
            tensors,
        };
        let model = stated.check(&key).map_err(CheckpointError::Model)?;
        let biased = self.attention_bias && self.model_type != "mistral";
        Ok((model, Said { tied: self.tie_word_embeddings, biased }))
    }

    fn rope(&self) -> Result<(f32, RopeScaling), CheckpointError> {
        let rope = match (&self.rope_parameters, &self.rope_scaling) {
            (Some(new), Some(old)) if new != old => {
                let expected = "what `rope_parameters` says, or nothing";
                return Err(refused("rope_scaling", expected, &"something else"));
            }
            (new, old) => new.as_ref().or(old.as_ref()),
        };
        let partial = rope.and_then(|rope| rope.partial_rotary_factor).or(self.partial_rotary_factor);
        if let Some(found) = partial.filter(|&partial| partial != 1.0) {
            return Err(refused("partial_rotary_factor", "1; others are not supported", &found));
        }
        let base = rope.and_then(|rope| rope.rope_theta).or(self.rope_theta).unwrap_or(10_000.0);
        let Some(rope) = rope else { return Ok((base, RopeScaling::None)) };

        let kind = rope.rope_type.as_deref().or(rope.r#type.as_deref()).unwrap_or("default");
        let needed = |key: &str, number: Option<f32>| {
            number.ok_or_else(|| refused(&format!("rope_parameters.{key}"), "a number", &"none"))
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
                    return Err(refused("rope_parameters.truncate", "true; else is not supported", &"false"));
                }
                let factor = factor()?;
                RopeScaling::Yarn {
                    factor,
                    fast: rope.beta_fast.unwrap_or(32.0),
                    slow: rope.beta_slow.unwrap_or(1.0),
                    original_context: original as usize,
                    magnitude: rope.attention_factor.unwrap_or_else(|| RopeScaling::yarn_magnitude(factor)),
                }
            }
            other => {
                let expected = "`default`, `linear`, `llama3` or `yarn`; others are not supported";
                return Err(refused("rope_parameters.rope_type", expected, &other));
            }
        };
        Ok((base, scaling))
    }

    /// The layers with a window; a file may claim any number, so no more than there are tensors.
    fn window(&self, tensors: usize) -> Result<Option<Window>, CheckpointError> {
        let layers = (self.num_hidden_layers as usize).min(tensors);
        match self.model_type.as_str() {
            "mistral" => {
                if let Some(types) = &self.layer_types {
                    let expected = "none: layers of several kinds are not supported for `mistral`";
                    return Err(refused("layer_types", expected, &types.join(", ")));
                }
                let window = self
                    .sliding_window
                    .ok_or_else(|| refused("sliding_window", "a number of positions, or null", &"nothing"))?;
                Ok(window
                    .map(|positions| Window { positions: positions as usize, layers: vec![true; layers] }))
            }
            "qwen2" | "qwen3" if self.use_sliding_window => {
                let Some(Some(positions)) = self.sliding_window else {
                    let expected = "a number of positions, since `use_sliding_window` is true";
                    return Err(refused("sliding_window", expected, &"none"));
                };
                let layers = match (&self.layer_types, self.max_window_layers) {
                    (Some(types), _) => {
                        if types.len() != self.num_hidden_layers as usize {
                            let expected = format!("{} of them, one for each layer", self.num_hidden_layers);
                            return Err(refused("layer_types", expected, &types.len()));
                        }
                        if let Some(found) =
                            types.iter().find(|kind| ![FULL, SLIDING].contains(&kind.as_str()))
                        {
                            let expected = format!("`{FULL}` or `{SLIDING}` for each layer");
                            return Err(refused("layer_types", expected, found));
                        }
                        types.iter().map(|kind| kind == SLIDING).collect()
                    }
                    (None, Some(full)) => (0..layers).map(|layer| layer >= full as usize).collect(),
                    (None, None) => {
                        let expected = "a number, since `use_sliding_window` is true";
                        return Err(refused("max_window_layers", expected, &"none"));
                    }
                };
                Ok(Some(Window { positions: positions as usize, layers }))
            }
            _ => Ok(None),
        }
    }
}
