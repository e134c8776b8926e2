//! Models in exported folders: the real one, and tiny ones with random weights that are written on the spot.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use upcycle_core::{
    Commit, DraftTree, Limits, NodeId, Room, Row, Rows, SeqId, Step, TopK, Verifier, VerifyError,
};
use upcycle_export::{Weights, export};
use upcycle_gguf::write::GgufWriter;
use upcycle_gguf::{GgmlType, StringArray};
use upcycle_ort::{Model, Options, OrtVerifier};

/// The path of the real model.
///
/// # Panics
/// If it is not there.
pub(crate) fn real_model() -> PathBuf {
    let path = std::env::var_os("UPCYCLE_TEST_MODEL").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.models/SmolLM2-135M-Instruct.Q4_1.gguf"),
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "the test model {} is not there: run scripts/get-model.sh, or set UPCYCLE_TEST_MODEL",
        path.display()
    );
    path
}

pub(crate) fn options() -> Options {
    Options { intra_threads: 2.try_into().ok(), spinning: false, ..Options::default() }
}

/// A folder that is deleted when it goes, with a model in it.
pub(crate) struct Folder {
    _parent: TempDir,
    pub(crate) path: PathBuf,
}

/// Exports a GGUF file.
pub(crate) fn exported(gguf: &Path, weights: Weights) -> Folder {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let path = parent.path().join("exported");
    let mut wanted = upcycle_export::Options::default();
    wanted.weights = weights;
    export(gguf, &path, wanted, &mut |_, _| ()).unwrap_or_else(|error| panic!("{}", chain(&error)));
    Folder { _parent: parent, path }
}

pub(crate) fn load(folder: &Path) -> Arc<Model> {
    Model::load(folder, &options()).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// The error and its causes.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A tiny model of the llama family with random weights in `f32`.
#[derive(Clone, Debug)]
pub(crate) struct Tiny {
    pub(crate) architecture: &'static str,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) vocab: usize,
    pub(crate) context: usize,
    /// Elements of a head that turn.
    pub(crate) rotated: usize,
    pub(crate) untied: bool,
    /// A matrix with a row of numbers so large that products overflow.
    pub(crate) poisoned: Option<&'static str>,
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
    pub(crate) fn writer(&self, leave_out: Option<&str>) -> GgufWriter {
        let key = |part: &str| format!("{}.{part}", self.architecture);
        let texts: StringArray =
            (0..self.vocab as u32).map(|id| char::from_u32(0x4e00 + id).unwrap_or('x').to_string()).collect();
        let mut writer = GgufWriter::new()
            .metadata("general.architecture", self.architecture)
            .metadata("tokenizer.ggml.model", "gpt2")
            .metadata("tokenizer.ggml.pre", "gpt-2")
            .metadata("tokenizer.ggml.tokens", texts)
            .metadata("tokenizer.ggml.token_type", vec![1; self.vocab])
            .metadata("tokenizer.ggml.merges", StringArray::new())
            .metadata("tokenizer.ggml.eos_token_id", 1_u32)
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

    /// Exports the model.
    pub(crate) fn export(&self, weights: Weights) -> Folder {
        exported(write(&self.writer(None)).path(), weights)
    }
}

pub(crate) fn write(writer: &GgufWriter) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    writer.write_to(&mut file).expect("a sound model");
    file
}

/// Numbers that look random, the same ones for each name: around 1 for the weights of norms, of a size that keeps the scale
/// of what passes for matrices.
fn random(name: &str, shape: &[usize]) -> Vec<f32> {
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

/// A root with three children and a grandchild.
pub(crate) fn tree() -> DraftTree {
    let mut tree = DraftTree::new();
    tree.restart(5, Room::UNBOUNDED);
    let mut push = |parent, token| tree.push(parent, token, None).expect("there is room");
    let child = push(NodeId::ROOT, 6);
    push(NodeId::ROOT, 7);
    push(NodeId::ROOT, 8);
    push(child, 9);
    tree
}

/// Scores [`tree`] and keeps its longest path.
pub(crate) fn step(verifier: &mut OrtVerifier, seq: SeqId, tree: &DraftTree) -> Result<(), VerifyError> {
    verifier.forward(&[Step { seq, tree, rows: Rows::All }], &mut TopK::new(4))?;
    let path = [NodeId::ROOT, NodeId::new(1), NodeId::new(4)];
    verifier.commit(&[Commit { seq, path: &path }])
}

/// A verifier with less context than its model, so that the end of it can be walked up to.
pub(crate) struct Short {
    inner: OrtVerifier,
    limits: Limits,
}

impl Short {
    pub(crate) fn new(model: Arc<Model>, max_context: usize) -> Self {
        let inner = OrtVerifier::new(model);
        let limits = Limits { max_context, ..inner.limits().clone() };
        Self { inner, limits }
    }
}

impl Verifier for Short {
    fn limits(&self) -> &Limits {
        &self.limits
    }
    fn row_tolerance(&self) -> f32 {
        self.inner.row_tolerance()
    }
    fn open(&mut self) -> Result<SeqId, VerifyError> {
        self.inner.open()
    }
    fn close(&mut self, seq: SeqId) {
        self.inner.close(seq);
    }
    fn forward(&mut self, steps: &[Step<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        self.limits.check_steps(steps, |seq| self.inner.committed(seq))?;
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
