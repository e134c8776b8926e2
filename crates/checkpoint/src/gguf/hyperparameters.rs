//! The sizes of a model of the llama family, checked against each other.

use crate::gguf::{Architecture, GgufError, RopeLayout, RopeScaling};

/// The sizes and numbers of a decoder of the llama family, checked against each other.
///
/// ```
/// use upcycle_checkpoint::gguf::{GgmlType, Gguf, Hyperparameters, write::GgufWriter};
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
/// let model = Hyperparameters::read(&gguf)?;
/// assert_eq!((model.head, model.kv_heads, model.vocab), (16, 2, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// The family.
    pub architecture: Architecture,
    /// Width of the residual stream.
    pub width: usize,
    /// Layers; no more than the model has tensors.
    pub layers: usize,
    /// Query heads; a multiple of the KV heads.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Width of a head, keys and values alike. Not always `width / heads`.
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
    /// Which of them turn together.
    pub rope_layout: RopeLayout,
    /// The base of the turning frequencies: finite, above 0.
    pub rope_base: f32,
    /// What is done to the frequencies.
    pub rope_scaling: RopeScaling,
    /// Layers that do not look back all the way; none where that is further than the context.
    pub window: Option<Window>,
}

/// Sliding windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Positions that a row sees, itself included: at least 1.
    pub positions: usize,
    /// Which layers have the window, `[layers]`.
    pub layers: Vec<bool>,
}

/// What a model's files say of its sizes, to be checked: what they leave out is `None`.
///
/// Fields are those of [`Hyperparameters`].
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields of `Hyperparameters`")]
pub struct Stated {
    pub architecture: Architecture,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: Option<usize>,
    pub head: Option<usize>,
    pub value_head: Option<usize>,
    pub feed_forward: usize,
    pub vocab: usize,
    pub context: usize,
    pub epsilon: f32,
    pub rotated: Option<usize>,
    pub rope_layout: RopeLayout,
    pub rope_base: f32,
    pub rope_scaling: RopeScaling,
    pub window: Option<Window>,
    /// Tensors of the model.
    pub tensors: usize,
}

/// Why the metadata are of no model that can be run.
#[derive(Debug, thiserror::Error)]
pub enum HyperparameterError {
    /// A key or the embedding is missing, or has another type.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// An architecture that is not known.
    #[error("`{key}`: expected one of [{known}], found `{found}`", known = known.join(", "))]
    UnknownArchitecture {
        /// The key that names it.
        key: &'static str,
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

impl Stated {
    /// Checks all of it, and fills in what follows from the rest. `key` gives the name in the model's files of a key that
    /// is called so in a GGUF file, after the architecture: `attention.head_count`, say.
    ///
    /// # Errors
    /// [`HyperparameterError::Metadata`], which names the key: what is returned is consistent, so that widths divide and
    /// nothing is 0.
    pub fn check(self, key: &dyn Fn(&str) -> String) -> Result<Hyperparameters, HyperparameterError> {
        let counts = [
            ("embedding_length", Some(self.width)),
            ("block_count", Some(self.layers)),
            ("attention.head_count", Some(self.heads)),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", self.head),
            ("attention.value_length", self.value_head),
            ("feed_forward_length", Some(self.feed_forward)),
            ("vocab_size", Some(self.vocab)),
            ("context_length", Some(self.context)),
            ("rope.dimension_count", self.rotated),
            ("attention.sliding_window", self.window.as_ref().map(|window| window.positions)),
        ];
        if let Some((part, _)) = counts.into_iter().find(|(_, count)| *count == Some(0)) {
            return Err(refused(key(part), "a number of at least 1", 0));
        }
        let Self { width, layers, heads, context, epsilon, rope_base, rope_scaling, .. } = self;
        let kv_heads = self.kv_heads.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of `{}`, {heads}", key("attention.head_count"));
            return Err(refused(key("attention.head_count_kv"), expected, kv_heads));
        }
        if self.head.is_none() && !width.is_multiple_of(heads) {
            let expected = format!("a divisor of `{}`, {width}", key("embedding_length"));
            return Err(refused(key("attention.head_count"), expected, heads));
        }
        let head = self.head.unwrap_or(width / heads);
        if let Some(value) = self.value_head.filter(|&value| value != head) {
            return Err(refused(key("attention.value_length"), format!("{head}, as wide as a key"), value));
        }
        let rotated = self.rotated.unwrap_or(head);
        if rotated > head || !rotated.is_multiple_of(2) {
            let expected = format!("an even number of at most {head}, the width of a head");
            return Err(refused(key("rope.dimension_count"), expected, rotated));
        }
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            let expected = "a finite number, not negative";
            return Err(refused(key("attention.layer_norm_rms_epsilon"), expected, epsilon));
        }
        if layers > self.tensors {
            let expected = format!("no more than the {} tensors of the model", self.tensors);
            return Err(refused(key("block_count"), expected, layers));
        }
        if !(rope_base > 0.0 && rope_base.is_finite()) {
            return Err(refused(key("rope.freq_base"), "a finite number above 0", rope_base));
        }
        check_scaling(rope_base, &rope_scaling, key)?;
        Ok(Hyperparameters {
            architecture: self.architecture,
            width,
            layers,
            heads,
            kv_heads,
            head,
            feed_forward: self.feed_forward,
            vocab: self.vocab,
            context,
            epsilon,
            rotated,
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
    let refuse = |part: &str, expected: &str, found: &dyn ToString| {
        Err(refused(key(part), expected, found.to_string()))
    };
    let positive = |number: f32| number > 0.0 && number.is_finite();
    match *scaling {
        RopeScaling::None => Ok(()),
        RopeScaling::Linear { factor } if positive(factor) => Ok(()),
        RopeScaling::Linear { factor } => refuse("rope.scaling.factor", "a finite number above 0", &factor),
        RopeScaling::Llama3 { factor, .. } | RopeScaling::Yarn { factor, .. }
            if !(factor >= 1.0 && factor.is_finite()) =>
        {
            refuse("rope.scaling.factor", "a finite number of at least 1", &factor)
        }
        RopeScaling::Llama3 { original_context: 0, .. } | RopeScaling::Yarn { original_context: 0, .. } => {
            refuse("rope.scaling.original_context_length", "a number of at least 1", &0)
        }
        RopeScaling::Llama3 { low_frequency, .. } if !positive(low_frequency) => {
            refuse("rope.scaling.low_freq_factor", "a finite number above 0", &low_frequency)
        }
        RopeScaling::Llama3 { low_frequency, high_frequency, .. }
            if !(high_frequency > low_frequency && high_frequency.is_finite()) =>
        {
            let expected = format!("a finite number above the low one, {low_frequency}");
            refuse("rope.scaling.high_freq_factor", &expected, &high_frequency)
        }
        RopeScaling::Yarn { .. } if base <= 1.0 => {
            refuse("rope.freq_base", "a number above 1, for YaRN", &base)
        }
        RopeScaling::Yarn { fast, .. } if !positive(fast) => {
            refuse("rope.scaling.yarn_beta_fast", "a finite number above 0", &fast)
        }
        RopeScaling::Yarn { slow, .. } if !positive(slow) => {
            refuse("rope.scaling.yarn_beta_slow", "a finite number above 0", &slow)
        }
        RopeScaling::Yarn { magnitude, .. } if !positive(magnitude) => {
            refuse("rope.scaling.attn_factor", "a finite number above 0", &magnitude)
        }
        RopeScaling::Llama3 { .. } | RopeScaling::Yarn { .. } => Ok(()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "numbers and strings are handed over alike")]
pub(crate) fn refused(key: String, expected: impl Into<String>, found: impl ToString) -> HyperparameterError {
    HyperparameterError::Metadata { key, expected: expected.into(), found: found.to_string() }
}

impl Hyperparameters {
    /// Radians by which each pair of a head turns with the position, `[rotated / 2]`, scaling included. `divisors`,
    /// `[rotated / 2]`, are those of the tensor `rope_freqs.weight`, where a file has it.
    #[must_use]
    pub fn frequencies(&self, divisors: Option<&[f32]>) -> Vec<f64> {
        let (base, pairs) = (f64::from(self.rope_base), self.rotated / 2);
        let mut frequencies: Vec<f64> =
            (0..pairs).map(|pair| base.powf(-(pair as f64) / pairs as f64)).collect();
        for (frequency, &divisor) in frequencies.iter_mut().zip(divisors.unwrap_or_default()) {
            *frequency /= f64::from(divisor);
        }
        self.rope_scaling.apply(self.rope_base, &mut frequencies);
        frequencies
    }

    /// Positions that a row of `layer` sees, itself included; none where it sees all.
    #[must_use]
    pub fn window(&self, layer: usize) -> Option<usize> {
        let window = self.window.as_ref()?;
        window.layers.get(layer)?.then_some(window.positions)
    }
}
