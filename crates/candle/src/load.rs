//! From files to a [`Model`]: metadata, tensors, threads.

use std::path::Path;
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tracing::{debug, info_span, warn};
use upcycle_checkpoint::gguf::Hyperparameters;
use upcycle_checkpoint::{CheckpointError, Source};
use upcycle_kernels::Kernels;

use crate::kv::KvShape;
use crate::model::{Blocks, Body, Dimensions, Layer, Model};
use crate::product::Stack;
use crate::rows::Rope;
use crate::tensors::Tensors;
use crate::{LoadError, Options, Products, device, own};

impl Model {
    /// Loads a GGUF file, or a folder with a `config.json` and safetensors (or one of its files), of an architecture that
    /// is known: see the [crate's page](crate).
    ///
    /// With the workspace's kernels files are read tensor by tensor: one that is shortened meanwhile, or changed as far as its
    /// length and times tell, is refused, and once the model is loaded nothing depends on them. With candle's products they are
    /// mapped into memory as long as the model lives: they may be replaced or removed, but not written to, and one that is
    /// shortened ends the process (SIGBUS).
    ///
    /// # Errors
    /// [`LoadError`]: a file cannot be read, is not sound, or holds another model than is known here.
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
        Self::load_in(path.as_ref(), options, options.device.open()?, progress)
    }

    /// As [`load_with_progress`](Self::load_with_progress), onto a device of candle's that the program has opened already: the
    /// second of two GPUs, say, or [`candle_core::Device::Cpu`], which runs candle's tensors on the processor. `options.device` is
    /// not looked at.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_on(
        path: impl AsRef<Path>,
        options: &Options,
        device: candle_core::Device,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Arc<Self>, LoadError> {
        Self::load_in(path.as_ref(), options, Some(device), progress)
    }

    /// Loads a model onto a device, or for the loops on the processor.
    fn load_in(
        path: &Path,
        options: &Options,
        device: Option<candle_core::Device>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Arc<Self>, LoadError> {
        let _span = info_span!("load", path = %path.display(), weights = ?options.weights).entered();
        if device.is_some() && options.kernels == Some(Products::Own) {
            let reason = "they run on the CPU alone, and `device` is another; leave `kernels` out".to_owned();
            return Err(LoadError::Kernels { reason });
        }
        let source = Source::open(path)?;
        let dimensions = Dimensions::of(&source.model);
        debug!(architecture = %source.model.architecture, ?dimensions, "read the metadata");

        if let Some(device) = device {
            let threads = rayon_threads(options)?;
            let mut tensors = Tensors::new(&source.checkpoint, options.weights, &threads, progress);
            let rope = read_rope(&mut tensors, &source.model)?;
            let resident = device::load(&mut tensors, &source, &dimensions, rope, (device, options.weights))?;
            check_all_read(&tensors, &source)?;
            return Ok(Arc::new(Self { dimensions, body: Body::Device(Box::new(resident)) }));
        }
        let missing = own::unsupported(&source.checkpoint, &dimensions, options.weights);
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

        let threads = rayon_threads(options)?;
        let mut tensors = Tensors::new(&source.checkpoint, options.weights, &threads, progress);

        let rope = read_rope(&mut tensors, &source.model)?;
        let tensors = &mut tensors;
        if products == Products::Own {
            let kernels = Kernels::new(options.threads.map_or(0, Into::into))
                .map_err(|source| LoadError::KernelPath { source })?;
            let packed = own::load(tensors, &source, &dimensions, rope, kernels)?;
            check_all_read(tensors, &source)?;
            return Ok(Arc::new(Self { dimensions, body: Body::Own(Box::new(packed)) }));
        }
        let Dimensions { width, vocab, .. } = dimensions;
        let embedding = if source.tied {
            tensors.matrix("token_embd.weight", width, vocab)?
        } else {
            tensors.table("token_embd.weight", width, vocab)?
        };
        let layers = (0..dimensions.kv.layers).map(|layer| read_layer(tensors, layer, &source, &dimensions));
        let layers = layers.collect::<Result<_, _>>()?;
        let output_norm = tensors.vector("output_norm.weight", width)?;
        let output = if source.tied { None } else { Some(tensors.matrix("output.weight", width, vocab)?) };
        check_all_read(tensors, &source)?;
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

/// The threads that widen weights, and multiply with them on candle's products.
fn rayon_threads(options: &Options) -> Result<ThreadPool, LoadError> {
    ThreadPoolBuilder::new()
        .num_threads(options.threads.map_or(0, Into::into))
        .thread_name(|thread| format!("upcycle-candle-{thread}"))
        .build()
        .map_err(|source| LoadError::Threads { source })
}

/// What was read is all of the files, as they were at the begin: a tensor that nothing reads would be an effect left out.
fn check_all_read(tensors: &Tensors<'_>, source: &Source) -> Result<(), LoadError> {
    source.checkpoint.check_unchanged()?;
    match tensors.unread() {
        Some(tensor) => Err(CheckpointError::UnknownTensor {
            tensor: tensor.to_owned(),
            architecture: source.model.architecture.name(),
        }
        .into()),
        None => Ok(()),
    }
}

fn read_layer(
    tensors: &mut Tensors<'_>,
    layer: usize,
    source: &Source,
    dimensions: &Dimensions,
) -> Result<Layer, LoadError> {
    let &Dimensions { width, heads, kv, feed_forward, .. } = dimensions;
    let name = |part: &str| format!("blk.{layer}.{part}.weight");
    let (queries, keys) = (heads * kv.width, kv.heads * kv.width);
    let bias = read_biases(tensors, layer, source, dimensions)?;
    Ok(Layer {
        attention_norm: tensors.vector(&name("attn_norm"), width)?,
        query_key_value: Stack::new(vec![
            tensors.matrix(&name("attn_q"), width, queries)?,
            tensors.matrix(&name("attn_k"), width, keys)?,
            tensors.matrix(&name("attn_v"), width, keys)?,
        ]),
        query_key_value_bias: bias.map(|parts| parts.concat()),
        head_norms: read_head_norms(tensors, layer, source, dimensions)?,
        attention_output: Stack::new(vec![tensors.matrix(&name("attn_output"), queries, width)?]),
        feed_forward_norm: tensors.vector(&name("ffn_norm"), width)?,
        gate_up: Stack::new(vec![
            tensors.matrix(&name("ffn_gate"), width, feed_forward)?,
            tensors.matrix(&name("ffn_up"), width, feed_forward)?,
        ]),
        down: Stack::new(vec![tensors.matrix(&name("ffn_down"), feed_forward, width)?]),
    })
}

/// The biases of queries, keys and values, where the model has them.
pub(crate) fn read_biases(
    tensors: &mut Tensors<'_>,
    layer: usize,
    source: &Source,
    dimensions: &Dimensions,
) -> Result<Option<[Vec<f32>; 3]>, LoadError> {
    if !source.biased {
        return Ok(None);
    }
    let &Dimensions { heads, kv, .. } = dimensions;
    let mut bias = |part, heads| tensors.vector(&format!("blk.{layer}.attn_{part}.bias"), heads * kv.width);
    Ok(Some([bias("q", heads)?, bias("k", kv.heads)?, bias("v", kv.heads)?]))
}

/// The weights of the normalization of each head's queries and keys, where the model has them.
pub(crate) fn read_head_norms(
    tensors: &mut Tensors<'_>,
    layer: usize,
    source: &Source,
    dimensions: &Dimensions,
) -> Result<Option<[Vec<f32>; 2]>, LoadError> {
    if !source.model.architecture.normalizes_heads() {
        return Ok(None);
    }
    let width = dimensions.kv.width;
    let mut norm = |part| tensors.vector(&format!("blk.{layer}.attn_{part}_norm.weight"), width);
    Ok(Some([norm("q")?, norm("k")?]))
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
        let windows = (0..layers).map(|layer| model.window(layer)).collect();
        Self { width, heads, kv, feed_forward, vocab, context, epsilon, windows }
    }
}

fn read_rope(tensors: &mut Tensors<'_>, model: &Hyperparameters) -> Result<Rope, LoadError> {
    const DIVISORS: &str = "rope_freqs.weight";
    let divisors = match tensors.has(DIVISORS) {
        true => Some(tensors.vector(DIVISORS, model.rotated / 2)?),
        false => None,
    };
    let frequencies = model.frequencies(divisors.as_deref());
    if frequencies.iter().any(|frequency| !frequency.is_finite()) {
        return Err(CheckpointError::NotFinite { tensor: DIVISORS.to_owned() }.into());
    }
    let magnitude = model.rope_scaling.magnitude();
    Ok(Rope { layout: model.rope_layout, frequencies, magnitude })
}
