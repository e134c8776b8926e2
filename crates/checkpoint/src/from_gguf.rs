//! Models in GGUF files.

use std::path::Path;

use crate::architecture::Architecture;
use crate::checkpoint::Checkpoint;
use crate::error::CheckpointError;
use crate::file::CheckpointFile;
use crate::gguf::{Array, Gguf, Value};
use crate::hyperparameters::{
    HyperparameterError, Hyperparameters, RawHyperparameters, SlidingWindow, invalid,
};
use crate::rope::{RopeLayout, RopeScaling};
use crate::tensor_index::TensorIndex;

impl Checkpoint {
    pub(crate) fn open_gguf(path: &Path) -> Result<Self, CheckpointError> {
        let file = CheckpointFile::open(path)?;
        let gguf_error = |source| CheckpointError::Gguf { path: path.to_owned(), source };
        let gguf = Gguf::read(&mut file.reader()).map_err(gguf_error)?;
        let hyperparameters = Hyperparameters::from_gguf(&gguf).map_err(|error| match error {
            HyperparameterError::Gguf(source) => gguf_error(source),
            other => CheckpointError::Hyperparameters(other),
        })?;
        let mut tensors = TensorIndex::new(path, str::to_owned);
        let file = tensors.add_file(file);
        for info in gguf.tensors() {
            tensors.add(info.name.clone(), file, info.clone());
        }
        let tied = !tensors.has("output.weight");
        let biased = hyperparameters.architecture.is_biased() || tensors.has("blk.0.attn_q.bias");
        Ok(Self { hyperparameters, tensors, tied, biased })
    }
}

impl Hyperparameters {
    /// Reads and checks the hyperparameters in a GGUF file.
    ///
    /// # Errors
    /// [`HyperparameterError`], which names the key.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, HyperparameterError> {
        let found = gguf.string("general.architecture")?;
        let architecture =
            Architecture::from_name(found).ok_or_else(|| HyperparameterError::UnknownArchitecture {
                key: "general.architecture",
                found: found.to_owned(),
                known: Architecture::NAMES,
            })?;
        let file = Keys { gguf, architecture };
        let hidden_size = file.count("embedding_length")?;
        let experts = file.optional("expert_count")?.unwrap_or(0);
        if experts > 0 {
            return Err(file.invalid("expert_count", "0: mixtures of experts are not supported", experts));
        }
        let embedding = gguf.tensor("token_embd.weight")?;
        let &[_, vocab] = embedding.shape.as_slice() else {
            return Err(HyperparameterError::Shape {
                tensor: embedding.name.clone(),
                expected: vec![hidden_size as u64, file.optional("vocab_size")?.unwrap_or(1) as u64],
                found: embedding.shape.clone(),
            });
        };
        let context = file.count("context_length")?;
        let layers = file.count("block_count")?;
        let raw = RawHyperparameters {
            architecture,
            hidden_size,
            layers,
            heads: file.count("attention.head_count")?,
            kv_heads: file.optional("attention.head_count_kv")?,
            head_dim: file.optional("attention.key_length")?,
            value_head: file.optional("attention.value_length")?,
            feed_forward: file.count("feed_forward_length")?,
            // If the metadata name a size, the shape check of the embedding enforces it.
            vocab: file.optional("vocab_size")?.unwrap_or(usize::try_from(vocab).unwrap_or(usize::MAX)),
            context,
            epsilon: gguf.f32(&file.key("attention.layer_norm_rms_epsilon"))?,
            rotary_dim: file.optional("rope.dimension_count")?,
            rope_layout: match architecture {
                Architecture::Llama => RopeLayout::Interleaved,
                Architecture::Qwen2 | Architecture::Qwen3 => RopeLayout::Halves,
            },
            rope_base: gguf.get_f32(&file.key("rope.freq_base"))?.unwrap_or(10_000.0),
            rope_scaling: file.rope_scaling(context)?,
            window: file.window(layers)?,
            tensors: gguf.tensors().len(),
        };
        raw.check(&|part| file.key(part))
    }
}

/// The metadata of a file, under the keys of its architecture.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: Architecture,
}

impl Keys<'_> {
    fn key(&self, part: &str) -> String {
        format!("{}.{part}", self.architecture)
    }

    fn count(&self, part: &str) -> Result<usize, HyperparameterError> {
        Ok(self.gguf.u32(&self.key(part))? as usize)
    }

    fn optional(&self, part: &str) -> Result<Option<usize>, HyperparameterError> {
        Ok(self.gguf.get_u32(&self.key(part))?.map(|count| count as usize))
    }

    fn number(&self, part: &str, default: f32) -> Result<f32, HyperparameterError> {
        Ok(self.gguf.get_f32(&self.key(part))?.unwrap_or(default))
    }

    fn rope_scaling(&self, context: usize) -> Result<RopeScaling, HyperparameterError> {
        let has_new = self.gguf.get(&self.key("rope.scaling.factor")).is_some();
        let part = if has_new { "rope.scaling.factor" } else { "rope.scale_linear" };
        // As in llama.cpp, 0 means no scaling.
        let factor = Some(self.number(part, 0.0)?).filter(|&factor| factor != 0.0);
        let attention = self.number("rope.scaling.attn_factor", 1.0)?;
        let kind = self.gguf.get_string(&self.key("rope.scaling.type"))?;
        let scaling = match (kind, factor) {
            (Some("none"), _) | (None | Some("linear"), None) => RopeScaling::None,
            (None | Some("linear"), Some(factor)) => {
                if !(factor > 0.0 && factor.is_finite()) {
                    return Err(self.invalid(part, "a finite number above 0", factor));
                }
                RopeScaling::Linear { factor }
            }
            (Some("yarn"), factor) => {
                let factor = factor.unwrap_or(1.0);
                for (part, neutral) in [("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0)] {
                    let part = format!("rope.scaling.{part}");
                    let found = self.number(&part, neutral)?;
                    if found != neutral {
                        return Err(self.invalid(
                            &part,
                            format!("{neutral}; others are not supported"),
                            found,
                        ));
                    }
                }
                let magnitude = RopeScaling::yarn_magnitude(factor) * attention;
                return Ok(RopeScaling::Yarn {
                    factor,
                    beta_fast: self.number("rope.scaling.yarn_beta_fast", 32.0)?,
                    beta_slow: self.number("rope.scaling.yarn_beta_slow", 1.0)?,
                    original_context: self
                        .optional("rope.scaling.original_context_length")?
                        .unwrap_or(context),
                    magnitude: magnitude * self.number("rope.scaling.yarn_attn_factor", 1.0)?,
                });
            }
            (Some(other), _) => {
                let expected = "`none`, `linear` or `yarn`; others are not supported";
                return Err(self.invalid("rope.scaling.type", expected, other));
            }
        };
        if attention != 1.0 {
            let expected = "1 without `yarn`; others are not supported";
            return Err(self.invalid("rope.scaling.attn_factor", expected, attention));
        }
        Ok(scaling)
    }

    fn window(&self, layers: usize) -> Result<Option<SlidingWindow>, HyperparameterError> {
        let positions = self.optional("attention.sliding_window")?.filter(|&positions| positions > 0);
        let Some(positions) = positions else { return Ok(None) };
        let pattern = "attention.sliding_window_pattern";
        let windowed = match self.gguf.get(&self.key(pattern)) {
            // A file may claim any number of layers; `check` later limits it to the number of tensors.
            None => vec![true; layers.min(self.gguf.tensors().len())],
            Some(Value::Array(Array::Bool(windowed))) if windowed.len() == layers => windowed.clone(),
            Some(other) => {
                let expected = format!("an array of {layers} booleans, one for each layer");
                return Err(self.invalid(pattern, expected, other.value_type()));
            }
        };
        Ok(Some(SlidingWindow { positions, layers: windowed }))
    }

    fn invalid(&self, part: &str, expected: impl Into<String>, found: impl ToString) -> HyperparameterError {
        invalid(self.key(part), expected, found)
    }
}
