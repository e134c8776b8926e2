//! The weights of a model.

use rayon::ThreadPool;

use crate::Products;
use crate::device::Resident;
use crate::kv::KvShape;
use crate::own::Packed;
use crate::product::Stack;
use crate::rows::Rope;

/// A loaded model: weights and threads, immutable, to be shared by verifiers through an `Arc`.
///
/// Loading is the expensive part; a [`CandleVerifier`](crate::CandleVerifier) on top costs next to nothing until it
/// opens sequences.
#[derive(Debug)]
pub struct Model {
    pub(crate) dimensions: Dimensions,
    pub(crate) body: Body,
}

/// The weights, by whose products run them.
#[derive(Debug)]
pub(crate) enum Body {
    Own(Box<Packed>),
    Candle(Blocks),
    Device(Box<Resident>),
}

/// The weights as candle's blocks, and the threads that multiply them.
#[derive(Debug)]
pub(crate) struct Blocks {
    pub(crate) rope: Rope,
    pub(crate) embedding: Stack,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vec<f32>,
    /// The head, where it is not the embedding.
    pub(crate) output: Option<Stack>,
    pub(crate) threads: ThreadPool,
}

impl Model {
    /// Tokens in the vocabulary.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.dimensions.vocab
    }

    /// The longest context that the model was made for.
    #[must_use]
    pub fn max_context(&self) -> usize {
        self.dimensions.context
    }

    /// The threads that a pass runs on; none where candle's tensors run it, which have their own.
    #[must_use]
    pub fn threads(&self) -> Option<usize> {
        match &self.body {
            Body::Own(packed) => Some(packed.kernels.pool().threads()),
            Body::Candle(blocks) => Some(blocks.threads.current_num_threads()),
            Body::Device(_) => None,
        }
    }

    /// Whose products and attention run it.
    #[must_use]
    pub fn products(&self) -> Products {
        match self.body {
            Body::Own(_) => Products::Own,
            Body::Candle(_) | Body::Device(_) => Products::Candle,
        }
    }

    /// The kernel path, where its own kernels run it: `avx512-vnni`, say.
    #[must_use]
    pub fn kernel_path(&self) -> Option<&'static str> {
        match &self.body {
            Body::Own(packed) => Some(packed.kernels.path().isa().name()),
            Body::Candle(_) | Body::Device(_) => None,
        }
    }
}

impl Blocks {
    pub(crate) fn head(&self) -> &Stack {
        self.output.as_ref().unwrap_or(&self.embedding)
    }
}

/// The sizes of a model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dimensions {
    /// Width of the residual stream.
    pub(crate) width: usize,
    /// Query heads; a multiple of the KV heads.
    pub(crate) heads: usize,
    /// Heads, layers and head width of keys and values.
    pub(crate) kv: KvShape,
    /// Width of the feed-forward layer.
    pub(crate) feed_forward: usize,
    pub(crate) vocab: usize,
    pub(crate) context: usize,
    /// What the normalizations add to the mean square.
    pub(crate) epsilon: f32,
    /// Positions that a row of each layer sees, itself included, where that is not all, `[layers]`.
    pub(crate) windows: Vec<Option<usize>>,
}

/// The weights of one layer.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    /// Queries, keys, values: `[(heads + 2 · kv heads) · head width, width]`.
    pub(crate) query_key_value: Stack,
    /// `[(heads + 2 · kv heads) · head width]`, where the model has one.
    pub(crate) query_key_value_bias: Option<Vec<f32>>,
    /// Weights of the normalization of each head's queries and of its keys, `[head width]` each, where the model has it.
    pub(crate) head_norms: Option<[Vec<f32>; 2]>,
    /// `[width, heads · head width]`.
    pub(crate) attention_output: Stack,
    pub(crate) feed_forward_norm: Vec<f32>,
    /// Gates, then ups: `[2 · feed forward, width]`.
    pub(crate) gate_up: Stack,
    /// `[width, feed forward]`.
    pub(crate) down: Stack,
}
