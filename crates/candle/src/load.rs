//! From a GGUF file to a [`Model`]: metadata, tensors, threads.

use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use rayon::ThreadPoolBuilder;
use tracing::{debug, info_span, warn};
use upcycle_gguf::{Gguf, Hyperparameters};
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
        let model = Hyperparameters::read(&gguf, ARCHITECTURES)
            .map_err(|source| LoadError::of_metadata(path, source))?;
        let (architecture, dimensions) = (model.architecture, Dimensions::of(&model));
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
        let pairs = model.rotated / 2;
        let divisors = if tensors.has("rope_freqs.weight") {
            tensors.vector("rope_freqs.weight", pairs)?
        } else {
            vec![1.0; pairs]
        };
        let rope = angles(&model, &divisors)?;
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

impl Dimensions {
    fn of(model: &Hyperparameters) -> Self {
        let &Hyperparameters {
            width,
            layers,
            heads,
            kv_heads,
            head,
            feed_forward,
            vocab,
            context,
            epsilon,
            ..
        } = model;
        let kv = KvShape { layers, heads: kv_heads, width: head };
        Self { width, heads, kv, feed_forward, vocab, context, epsilon }
    }
}

/// The angles per position; `divisors` has a number for each pair.
fn angles(model: &Hyperparameters, divisors: &[f32]) -> Result<Rope, LoadError> {
    let turned =
        |(frequency, &divisor): (f64, &f32)| frequency / f64::from(divisor) / f64::from(model.rope_factor);
    let frequencies: Vec<f64> = model.frequencies().zip(divisors).map(turned).collect();
    if frequencies.iter().any(|frequency| !frequency.is_finite()) {
        return Err(LoadError::NotFinite { tensor: "rope_freqs.weight".to_owned() });
    }
    Ok(Rope { frequencies })
}
