//! Tiny models of the llama family with random weights, as GGUF files: what engines are held against each other on.

use upcycle_core::{Commit, DraftTree, NodeId, Room, Rows, SeqId, Step, TopK, Verifier, VerifyError};
use upcycle_gguf::write::GgufWriter;
use upcycle_gguf::{GgmlType, StringArray};

/// A tiny model of the llama family with random weights in `f32`.
#[derive(Clone, Debug)]
pub struct Tiny {
    /// `llama`, `qwen2`, `qwen3` or `gemma2`
    pub architecture: &'static str,
    /// Numbers of an embedding.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Tokens of the longest context.
    pub context: usize,
    /// Elements of a head that turn.
    pub rotated: usize,
    /// Whether there is an output matrix.
    pub untied: bool,
    /// A matrix with a row of numbers so large that products overflow.
    pub poisoned: Option<&'static str>,
}

impl Default for Tiny {
    fn default() -> Self {
        Self {
            architecture: "llama",
            width: 64,
            heads: 4,
            kv_heads: 2,
            vocab: 96,
            context: 160,
            rotated: 16,
            untied: false,
            poisoned: None,
        }
    }
}

const LAYERS: usize = 2;

impl Tiny {
    fn head(&self) -> usize {
        self.width / self.heads
    }

    /// Name and shape (innermost dimension first) of every tensor.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (width, wide, keys) = (self.width, 2 * self.width, self.head() * self.kv_heads);
        let mut tensors = vec![("token_embd.weight".to_owned(), vec![width, self.vocab])];
        for layer in 0..LAYERS {
            let mut parts = vec![
                ("attn_norm.weight", vec![width]),
                ("attn_q.weight", vec![width, width]),
                ("attn_k.weight", vec![width, keys]),
                ("attn_v.weight", vec![width, keys]),
                ("attn_output.weight", vec![width, width]),
                ("ffn_norm.weight", vec![width]),
                ("ffn_gate.weight", vec![width, wide]),
                ("ffn_up.weight", vec![width, wide]),
                ("ffn_down.weight", vec![wide, width]),
            ];
            match self.architecture {
                "qwen2" => parts.extend([
                    ("attn_q.bias", vec![width]),
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

    /// The model as a writer; `leave_out` names a tensor that is not in it.
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

    /// The same behind the metadata of another vocabulary, of [`vocab`](Self::vocab) tokens.
    #[must_use]
    pub fn with_vocabulary(&self, vocabulary: GgufWriter, leave_out: Option<&str>) -> GgufWriter {
        let key = |part: &str| format!("{}.{part}", self.architecture);
        let mut writer = vocabulary
            .metadata("general.architecture", self.architecture)
            .metadata(key("attention.layer_norm_rms_epsilon"), 1e-5_f32)
            .metadata(key("rope.freq_base"), 10_000.0_f32);
        let sizes = [
            ("embedding_length", self.width),
            ("feed_forward_length", 2 * self.width),
            ("block_count", LAYERS),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("context_length", self.context),
            ("rope.dimension_count", self.rotated),
        ];
        for (part, size) in sizes {
            writer = writer.metadata(key(part), size as u32);
        }
        for (name, shape) in self.tensors().iter().filter(|(name, _)| Some(&**name) != leave_out) {
            let mut values = random(name, shape);
            if self.poisoned == Some(name) {
                values[shape[0]..2 * shape[0]].fill(f32::MAX);
            }
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            let shape: Vec<u64> = shape.iter().map(|&dimension| dimension as u64).collect();
            writer = writer.tensor(name, GgmlType::F32, &shape, bytes);
        }
        writer
    }
}

/// Writes a model into a file of its own, which is deleted when the returned handle goes.
///
/// # Panics
/// If the file cannot be written, or the model is not sound.
#[must_use]
pub fn write(writer: &GgufWriter) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    writer.write_to(&mut file).expect("a sound model");
    file
}

/// Numbers that look random, the same ones for each name: around 1 for the weights of norms, of a size that keeps the scale
/// of what passes for matrices.
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

/// A root with three children and a grandchild, for a vocabulary of ten or more.
#[must_use]
pub fn tree() -> DraftTree {
    let mut tree = DraftTree::new();
    tree.restart(5, Room::UNBOUNDED);
    // There is room for any tree.
    let mut push = |parent, token| tree.push(parent, token, None).unwrap_or(NodeId::ROOT);
    let child = push(NodeId::ROOT, 6);
    push(NodeId::ROOT, 7);
    push(NodeId::ROOT, 8);
    push(child, 9);
    tree
}

/// Scores [`tree`] and keeps its longest path.
///
/// # Errors
/// What the verifier says.
pub fn step(verifier: &mut dyn Verifier, seq: SeqId, tree: &DraftTree) -> Result<(), VerifyError> {
    verifier.forward(&[Step { seq, tree, rows: Rows::All }], &mut TopK::new(4))?;
    let path = [NodeId::ROOT, NodeId::new(1), NodeId::new(4)];
    verifier.commit(&[Commit { seq, path: &path }])
}
