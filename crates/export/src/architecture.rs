//! What kind of model a file holds, and its sizes.

use std::path::Path;

use upcycle_gguf::{Gguf, GgufError};

use crate::ExportError;

/// The architectures that are exported.
const ARCHITECTURES: &[&str] = &["llama", "qwen2", "qwen3"];

/// The graph holds the angles of every position.
const MAX_CONTEXT: usize = 1 << 22;

/// A model of the llama family.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Architecture {
    pub(crate) name: &'static str,
    /// Width of the residual stream.
    pub(crate) width: usize,
    pub(crate) layers: usize,
    /// Query heads; a multiple of the KV heads.
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    /// Width of a head.
    pub(crate) head: usize,
    pub(crate) feed_forward: usize,
    pub(crate) vocab: usize,
    pub(crate) context: usize,
    /// What the normalizations add to the mean square.
    pub(crate) epsilon: f32,
    /// Radians by which each pair of a head turns with the position, before the file's own divisors.
    frequencies: Vec<f64>,
    /// Whether pairs are neighbours in a head, as in llama's files; else they stand half a head apart.
    pub(crate) interleaved: bool,
}

impl Architecture {
    /// The model of a GGUF file.
    pub(crate) fn gguf(path: &Path, gguf: &Gguf) -> Result<Self, ExportError> {
        let file = Metadata { path, gguf };
        let found = file.need(gguf.string("general.architecture"))?;
        let Some(&name) = ARCHITECTURES.iter().find(|&&known| known == found) else {
            return Err(ExportError::UnknownArchitecture { found: found.to_owned(), known: ARCHITECTURES });
        };
        let key = |part: &str| format!("{name}.{part}");
        let width = file.count(&key("embedding_length"))?;
        let heads = file.count(&key("attention.head_count"))?;
        let kv_heads = file.count_or(&key("attention.head_count_kv"), heads)?;
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of the {heads} query heads");
            return Err(refused(key("attention.head_count_kv"), expected, kv_heads));
        }
        let head = file.count_or(&key("attention.key_length"), width / heads)?;
        let value = file.count_or(&key("attention.value_length"), head)?;
        if head == 0 || value != head {
            return Err(refused(key("attention.value_length"), format!("{head}, as wide as a key"), value));
        }
        let rotated = file.count_or(&key("rope.dimension_count"), head)?;
        if rotated > head || !rotated.is_multiple_of(2) {
            let expected = format!("an even number of at most {head}, the width of a head");
            return Err(refused(key("rope.dimension_count"), expected, rotated));
        }
        let experts = file.need(gguf.get_u32(&key("expert_count")))?.unwrap_or(0);
        if experts > 0 {
            return Err(refused(key("expert_count"), "no experts: mixtures are not exported", experts));
        }
        let embedding = file.need(gguf.tensor("token_embd.weight"))?;
        let &[_, vocab] = embedding.shape.as_slice() else {
            let expected = vec![file.count_or(&key("vocab_size"), 1)?, width];
            return Err(ExportError::Shape {
                tensor: embedding.name.clone(),
                expected,
                found: embedding.shape.iter().rev().copied().collect(),
            });
        };
        let epsilon_key = key("attention.layer_norm_rms_epsilon");
        let epsilon = file.need(gguf.f32(&epsilon_key))?;
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            return Err(refused(epsilon_key, "a finite number, not negative", epsilon));
        }
        let layers = file.count(&key("block_count"))?;
        if layers > gguf.tensors().len() {
            let expected = format!("no more than the {} tensors of the file", gguf.tensors().len());
            return Err(refused(key("block_count"), expected, layers));
        }
        let context = file.count(&key("context_length"))?;
        if context > MAX_CONTEXT {
            return Err(refused(key("context_length"), format!("at most {MAX_CONTEXT}"), context));
        }
        Ok(Self {
            name,
            width,
            layers,
            heads,
            kv_heads,
            head,
            feed_forward: file.count(&key("feed_forward_length"))?,
            vocab: file.count_or(&key("vocab_size"), usize::try_from(vocab).unwrap_or(usize::MAX))?,
            context,
            epsilon,
            frequencies: file.frequencies(name, rotated / 2)?,
            interleaved: name == "llama",
        })
    }

    /// Elements of a head that turn with the position.
    pub(crate) fn rotated(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// Cosines and sines, `[context, pairs]` each; `divisors` has a number for each pair.
    pub(crate) fn angles(&self, divisors: &[f32]) -> [Vec<f32>; 2] {
        let mut tables = [Vec::new(), Vec::new()];
        for position in 0..self.context {
            for (frequency, &divisor) in self.frequencies.iter().zip(divisors) {
                let (sin, cos) = (position as f64 * frequency / f64::from(divisor)).sin_cos();
                tables[0].push(cos as f32);
                tables[1].push(sin as f32);
            }
        }
        tables
    }
}

/// The metadata of a file.
struct Metadata<'a> {
    path: &'a Path,
    gguf: &'a Gguf,
}

impl Metadata<'_> {
    fn need<T>(&self, value: Result<T, GgufError>) -> Result<T, ExportError> {
        value.map_err(|source| ExportError::Gguf { path: self.path.to_owned(), source })
    }

    /// A number that must lie in `1..=u32::MAX`.
    fn count(&self, key: &str) -> Result<usize, ExportError> {
        match self.need(self.gguf.u32(key))? {
            0 => Err(refused(key, "a number of at least 1", 0)),
            count => Ok(count as usize),
        }
    }

    fn count_or(&self, key: &str, default: usize) -> Result<usize, ExportError> {
        if self.gguf.get(key).is_some() { self.count(key) } else { Ok(default) }
    }

    fn frequencies(&self, name: &str, pairs: usize) -> Result<Vec<f64>, ExportError> {
        let key = format!("{name}.rope.freq_base");
        let base = self.need(self.gguf.get_f32(&key))?.unwrap_or(10_000.0);
        if !(base > 0.0 && base.is_finite()) {
            return Err(refused(key, "a finite number above 0", base));
        }
        let factor = f64::from(self.rope_factor(name)?);
        Ok((0..pairs).map(|pair| f64::from(base).powf(-(pair as f64) / pairs as f64) / factor).collect())
    }

    /// By what positions are divided.
    fn rope_factor(&self, name: &str) -> Result<f32, ExportError> {
        let kind_key = format!("{name}.rope.scaling.type");
        let key = format!("{name}.rope.scaling.factor");
        let factor = match self.need(self.gguf.get_string(&kind_key))? {
            Some("none") => None,
            None | Some("linear") => self.need(self.gguf.get_f32(&key))?,
            Some(other) => {
                return Err(refused(kind_key, "`none` or `linear`; others are not exported", other));
            }
        };
        match factor {
            None | Some(0.0) => Ok(1.0),
            Some(factor) if factor > 0.0 && factor.is_finite() => Ok(factor),
            Some(factor) => Err(refused(key, "a finite number above 0", factor)),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "numbers and strings are handed over alike")]
fn refused(key: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> ExportError {
    ExportError::Metadata { key: key.into(), expected: expected.into(), found: found.to_string() }
}
