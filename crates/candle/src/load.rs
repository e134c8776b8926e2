//! From a GGUF file to a [`Model`]: metadata, tensors, threads.

use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use rayon::ThreadPoolBuilder;
use tracing::{debug, info_span, warn};
use upcycle_gguf::{Gguf, GgufError};
use upcycle_kernels::Kernels;

use crate::kv::KvShape;
use crate::mapped::Mapped;
use crate::model::{Blocks, Body, Dimensions, Layer, Model};
use crate::product::Stack;
use crate::rows::Rope;
use crate::tensors::Tensors;
use crate::{LoadError, Options, Products, own};

/// The architectures that can be loaded.
const ARCHITECTURES: &[&str] = &["llama"];

impl Model {
    /// Loads a GGUF file of the llama architecture.
    ///
    /// The file is mapped into memory and must not be changed while the model lives.
    ///
    /// # Errors
    /// [`LoadError`]: the file cannot be read, is not sound, or holds another model than is known here.
    pub fn load(path: impl AsRef<Path>, options: &Options) -> Result<Arc<Self>, LoadError> {
        Self::load_with_progress(path, options, &mut |_, _| ())
    }

    /// As [`load`](Self::load); calls `progress` with the bytes of tensors read and those there are, first with 0
    /// and then after every tensor.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with_progress(
        path: impl AsRef<Path>,
        options: &Options,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Arc<Self>, LoadError> {
        let path = path.as_ref();
        let _span = info_span!("load", path = %path.display(), weights = ?options.weights).entered();
        let file_error = |source| LoadError::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(file_error)?;
        let map = Mapped::new(&file).map_err(file_error)?;
        let gguf_error = |source| LoadError::Gguf { path: path.to_owned(), source };
        let gguf = Gguf::read(&mut Cursor::new(map.bytes())).map_err(gguf_error)?;
        let metadata = Metadata { path, gguf: &gguf };
        let architecture = metadata.need(gguf.string("general.architecture"))?;
        let Some(&architecture) = ARCHITECTURES.iter().find(|&&known| known == architecture) else {
            return Err(LoadError::UnknownArchitecture {
                found: architecture.to_owned(),
                known: ARCHITECTURES,
            });
        };
        let (dimensions, rope_pairs) = metadata.dimensions()?;
        debug!(?dimensions, "read the metadata");

        let missing = own::unsupported(&gguf, &dimensions, options.weights);
        let products = match (options.kernels, &missing) {
            (Some(Products::Own), Some(reason)) => {
                return Err(LoadError::Kernels { reason: reason.clone() });
            }
            (Some(products), _) => products,
            (None, None) => Products::Own,
            (None, Some(reason)) => {
                warn!(reason, "the model runs on candle's products: its own kernels lack something");
                Products::Candle
            }
        };

        let threads = ThreadPoolBuilder::new()
            .num_threads(options.threads.map_or(0, Into::into))
            .thread_name(|thread| format!("upcycle-candle-{thread}"))
            .build()
            .map_err(|source| LoadError::Threads { source })?;
        let mut tensors = Tensors::new(path, &gguf, map.clone(), options.weights, &threads, progress);

        let Dimensions { width, vocab, .. } = dimensions;
        let divisors = if tensors.has("rope_freqs.weight") {
            tensors.vector("rope_freqs.weight", rope_pairs)?
        } else {
            vec![1.0; rope_pairs]
        };
        let rope = metadata.rope(&divisors)?;
        if products == Products::Own {
            let kernels = Kernels::new(options.threads.map_or(0, Into::into))
                .map_err(|source| LoadError::KernelPath { source })?;
            let packed = own::load(&mut tensors, &dimensions, rope, kernels)?;
            refuse_unread(&tensors, architecture)?;
            return Ok(Arc::new(Self { dimensions, body: Body::Own(Box::new(packed)) }));
        }
        let tied = !tensors.has("output.weight");
        let embedding = if tied {
            tensors.matrix("token_embd.weight", width, vocab)?
        } else {
            tensors.table("token_embd.weight", width, vocab)?
        };
        let layers = (0..dimensions.kv.layers).map(|layer| read_layer(&mut tensors, layer, &dimensions));
        let layers = layers.collect::<Result<_, _>>()?;
        let output_norm = tensors.vector("output_norm.weight", width)?;
        let output = if tied { None } else { Some(tensors.matrix("output.weight", width, vocab)?) };
        refuse_unread(&tensors, architecture)?;
        let blocks = Blocks {
            rope,
            embedding: Stack::new(vec![embedding]),
            layers,
            output_norm,
            output: output.map(|output| Stack::new(vec![output])),
            threads,
        };
        Ok(Arc::new(Self { dimensions, body: Body::Candle(blocks) }))
    }
}

/// A tensor that nothing reads would be an effect left out.
fn refuse_unread(tensors: &Tensors<'_>, architecture: &'static str) -> Result<(), LoadError> {
    match tensors.unread() {
        Some(tensor) => Err(LoadError::UnknownTensor { tensor: tensor.to_owned(), architecture }),
        None => Ok(()),
    }
}

fn read_layer(tensors: &mut Tensors<'_>, layer: usize, dimensions: &Dimensions) -> Result<Layer, LoadError> {
    let &Dimensions { width, heads, kv, feed_forward, .. } = dimensions;
    let name = |part: &str| format!("blk.{layer}.{part}.weight");
    let (queries, keys) = (heads * kv.width, kv.heads * kv.width);
    Ok(Layer {
        attention_norm: tensors.vector(&name("attn_norm"), width)?,
        query_key_value: Stack::new(vec![
            tensors.matrix(&name("attn_q"), width, queries)?,
            tensors.matrix(&name("attn_k"), width, keys)?,
            tensors.matrix(&name("attn_v"), width, keys)?,
        ]),
        attention_output: Stack::new(vec![tensors.matrix(&name("attn_output"), queries, width)?]),
        feed_forward_norm: tensors.vector(&name("ffn_norm"), width)?,
        gate_up: Stack::new(vec![
            tensors.matrix(&name("ffn_gate"), width, feed_forward)?,
            tensors.matrix(&name("ffn_up"), width, feed_forward)?,
        ]),
        down: Stack::new(vec![tensors.matrix(&name("ffn_down"), feed_forward, width)?]),
    })
}

/// The metadata of a llama model.
struct Metadata<'a> {
    path: &'a Path,
    gguf: &'a Gguf,
}

impl Metadata<'_> {
    fn need<T>(&self, value: Result<T, GgufError>) -> Result<T, LoadError> {
        value.map_err(|source| LoadError::Gguf { path: self.path.to_owned(), source })
    }

    /// A number that must lie in `1..=u32::MAX`.
    fn count(&self, key: &str) -> Result<usize, LoadError> {
        let count = self.need(self.gguf.u32(key))?;
        if count == 0 {
            return Err(refused(key, "a number of at least 1", count));
        }
        Ok(count as usize)
    }

    fn count_or(&self, key: &str, default: usize) -> Result<usize, LoadError> {
        if self.gguf.get(key).is_some() { self.count(key) } else { Ok(default) }
    }

    /// The sizes, and how many pairs of a head turn with the position.
    fn dimensions(&self) -> Result<(Dimensions, usize), LoadError> {
        let width = self.count("llama.embedding_length")?;
        let heads = self.count("llama.attention.head_count")?;
        let kv_heads = self.count_or("llama.attention.head_count_kv", heads)?;
        if !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of `llama.attention.head_count`, {heads}");
            return Err(refused("llama.attention.head_count_kv", expected, kv_heads));
        }
        let key_length = "llama.attention.key_length";
        if self.gguf.get(key_length).is_none() && !width.is_multiple_of(heads) {
            let expected = format!("a divisor of `llama.embedding_length`, {width}");
            return Err(refused("llama.attention.head_count", expected, heads));
        }
        let head_width = self.count_or(key_length, width / heads)?;
        let value_width = self.count_or("llama.attention.value_length", head_width)?;
        if value_width != head_width {
            let expected = format!("{head_width}, as wide as a key");
            return Err(refused("llama.attention.value_length", expected, value_width));
        }
        let rotated = self.count_or("llama.rope.dimension_count", head_width)?;
        if rotated > head_width || !rotated.is_multiple_of(2) {
            let expected = format!("an even number of at most {head_width}, the width of a head");
            return Err(refused("llama.rope.dimension_count", expected, rotated));
        }
        let experts = self.need(self.gguf.get_u32("llama.expert_count"))?.unwrap_or(0);
        if experts > 0 {
            return Err(refused("llama.expert_count", "no experts: mixtures are not implemented", experts));
        }
        let embedding = self.need(self.gguf.tensor("token_embd.weight"))?;
        let &[_, vocab] = embedding.shape.as_slice() else {
            return Err(LoadError::Shape {
                tensor: embedding.name.clone(),
                expected: vec![width as u64, self.count_or("llama.vocab_size", 1)? as u64],
                found: embedding.shape.clone(),
            });
        };
        let epsilon_key = "llama.attention.layer_norm_rms_epsilon";
        let epsilon = self.need(self.gguf.f32(epsilon_key))?;
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            return Err(refused(epsilon_key, "a finite number, not negative", epsilon));
        }
        let dimensions = Dimensions {
            width,
            heads,
            kv: KvShape { layers: self.count("llama.block_count")?, heads: kv_heads, width: head_width },
            feed_forward: self.count("llama.feed_forward_length")?,
            // Where the metadata name a size, the embedding must have it.
            vocab: self.count_or("llama.vocab_size", usize::try_from(vocab).unwrap_or(usize::MAX))?,
            context: self.count("llama.context_length")?,
            epsilon,
        };
        Ok((dimensions, rotated / 2))
    }

    /// The angles per position; `divisors` has a number for each pair.
    fn rope(&self, divisors: &[f32]) -> Result<Rope, LoadError> {
        let base_key = "llama.rope.freq_base";
        let base = self.need(self.gguf.get_f32(base_key))?.unwrap_or(10_000.0);
        if !(base > 0.0 && base.is_finite()) {
            return Err(refused(base_key, "a finite number above 0", base));
        }
        let factor = self.rope_factor()?;
        let pairs = divisors.len() as f64;
        let frequencies = divisors.iter().enumerate().map(|(pair, &divisor)| {
            f64::from(base).powf(-(pair as f64) / pairs) / f64::from(divisor) / f64::from(factor)
        });
        let rope = Rope { frequencies: frequencies.collect() };
        if rope.frequencies.iter().any(|frequency| !frequency.is_finite()) {
            return Err(LoadError::NotFinite { tensor: "rope_freqs.weight".to_owned() });
        }
        Ok(rope)
    }

    /// By what positions are divided.
    fn rope_factor(&self) -> Result<f32, LoadError> {
        let kind_key = "llama.rope.scaling.type";
        let kind = self.need(self.gguf.get_string(kind_key))?;
        let (key, legacy) = ("llama.rope.scaling.factor", "llama.rope.scale_linear");
        let key = if self.gguf.get(key).is_some() { key } else { legacy };
        let factor = match kind {
            Some("none") => None,
            None | Some("linear") => self.need(self.gguf.get_f32(key))?,
            Some(other) => {
                return Err(refused(kind_key, "`none` or `linear`; others are not implemented", other));
            }
        };
        match factor {
            // As llama.cpp has it, 0 says that there is none.
            None | Some(0.0) => Ok(1.0),
            Some(factor) if factor > 0.0 && factor.is_finite() => Ok(factor),
            Some(factor) => Err(refused(key, "a finite number above 0", factor)),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "numbers and strings are handed over alike")]
fn refused(key: &str, expected: impl Into<String>, found: impl ToString) -> LoadError {
    LoadError::Metadata { key: key.to_owned(), expected: expected.into(), found: found.to_string() }
}
