//! Tiny models of the llama family with random weights, as GGUF files and as folders of safetensors. Tests compare engines on
//! them.

mod folder;
mod saved;
pub mod transformers;

use half::{bf16, f16};
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_checkpoint::gguf::{Array, GgmlType, StringArray, Value};
use upcycle_core::{
    Commit, DraftTree, NodeId, Row, RowSelection, SeqId, TokenId, TopK, TreeInput, TreeLimits, Verifier,
    VerifyError,
};

pub use folder::{Stored, write_safetensors};
pub use saved::{Format, Saved};

/// The rotary scaling of a tiny model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scaling {
    /// None.
    None,
    /// Linear, by 2.
    Linear,
    /// That of Llama 3.1, from a context of 32: by 8 for frequencies of at most 1 turn, by 1 from 4 turns on.
    Llama3,
    /// YaRN by 4, from a context of 16.
    Yarn,
}

/// Encodes values as the blocks of a quantized type.
pub type Quantize = fn(&[f32], GgmlType) -> Vec<u8>;

/// A tiny model of the llama family with random weights.
#[derive(Clone, Debug)]
pub struct Tiny {
    /// `llama`, `mistral` (the same in a GGUF file), `qwen2`, `qwen3` or, only as GGUF, `gemma2`.
    pub architecture: &'static str,
    /// Width of an embedding.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head, if it is not `width / heads`.
    pub head: Option<usize>,
    /// Width of the feed-forward network, if it is not `2 * width`.
    pub feed_forward: Option<usize>,
    /// Layers.
    pub layers: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Tokens of the context.
    pub context: usize,
    /// Elements of a head that are rotated, where that is not the whole head.
    pub rotated: Option<usize>,
    /// The rotary scaling.
    pub scaling: Scaling,
    /// The size of the sliding window, and the first layer that has it.
    pub window: Option<(u32, usize)>,
    /// Whether there is an output matrix of its own.
    pub untied: bool,
    /// A matrix with a row of numbers so large that matrix products overflow. It is `F32`.
    pub poisoned: Option<&'static str>,
    /// The type of the attention matrices.
    pub attention: GgmlType,
    /// The type of the feed-forward matrices.
    pub ffn: GgmlType,
    /// The type of the embedding, and of the output matrix.
    pub embedding: GgmlType,
    /// Encodes types other than `F32`, `F16` and `BF16`.
    pub quantize: Quantize,
}

impl Default for Tiny {
    fn default() -> Self {
        Self {
            architecture: "llama",
            width: 64,
            heads: 4,
            kv_heads: 2,
            head: None,
            feed_forward: None,
            layers: 2,
            vocab: 96,
            context: 160,
            rotated: None,
            scaling: Scaling::None,
            window: None,
            untied: false,
            poisoned: None,
            attention: GgmlType::F32,
            ffn: GgmlType::F32,
            embedding: GgmlType::F32,
            quantize: |_, dtype| panic!("no encoder of {dtype} was given"),
        }
    }
}

impl Tiny {
    /// The name of its architecture in a GGUF file.
    #[must_use]
    pub fn named(&self) -> &'static str {
        if self.architecture == "mistral" { "llama" } else { self.architecture }
    }

    /// Width of a head.
    #[must_use]
    pub fn head(&self) -> usize {
        self.head.unwrap_or(self.width / self.heads)
    }

    fn feed_forward(&self) -> usize {
        self.feed_forward.unwrap_or(2 * self.width)
    }

    /// Name, type and shape (innermost dimension first) of every tensor.
    #[must_use]
    pub fn tensors(&self) -> Vec<(String, GgmlType, Vec<usize>)> {
        let dtype = |name: &str, shape: &[usize]| match name {
            _ if shape.len() == 1 || self.poisoned == Some(name) => GgmlType::F32,
            "token_embd.weight" | "output.weight" => self.embedding,
            _ if name.contains("ffn_") => self.ffn,
            _ => self.attention,
        };
        let tensors = self.shapes().into_iter();
        tensors.map(|(name, shape)| (name.clone(), dtype(&name, &shape), shape)).collect()
    }

    fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (width, wide) = (self.width, self.feed_forward());
        let (queries, keys) = (self.head() * self.heads, self.head() * self.kv_heads);
        let mut tensors = vec![("token_embd.weight".to_owned(), vec![width, self.vocab])];
        for layer in 0..self.layers {
            let mut parts = vec![
                ("attn_norm.weight", vec![width]),
                ("attn_q.weight", vec![width, queries]),
                ("attn_k.weight", vec![width, keys]),
                ("attn_v.weight", vec![width, keys]),
                ("attn_output.weight", vec![queries, width]),
                ("ffn_norm.weight", vec![width]),
                ("ffn_gate.weight", vec![width, wide]),
                ("ffn_up.weight", vec![width, wide]),
                ("ffn_down.weight", vec![wide, width]),
            ];
            match self.architecture {
                "qwen2" => parts.extend([
                    ("attn_q.bias", vec![queries]),
                    ("attn_k.bias", vec![keys]),
                    ("attn_v.bias", vec![keys]),
                ]),
                "qwen3" => parts.extend([
                    ("attn_q_norm.weight", vec![self.head()]),
                    ("attn_k_norm.weight", vec![self.head()]),
                ]),
                "gemma2" => parts.extend([
                    ("post_attention_norm.weight", vec![width]),
                    ("post_ffw_norm.weight", vec![width]),
                ]),
                _ => {}
            }
            tensors.extend(parts.into_iter().map(|(part, shape)| (format!("blk.{layer}.{part}"), shape)));
        }
        tensors.push(("output_norm.weight".to_owned(), vec![width]));
        if self.untied {
            tensors.push(("output.weight".to_owned(), vec![width, self.vocab]));
        }
        tensors
    }

    /// The model as a GGUF writer. `leave_out` names a tensor to omit.
    #[must_use]
    pub fn writer(&self, leave_out: Option<&str>) -> GgufWriter {
        let texts: StringArray =
            (0..self.vocab as u32).map(|id| char::from_u32(0x4e00 + id).unwrap_or('x').to_string()).collect();
        let vocabulary = GgufWriter::new()
            .metadata("tokenizer.ggml.model", "gpt2")
            .metadata("tokenizer.ggml.pre", "gpt-2")
            .metadata("tokenizer.ggml.tokens", texts)
            .metadata("tokenizer.ggml.token_type", vec![1; self.vocab])
            .metadata("tokenizer.ggml.merges", StringArray::new())
            .metadata("tokenizer.ggml.eos_token_id", 1_u32);
        self.with_vocabulary(vocabulary, leave_out)
    }

    /// The same with the metadata of another vocabulary of [`vocab`](Self::vocab) tokens.
    #[must_use]
    pub fn with_vocabulary(&self, vocabulary: GgufWriter, leave_out: Option<&str>) -> GgufWriter {
        let key = |part: &str| format!("{}.{part}", self.named());
        let mut writer = vocabulary
            .metadata("general.architecture", self.named())
            .metadata(key("attention.layer_norm_rms_epsilon"), 1e-5_f32)
            .metadata(key("rope.freq_base"), 10_000.0_f32);
        for (part, size) in self.sizes() {
            writer = writer.metadata(key(part), size);
        }
        writer = self.rope_and_window(writer);
        let tensors = self.tensors().into_iter().filter(|(name, ..)| Some(&**name) != leave_out);
        tensors.fold(writer, |writer, (name, dtype, shape)| self.tensor(writer, &name, dtype, &shape))
    }

    /// The sizes in the metadata of a GGUF file, by their keys after the architecture.
    #[must_use]
    pub fn sizes(&self) -> [(&'static str, u32); 10] {
        let head = self.head();
        [
            ("embedding_length", self.width),
            ("feed_forward_length", self.feed_forward()),
            ("block_count", self.layers),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", head),
            ("attention.value_length", head),
            ("context_length", self.context),
            ("rope.dimension_count", self.rotated.unwrap_or(head)),
            ("vocab_size", self.vocab),
        ]
        .map(|(key, size)| (key, size as u32))
    }

    /// Adds a tensor of random numbers to `writer`.
    #[must_use]
    pub fn tensor(&self, writer: GgufWriter, name: &str, dtype: GgmlType, shape: &[usize]) -> GgufWriter {
        let bytes = self.bytes(name, dtype, shape);
        let shape: Vec<u64> = shape.iter().map(|&dimension| dimension as u64).collect();
        writer.tensor(name, dtype, &shape, bytes)
    }

    /// The random numbers of a tensor, as a file stores them.
    fn bytes(&self, name: &str, dtype: GgmlType, shape: &[usize]) -> Vec<u8> {
        let mut values = random(name, shape);
        if self.poisoned == Some(name) {
            values[shape[0]..2 * shape[0]].fill(f32::MAX);
        }
        match dtype {
            GgmlType::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            GgmlType::F16 => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
            GgmlType::Bf16 => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
            dtype => (self.quantize)(&values, dtype),
        }
    }

    /// Adds the metadata of rotary scaling and sliding window.
    #[must_use]
    pub fn rope_and_window(&self, mut writer: GgufWriter) -> GgufWriter {
        let key = |part: &str| format!("{}.{part}", self.named());
        writer = match self.scaling {
            Scaling::None => writer,
            Scaling::Linear => writer
                .metadata(key("rope.scaling.type"), "linear")
                .metadata(key("rope.scaling.factor"), 2.0_f32),
            Scaling::Yarn => writer
                .metadata(key("rope.scaling.type"), "yarn")
                .metadata(key("rope.scaling.factor"), 4.0_f32)
                .metadata(key("rope.scaling.original_context_length"), 16_u32),
            Scaling::Llama3 => {
                let divisors = llama3_divisors(self.head() / 2);
                let bytes: Vec<u8> = divisors.iter().flat_map(|divisor| divisor.to_le_bytes()).collect();
                writer.tensor("rope_freqs.weight", GgmlType::F32, &[divisors.len() as u64], bytes)
            }
        };
        let Some((positions, first)) = self.window else { return writer };
        writer = writer.metadata(key("attention.sliding_window"), positions);
        if first == 0 {
            return writer;
        }
        let layers = (0..self.layers).map(|layer| layer >= first).collect();
        writer.metadata(key("attention.sliding_window_pattern"), Value::Array(Array::Bool(layers)))
    }
}

/// The frequency divisors that llama.cpp's converter writes for `rope_type = "llama3"`.
fn llama3_divisors(pairs: usize) -> Vec<f32> {
    let (factor, low, high, context) = (8.0_f64, 1.0, 4.0, 32.0);
    let divisor = |pair: usize| {
        let wave = std::f64::consts::TAU * 10_000_f64.powf(pair as f64 / pairs as f64);
        if wave < context / high {
            1.0
        } else if wave > context / low {
            factor
        } else {
            let smooth = (context / wave - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..pairs).map(|pair| divisor(pair) as f32).collect()
}

/// Writes a model into a temporary file, which is deleted when the returned handle is dropped.
///
/// # Panics
/// If the file cannot be written, or the model is invalid.
#[must_use]
pub fn write(writer: &GgufWriter) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    writer.write_to(&mut file).expect("a valid model");
    file
}

/// Pseudo-random numbers that depend on the name only: around 1 for the weights of norms, and for matrices of a size that
/// keeps the scale of activations.
#[must_use]
pub fn random(name: &str, shape: &[usize]) -> Vec<f32> {
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let (middle, spread) = match shape {
        [_] if name.ends_with("bias") => (0.0, 0.5),
        [_] => (1.0, 0.2),
        _ => (0.0, 2.5 / (shape[0] as f32).sqrt()),
    };
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        middle + spread * ((state >> 40) as f32 / (1 << 23) as f32 - 1.0)
    };
    (0..shape.iter().product()).map(|_| next()).collect()
}

/// The logits of every row of a text, `[tokens, vocab]`, scored in one pass of a new sequence.
///
/// # Errors
/// What the verifier says.
pub fn logits(verifier: &mut dyn Verifier, text: &[TokenId]) -> Result<Vec<Vec<f32>>, VerifyError> {
    let seq = verifier.open()?;
    let tree = DraftTree::chain(text);
    verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut TopK::new(1))?;
    let rows = (0..text.len()).map(|node| Ok(verifier.logits(Row { input: 0, node })?.to_vec())).collect();
    verifier.close(seq);
    rows
}

/// The largest absolute difference of two rows of logits.
///
/// # Panics
/// If they differ in length.
#[must_use]
pub fn difference(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// A root with three children and a grandchild, for a vocabulary of ten or more.
#[must_use]
pub fn tree() -> DraftTree {
    let mut tree = DraftTree::new();
    tree.reset(5, TreeLimits::UNBOUNDED);
    // A tree without limits refuses nothing.
    let mut push = |parent, token| tree.push(parent, token, None).unwrap_or(NodeId::ROOT);
    let child = push(NodeId::ROOT, 6);
    push(NodeId::ROOT, 7);
    push(NodeId::ROOT, 8);
    push(child, 9);
    tree
}

/// Scores [`tree`] and commits its longest path.
///
/// # Errors
/// Those of the verifier.
pub fn step(verifier: &mut dyn Verifier, seq: SeqId, tree: &DraftTree) -> Result<(), VerifyError> {
    verifier.forward(&[TreeInput { seq, tree, rows: RowSelection::All }], &mut TopK::new(4))?;
    let path = [NodeId::ROOT, NodeId::new(1), NodeId::new(4)];
    verifier.commit(&[Commit { seq, path: &path }])
}
