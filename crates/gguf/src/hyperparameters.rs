//! The sizes of a model of the llama family, as its metadata give them.

use crate::{Gguf, GgufError};

/// The sizes and numbers of a decoder of the llama family, checked against each other.
///
/// ```
/// use upcycle_gguf::{GgmlType, Gguf, Hyperparameters, write::GgufWriter};
///
/// let file = GgufWriter::new()
///     .metadata("general.architecture", "llama")
///     .metadata("llama.embedding_length", 64_u32)
///     .metadata("llama.block_count", 1_u32)
///     .metadata("llama.attention.head_count", 4_u32)
///     .metadata("llama.attention.head_count_kv", 2_u32)
///     .metadata("llama.attention.layer_norm_rms_epsilon", 1e-5_f32)
///     .metadata("llama.feed_forward_length", 128_u32)
///     .metadata("llama.context_length", 2048_u32)
///     .tensor("token_embd.weight", GgmlType::F32, &[64, 2], [0; 512])
///     .to_bytes()?;
/// let gguf = Gguf::read(&mut std::io::Cursor::new(&file))?;
///
/// let model = Hyperparameters::read(&gguf, &["llama", "qwen2"])?;
/// assert_eq!((model.head, model.kv_heads, model.vocab), (16, 2, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// `general.architecture`, one of those that were asked for.
    pub architecture: &'static str,
    /// Width of the residual stream.
    pub width: usize,
    /// Layers; no more than the file has tensors.
    pub layers: usize,
    /// Query heads; a multiple of the KV heads.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Width of a head, keys and values alike.
    pub head: usize,
    /// Width of a feed-forward network.
    pub feed_forward: usize,
    /// Tokens in the vocabulary, as the metadata or else the embedding have it.
    pub vocab: usize,
    /// The longest context that the model was made for.
    pub context: usize,
    /// What the normalizations add to the mean square: finite, not negative.
    pub epsilon: f32,
    /// Elements of a head that turn with the position: even, no more than the head has.
    pub rotated: usize,
    /// The base of the turning frequencies: finite, above 0.
    pub rope_base: f32,
    /// By what positions are divided: finite, above 0.
    pub rope_factor: f32,
}

/// Why the metadata are of no model that can be run.
#[derive(Debug, thiserror::Error)]
pub enum HyperparameterError {
    /// A key or the embedding is missing, or has another type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// An architecture that is not known.
    #[error("`general.architecture`: expected one of [{known}], found `{found}`", known = known.join(", "))]
    UnknownArchitecture {
        /// The architecture of the file.
        found: String,
        /// Those that are known.
        known: &'static [&'static str],
    },
    /// A value that cannot be, or that asks for something that is not supported.
    #[error("metadata key `{key}`: expected {expected}, found {found}")]
    Metadata {
        /// The key.
        key: String,
        /// What would be right.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// A tensor of another shape than the metadata say.
    #[error("tensor `{tensor}`: expected shape {expected:?} (innermost dimension first), found {found:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// The shape that follows from the metadata.
        expected: Vec<u64>,
        /// The shape in the file.
        found: Vec<u64>,
    },
}

impl Hyperparameters {
    /// Reads those of a file whose architecture is one of `known`.
    ///
    /// # Errors
    /// [`HyperparameterError`], which names the key: what is read is consistent, so that widths divide and nothing is 0.
    pub fn read(gguf: &Gguf, known: &'static [&'static str]) -> Result<Self, HyperparameterError> {
        let found = gguf.string("general.architecture")?;
        let Some(&architecture) = known.iter().find(|&&known| known == found) else {
            return Err(HyperparameterError::UnknownArchitecture { found: found.to_owned(), known });
        };
        let file = Keys { gguf, architecture };
        let width = file.count("embedding_length")?;
        let heads = file.count("attention.head_count")?;
        let kv_heads = file.count_or("attention.head_count_kv", heads)?;
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of `{}`, {heads}", file.key("attention.head_count"));
            return Err(file.refused("attention.head_count_kv", expected, kv_heads));
        }
        if !file.has("attention.key_length") && !width.is_multiple_of(heads) {
            let expected = format!("a divisor of `{}`, {width}", file.key("embedding_length"));
            return Err(file.refused("attention.head_count", expected, heads));
        }
        let head = file.count_or("attention.key_length", width / heads)?;
        let value = file.count_or("attention.value_length", head)?;
        if value != head {
            let expected = format!("{head}, as wide as a key");
            return Err(file.refused("attention.value_length", expected, value));
        }
        let rotated = file.count_or("rope.dimension_count", head)?;
        if rotated > head || !rotated.is_multiple_of(2) {
            let expected = format!("an even number of at most {head}, the width of a head");
            return Err(file.refused("rope.dimension_count", expected, rotated));
        }
        let experts = gguf.get_u32(&file.key("expert_count"))?.unwrap_or(0);
        if experts > 0 {
            return Err(file.refused("expert_count", "no experts: mixtures are not supported", experts));
        }
        let embedding = gguf.tensor("token_embd.weight")?;
        let &[_, vocab] = embedding.shape.as_slice() else {
            return Err(HyperparameterError::Shape {
                tensor: embedding.name.clone(),
                expected: vec![width as u64, file.count_or("vocab_size", 1)? as u64],
                found: embedding.shape.clone(),
            });
        };
        let epsilon = gguf.f32(&file.key("attention.layer_norm_rms_epsilon"))?;
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            let expected = "a finite number, not negative";
            return Err(file.refused("attention.layer_norm_rms_epsilon", expected, epsilon));
        }
        let layers = file.count("block_count")?;
        if layers > gguf.tensors().len() {
            let expected = format!("no more than the {} tensors of the file", gguf.tensors().len());
            return Err(file.refused("block_count", expected, layers));
        }
        Ok(Self {
            architecture,
            width,
            layers,
            heads,
            kv_heads,
            head,
            feed_forward: file.count("feed_forward_length")?,
            // Where the metadata name a size, the embedding must have it.
            vocab: file.count_or("vocab_size", usize::try_from(vocab).unwrap_or(usize::MAX))?,
            context: file.count("context_length")?,
            epsilon,
            rotated,
            rope_base: file.rope_base()?,
            rope_factor: file.rope_factor()?,
        })
    }

    /// Radians by which each pair of a head turns with the position, `[rotated / 2]`, before what divides positions.
    pub fn frequencies(&self) -> impl Iterator<Item = f64> {
        let (base, pairs) = (f64::from(self.rope_base), self.rotated / 2);
        (0..pairs).map(move |pair| base.powf(-(pair as f64) / pairs as f64))
    }
}

/// The keys of an architecture.
struct Keys<'a> {
    gguf: &'a Gguf,
    architecture: &'static str,
}

impl Keys<'_> {
    fn key(&self, part: &str) -> String {
        format!("{}.{part}", self.architecture)
    }

    fn has(&self, part: &str) -> bool {
        self.gguf.get(&self.key(part)).is_some()
    }

    /// A number that must lie in `1..=u32::MAX`.
    fn count(&self, part: &str) -> Result<usize, HyperparameterError> {
        match self.gguf.u32(&self.key(part))? {
            0 => Err(self.refused(part, "a number of at least 1", 0)),
            count => Ok(count as usize),
        }
    }

    fn count_or(&self, part: &str, default: usize) -> Result<usize, HyperparameterError> {
        if self.has(part) { self.count(part) } else { Ok(default) }
    }

    fn rope_base(&self) -> Result<f32, HyperparameterError> {
        let base = self.gguf.get_f32(&self.key("rope.freq_base"))?.unwrap_or(10_000.0);
        if base > 0.0 && base.is_finite() {
            return Ok(base);
        }
        Err(self.refused("rope.freq_base", "a finite number above 0", base))
    }

    fn rope_factor(&self) -> Result<f32, HyperparameterError> {
        let part = if self.has("rope.scaling.factor") { "rope.scaling.factor" } else { "rope.scale_linear" };
        let factor = match self.gguf.get_string(&self.key("rope.scaling.type"))? {
            Some("none") => None,
            None | Some("linear") => self.gguf.get_f32(&self.key(part))?,
            Some(other) => {
                return Err(self.refused(
                    "rope.scaling.type",
                    "`none` or `linear`; others are not supported",
                    other,
                ));
            }
        };
        match factor {
            // As llama.cpp has it, 0 says that there is none.
            None | Some(0.0) => Ok(1.0),
            Some(factor) if factor > 0.0 && factor.is_finite() => Ok(factor),
            Some(factor) => Err(self.refused(part, "a finite number above 0", factor)),
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "numbers and strings are handed over alike")]
    fn refused(&self, part: &str, expected: impl Into<String>, found: impl ToString) -> HyperparameterError {
        let (key, expected, found) = (self.key(part), expected.into(), found.to_string());
        HyperparameterError::Metadata { key, expected, found }
    }
}
