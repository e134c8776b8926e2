use crate::architecture::Architecture;
use crate::gguf::GgufError;
use crate::rope::{RopeLayout, RopeScaling};

/// The checked hyperparameters of a decoder of the Llama family.
///
/// ```
/// use upcycle_checkpoint::Hyperparameters;
/// use upcycle_checkpoint::gguf::{GgmlType, Gguf, write::GgufWriter};
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
/// let model = Hyperparameters::from_gguf(&gguf)?;
/// assert_eq!((model.head_dim, model.kv_heads, model.vocab), (16, 2, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// The model family.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Layers; at most the number of tensors.
    pub layers: usize,
    /// Query heads; a multiple of `kv_heads`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head, for queries, keys and values. Not always `hidden_size / heads`.
    pub head_dim: usize,
    /// Width of the feed-forward network.
    pub feed_forward: usize,
    /// Tokens in the vocabulary, by the metadata or else the embedding.
    pub vocab: usize,
    /// The longest context of the model.
    pub context: usize,
    /// The epsilon of RMS normalization: finite, not negative.
    pub epsilon: f32,
    /// Elements of a head with rotary embeddings: even, at most `head_dim`.
    pub rotary_dim: usize,
    /// Which of them form a pair.
    pub rope_layout: RopeLayout,
    /// The base of the rotary frequencies: finite, positive.
    pub rope_base: f32,
    /// The scaling of the frequencies.
    pub rope_scaling: RopeScaling,
    /// Layers with a sliding window. `None` if the window is at least as long as the context.
    pub window: Option<SlidingWindow>,
}

/// A sliding window of attention.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Positions that a row attends to, itself included: at least 1.
    pub positions: usize,
    /// Which layers have the window, `[layers]`.
    pub layers: Vec<bool>,
}

/// Unchecked hyperparameters from a model's files; `None` for those that the files omit.
///
/// The fields are those of [`Hyperparameters`].
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields of `Hyperparameters`")]
pub struct RawHyperparameters {
    pub architecture: Architecture,
    pub hidden_size: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: Option<usize>,
    pub head_dim: Option<usize>,
    pub value_head: Option<usize>,
    pub feed_forward: usize,
    pub vocab: usize,
    pub context: usize,
    pub epsilon: f32,
    pub rotary_dim: Option<usize>,
    pub rope_layout: RopeLayout,
    pub rope_base: f32,
    pub rope_scaling: RopeScaling,
    pub window: Option<SlidingWindow>,
    /// The number of tensors.
    pub tensors: usize,
}

/// Why a model's hyperparameters are invalid or unsupported.
#[derive(Debug, thiserror::Error)]
pub enum HyperparameterError {
    /// A metadata key or the embedding is missing or has the wrong type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The architecture is unknown.
    #[error("`{key}`: expected one of [{known}], found `{found}`", known = known.join(", "))]
    UnknownArchitecture {
        /// The key that names it.
        key: &'static str,
        /// The architecture in the file.
        found: String,
        /// The known architectures.
        known: &'static [&'static str],
    },
    /// A value is invalid or unsupported.
    #[error("metadata key `{key}`: expected {expected}, found {found}")]
    Metadata {
        /// The key.
        key: String,
        /// The supported values.
        expected: String,
        /// The value in the file.
        found: String,
    },
    /// The shape of a tensor does not match the metadata.
    #[error("tensor `{tensor}`: expected shape {expected:?} (innermost dimension first), found {found:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// The shape by the metadata.
        expected: Vec<u64>,
        /// The shape in the file.
        found: Vec<u64>,
    },
}

impl RawHyperparameters {
    /// Checks that all values are consistent, and fills in omitted ones. `key` maps a GGUF key without the architecture, such as
    /// `attention.head_count`, to its name in the model's files, for messages.
    ///
    /// # Errors
    /// [`HyperparameterError::Metadata`] if a size is 0, does not divide another as it must, or is out of range.
    pub fn check(self, key: &dyn Fn(&str) -> String) -> Result<Hyperparameters, HyperparameterError> {
        let counts = [
            ("embedding_length", Some(self.hidden_size)),
            ("block_count", Some(self.layers)),
            ("attention.head_count", Some(self.heads)),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.value_head),
            ("feed_forward_length", Some(self.feed_forward)),
            ("vocab_size", Some(self.vocab)),
            ("context_length", Some(self.context)),
            ("rope.dimension_count", self.rotary_dim),
            ("attention.sliding_window", self.window.as_ref().map(|window| window.positions)),
        ];
        if let Some((part, _)) = counts.into_iter().find(|(_, count)| *count == Some(0)) {
            return Err(invalid(key(part), "a number of at least 1", 0));
        }
        let Self { hidden_size, layers, heads, context, epsilon, rope_base, rope_scaling, .. } = self;
        let kv_heads = self.kv_heads.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of `{}`, {heads}", key("attention.head_count"));
            return Err(invalid(key("attention.head_count_kv"), expected, kv_heads));
        }
        if self.head_dim.is_none() && !hidden_size.is_multiple_of(heads) {
            let expected = format!("a divisor of `{}`, {hidden_size}", key("embedding_length"));
            return Err(invalid(key("attention.head_count"), expected, heads));
        }
        let head_dim = self.head_dim.unwrap_or(hidden_size / heads);
        if let Some(value) = self.value_head.filter(|&value| value != head_dim) {
            return Err(invalid(
                key("attention.value_length"),
                format!("{head_dim}, as wide as a key"),
                value,
            ));
        }
        let rotary_dim = self.rotary_dim.unwrap_or(head_dim);
        if rotary_dim > head_dim || !rotary_dim.is_multiple_of(2) {
            let expected = format!("an even number of at most {head_dim}, the width of a head");
            return Err(invalid(key("rope.dimension_count"), expected, rotary_dim));
        }
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            let expected = "a finite number of at least 0";
            return Err(invalid(key("attention.layer_norm_rms_epsilon"), expected, epsilon));
        }
        if layers > self.tensors {
            let expected = format!("at most {}, the number of tensors", self.tensors);
            return Err(invalid(key("block_count"), expected, layers));
        }
        if !(rope_base > 0.0 && rope_base.is_finite()) {
            return Err(invalid(key("rope.freq_base"), "a finite number above 0", rope_base));
        }
        check_scaling(rope_base, &rope_scaling, key)?;
        Ok(Hyperparameters {
            architecture: self.architecture,
            hidden_size,
            layers,
            heads,
            kv_heads,
            head_dim,
            feed_forward: self.feed_forward,
            vocab: self.vocab,
            context,
            epsilon,
            rotary_dim,
            rope_layout: self.rope_layout,
            rope_base,
            rope_scaling,
            window: self.window.filter(|window| window.positions < context && window.layers.contains(&true)),
        })
    }
}

fn check_scaling(
    base: f32,
    scaling: &RopeScaling,
    key: &dyn Fn(&str) -> String,
) -> Result<(), HyperparameterError> {
    let fail = |part: &str, expected: &str, found: &dyn ToString| {
        Err(invalid(key(part), expected, found.to_string()))
    };
    let positive = |number: f32| number > 0.0 && number.is_finite();
    match *scaling {
        RopeScaling::None => Ok(()),
        RopeScaling::Linear { factor } if positive(factor) => Ok(()),
        RopeScaling::Linear { factor } => fail("rope.scaling.factor", "a finite number above 0", &factor),
        RopeScaling::Llama3 { factor, .. } | RopeScaling::Yarn { factor, .. }
            if !(factor >= 1.0 && factor.is_finite()) =>
        {
            fail("rope.scaling.factor", "a finite number of at least 1", &factor)
        }
        RopeScaling::Llama3 { original_context: 0, .. } | RopeScaling::Yarn { original_context: 0, .. } => {
            fail("rope.scaling.original_context_length", "a number of at least 1", &0)
        }
        RopeScaling::Llama3 { low_frequency, .. } if !positive(low_frequency) => {
            fail("rope.scaling.low_freq_factor", "a finite number above 0", &low_frequency)
        }
        RopeScaling::Llama3 { low_frequency, high_frequency, .. }
            if !(high_frequency > low_frequency && high_frequency.is_finite()) =>
        {
            let expected = format!("a finite number above `low_freq_factor`, {low_frequency}");
            fail("rope.scaling.high_freq_factor", &expected, &high_frequency)
        }
        RopeScaling::Yarn { .. } if base <= 1.0 => {
            fail("rope.freq_base", "a number above 1, for YaRN", &base)
        }
        RopeScaling::Yarn { beta_fast, .. } if !positive(beta_fast) => {
            fail("rope.scaling.yarn_beta_fast", "a finite number above 0", &beta_fast)
        }
        RopeScaling::Yarn { beta_slow, .. } if !positive(beta_slow) => {
            fail("rope.scaling.yarn_beta_slow", "a finite number above 0", &beta_slow)
        }
        RopeScaling::Yarn { magnitude, .. } if !positive(magnitude) => {
            fail("rope.scaling.attn_factor", "a finite number above 0", &magnitude)
        }
        RopeScaling::Llama3 { .. } | RopeScaling::Yarn { .. } => Ok(()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "takes numbers and strings")]
pub(crate) fn invalid(key: String, expected: impl Into<String>, found: impl ToString) -> HyperparameterError {
    HyperparameterError::Metadata { key, expected: expected.into(), found: found.to_string() }
}

impl Hyperparameters {
    /// The rotary frequency of each pair in radians per position, `[rotary_dim / 2]`, scaling included. `divisors`, `[rotary_dim / 2]`,
    /// come from the optional tensor `rope_freqs.weight`.
    #[must_use]
    pub fn frequencies(&self, divisors: Option<&[f32]>) -> Vec<f64> {
        let (base, pairs) = (f64::from(self.rope_base), self.rotary_dim / 2);
        let mut frequencies: Vec<f64> =
            (0..pairs).map(|pair| base.powf(-(pair as f64) / pairs as f64)).collect();
        for (frequency, &divisor) in frequencies.iter_mut().zip(divisors.unwrap_or_default()) {
            *frequency /= f64::from(divisor);
        }
        self.rope_scaling.apply(self.rope_base, &mut frequencies);
        frequencies
    }

    /// The positions that a row of `layer` attends to, itself included; `None` without a sliding window.
    #[must_use]
    pub fn window(&self, layer: usize) -> Option<usize> {
        let window = self.window.as_ref()?;
        window.layers.get(layer)?.then_some(window.positions)
    }
}
