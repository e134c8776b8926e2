//! The models that the tests run: the real one, and tiny ones with random weights that are written on the spot.
#![allow(dead_code, reason = "each test binary uses a part of this")]

pub(crate) mod formats;

use std::sync::Arc;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use upcycle_candle::{CandleVerifier, Model, Options, Products, Weights};
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_core::{
    Commit, DraftTree, Limits, Row, RowSelection, SeqId, TopK, TreeInput, Verifier, VerifyError,
};
pub(crate) use upcycle_testkit::real_model;
pub(crate) use upcycle_testkit::tiny::{Scaling, random, write};

pub(crate) fn options(products: Products, weights: Weights) -> Options {
    let mut options = Options::default();
    options.weights = weights;
    options.kernels = Some(products);
    options.threads = 2.try_into().ok();
    options
}

/// The device that candle's tensors are on: the processor, unless `UPCYCLE_TEST_CANDLE_DEVICE` is `cuda`, as
/// `scripts/check-cuda.sh` has it.
pub(crate) fn tensors_device() -> Device {
    match std::env::var("UPCYCLE_TEST_CANDLE_DEVICE").as_deref() {
        Ok("cuda") => Device::new_cuda(0).expect("a GPU, and a build with `--features cuda`"),
        Ok("cpu") | Err(_) => Device::Cpu,
        Ok(other) => panic!("UPCYCLE_TEST_CANDLE_DEVICE is cuda or cpu, not {other}"),
    }
}

/// Loads the real model.
pub(crate) fn load_real(products: Products, weights: Weights) -> Arc<Model> {
    Model::load(real_model(), &options(products, weights)).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// A tiny model with random weights.
#[derive(Clone, Debug)]
pub(crate) struct Tiny {
    /// `llama`, `mistral` (the same in a GGUF file), `qwen2` or `qwen3`.
    pub(crate) family: &'static str,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    /// Width of a head, where it is not the width by the heads.
    pub(crate) head: Option<usize>,
    pub(crate) scaling: Scaling,
    /// Positions that a row sees, and the first layer where it sees no more.
    pub(crate) window: Option<(u32, usize)>,
    pub(crate) feed_forward: usize,
    pub(crate) layers: usize,
    pub(crate) vocab: usize,
    pub(crate) context: usize,
    /// The type of the attention matrices, and of the feed-forward ones.
    pub(crate) types: [GgmlType; 2],
    /// The type of the embedding.
    pub(crate) embedding: GgmlType,
    /// Whether there is an output matrix.
    pub(crate) untied: bool,
    /// A matrix that gets a row of numbers so large that products overflow, and is `F32` for it. (The kernels refuse a NaN
    /// when they pack it.)
    pub(crate) poisoned: Option<&'static str>,
}

impl Tiny {
    /// A model whose matrices have these types.
    pub(crate) fn new(types: [GgmlType; 2]) -> Self {
        let width = if types.iter().any(|dtype| dtype.block_size() == 256) { 256 } else { 64 };
        Self {
            family: "llama",
            width,
            heads: 4,
            kv_heads: 2,
            head: None,
            scaling: Scaling::None,
            window: None,
            feed_forward: 2 * width,
            layers: 2,
            vocab: 96,
            context: 160,
            types,
            embedding: types[0],
            untied: false,
            poisoned: None,
        }
    }

    /// The same with all weights in `f32`.
    pub(crate) fn plain(&self) -> upcycle_testkit::tiny::Tiny {
        upcycle_testkit::tiny::Tiny {
            architecture: self.family,
            width: self.width,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head: Some(self.head()),
            feed_forward: Some(self.feed_forward),
            layers: self.layers,
            vocab: self.vocab,
            context: self.context,
            rotated: self.head(),
            scaling: self.scaling,
            window: self.window,
            untied: self.untied,
            poisoned: self.poisoned,
        }
    }

    /// The name of its architecture in a GGUF file.
    pub(crate) fn architecture(&self) -> &'static str {
        if self.family == "mistral" { "llama" } else { self.family }
    }

    pub(crate) fn head(&self) -> usize {
        self.head.unwrap_or(self.width / self.heads)
    }

    /// The model as a writer, before anything is added or spoilt.
    pub(crate) fn writer(&self) -> GgufWriter {
        let mut writer = formats::rope_and_window(self, GgufWriter::new());
        for (key, value) in self.metadata() {
            writer = writer.metadata(format!("{}.{key}", self.architecture()), value);
        }
        writer = writer
            .metadata("general.architecture", self.architecture())
            .metadata(format!("{}.attention.layer_norm_rms_epsilon", self.architecture()), 1e-5_f32)
            .metadata(format!("{}.rope.freq_base", self.architecture()), 10_000.0_f32);
        for (name, dtype, shape) in self.tensors() {
            writer = self.tensor(writer, &name, dtype, &shape);
        }
        writer
    }

    pub(crate) fn metadata(&self) -> Vec<(&'static str, u32)> {
        vec![
            ("embedding_length", self.width as u32),
            ("feed_forward_length", self.feed_forward as u32),
            ("block_count", self.layers as u32),
            ("attention.head_count", self.heads as u32),
            ("attention.head_count_kv", self.kv_heads as u32),
            ("context_length", self.context as u32),
            ("attention.key_length", self.head() as u32),
            ("attention.value_length", self.head() as u32),
            ("rope.dimension_count", self.head() as u32),
            ("vocab_size", self.vocab as u32),
        ]
    }

    /// Name, type and shape (innermost dimension first) of every tensor.
    pub(crate) fn tensors(&self) -> Vec<(String, GgmlType, Vec<usize>)> {
        let [attention, ffn] = self.types;
        let (width, wide) = (self.width, self.feed_forward);
        let (queries, keys) = (self.head() * self.heads, self.head() * self.kv_heads);
        let mut tensors = vec![("token_embd.weight".into(), self.embedding, vec![width, self.vocab])];
        for layer in 0..self.layers {
            let parts = [
                ("attn_norm", GgmlType::F32, vec![width]),
                ("attn_q", attention, vec![width, queries]),
                ("attn_k", attention, vec![width, keys]),
                ("attn_v", attention, vec![width, keys]),
                ("attn_output", attention, vec![queries, width]),
                ("ffn_norm", GgmlType::F32, vec![width]),
                ("ffn_gate", ffn, vec![width, wide]),
                ("ffn_up", ffn, vec![width, wide]),
                ("ffn_down", ffn, vec![wide, width]),
            ];
            tensors.extend(
                parts.map(|(part, dtype, shape)| (format!("blk.{layer}.{part}.weight"), dtype, shape)),
            );
            let more: &[(&str, usize)] = match self.family {
                "qwen2" => &[("attn_q.bias", queries), ("attn_k.bias", keys), ("attn_v.bias", keys)],
                "qwen3" => &[("attn_q_norm.weight", self.head()), ("attn_k_norm.weight", self.head())],
                _ => &[],
            };
            tensors.extend(
                more.iter().map(|(part, len)| (format!("blk.{layer}.{part}"), GgmlType::F32, vec![*len])),
            );
        }
        tensors.push(("output_norm.weight".into(), GgmlType::F32, vec![width]));
        if self.untied {
            tensors.push(("output.weight".into(), self.embedding, vec![width, self.vocab]));
        }
        tensors
    }

    /// Adds a tensor of random numbers.
    pub(crate) fn tensor(
        &self,
        writer: GgufWriter,
        name: &str,
        dtype: GgmlType,
        shape: &[usize],
    ) -> GgufWriter {
        let (dtype, bytes) = self.bytes(name, dtype, shape);
        let shape: Vec<u64> = shape.iter().map(|&dimension| dimension as u64).collect();
        writer.tensor(name, dtype, &shape, bytes)
    }

    /// The random numbers of a tensor, and the type that they have.
    pub(crate) fn bytes(&self, name: &str, dtype: GgmlType, shape: &[usize]) -> (GgmlType, Vec<u8>) {
        let poisoned = self.poisoned == Some(name);
        let dtype = if poisoned { GgmlType::F32 } else { dtype };
        let mut values = random(name, shape);
        if poisoned {
            values[shape[0]..2 * shape[0]].fill(f32::MAX);
        }
        (dtype, quantize(values, dtype))
    }

    /// Writes the model into a file of its own, which is deleted when the returned handle goes.
    pub(crate) fn write(&self) -> tempfile::NamedTempFile {
        write(&self.writer())
    }

    /// Writes and loads the model.
    pub(crate) fn load(&self, options: &Options) -> Arc<Model> {
        let file = self.write();
        // The map outlives the name.
        Model::load(file.path(), options).unwrap_or_else(|error| panic!("{self:?}: {}", chain(&error)))
    }

    pub(crate) fn verifier(&self) -> CandleVerifier {
        CandleVerifier::new(self.load(&options(Products::Candle, Weights::File)))
    }
}

/// The logits after a short text.
pub(crate) fn last_logits(model: Arc<Model>) -> Vec<f32> {
    let mut verifier = CandleVerifier::new(model);
    let tree = DraftTree::chain(&[5, 40, 17, 88, 3]);
    let seq = verifier.open().expect("room for one");
    verifier
        .forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut TopK::new(1))
        .expect("a sound model");
    verifier.logits(Row { input: 0, node: tree.len() - 1 }).expect("asked for").to_vec()
}

/// The error and its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The bytes of `values` in a type of GGUF.
fn quantize(values: Vec<f32>, dtype: GgmlType) -> Vec<u8> {
    let dtype = match dtype {
        GgmlType::F32 => GgmlDType::F32,
        GgmlType::F16 => GgmlDType::F16,
        GgmlType::Bf16 => GgmlDType::BF16,
        GgmlType::Q4_0 => GgmlDType::Q4_0,
        GgmlType::Q4_1 => GgmlDType::Q4_1,
        GgmlType::Q5_0 => GgmlDType::Q5_0,
        GgmlType::Q5_1 => GgmlDType::Q5_1,
        GgmlType::Q8_0 => GgmlDType::Q8_0,
        GgmlType::Q8_1 => GgmlDType::Q8_1,
        GgmlType::Q2K => GgmlDType::Q2K,
        GgmlType::Q3K => GgmlDType::Q3K,
        GgmlType::Q4K => GgmlDType::Q4K,
        GgmlType::Q5K => GgmlDType::Q5K,
        GgmlType::Q6K => GgmlDType::Q6K,
        GgmlType::Q8K => GgmlDType::Q8K,
        other => panic!("the tests do not write {other}"),
    };
    let len = values.len();
    let tensor = Tensor::from_vec(values, (len,), &Device::Cpu).expect("a tensor");
    let quantized = QTensor::quantize(&tensor, dtype).expect("a quantized tensor");
    quantized.data().expect("bytes").into_owned()
}

/// A verifier with less context than its model, so that the end of it can be walked up to.
pub(crate) struct Short {
    inner: CandleVerifier,
    limits: Limits,
}

impl Short {
    pub(crate) fn new(model: Arc<Model>, max_context: usize) -> Self {
        let inner = CandleVerifier::new(model);
        let limits = Limits { max_context, ..inner.limits().clone() };
        Self { inner, limits }
    }
}

impl Verifier for Short {
    fn limits(&self) -> &Limits {
        &self.limits
    }
    fn open(&mut self) -> Result<SeqId, VerifyError> {
        self.inner.open()
    }
    fn close(&mut self, seq: SeqId) {
        self.inner.close(seq);
    }
    fn forward(&mut self, steps: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        self.limits.check_inputs(steps, |seq| self.inner.committed(seq))?;
        self.inner.forward(steps, top)
    }
    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        self.inner.logits(row)
    }
    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        self.inner.commit(commits)
    }
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        self.inner.truncate(seq, len)
    }
}
