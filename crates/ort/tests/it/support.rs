//! Models in exported folders: the real one, and tiny ones with random weights.
#![allow(dead_code, reason = "each test binary uses a part of this")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_core::{Commit, Limits, Row, SeqId, TopK, TreeInput, Verifier, VerifyError};
use upcycle_onnx::export::{WeightType, export};
use upcycle_onnx::layout::{DATA_FILE, MODEL_FILE};
use upcycle_onnx::schema::{Message, Model as Onnx};
use upcycle_ort::{Memory, Model, Options, OrtVerifier, Provider};
#[allow(unused_imports, reason = "each test binary uses a part of this")]
pub(crate) use upcycle_testkit::tiny::{Tiny, step, tree, write};

/// The CPU's provider, unless `UPCYCLE_TEST_ORT_PROVIDER` is `cuda`, as `scripts/check-cuda.sh` sets it.
pub(crate) fn options() -> Options {
    let providers = match std::env::var("UPCYCLE_TEST_ORT_PROVIDER").as_deref() {
        Ok("cuda") => vec![Provider::Cuda, Provider::Cpu],
        Ok("cpu") | Err(_) => vec![Provider::Cpu],
        Ok(other) => panic!("UPCYCLE_TEST_ORT_PROVIDER is cuda or cpu, not {other}"),
    };
    Options { intra_threads: 2.try_into().ok(), spinning: false, providers, ..Options::default() }
}

/// A temporary folder with a model.
pub(crate) struct Folder {
    _parent: TempDir,
    pub(crate) path: PathBuf,
}

/// Exports a model.
pub(crate) fn exported(model: &Path, weights: WeightType) -> Folder {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let path = parent.path().join("exported");
    let mut wanted = upcycle_onnx::export::ExportOptions::default();
    wanted.weights = weights;
    export(model, &path, wanted, &mut |_, _| ()).unwrap_or_else(|error| panic!("{}", chain(&error)));
    Folder { _parent: parent, path }
}

/// Overwrites bytes of a weight of an exported graph, from `start` on.
pub(crate) fn overwrite(folder: &Folder, weight: &str, start: usize, bytes: &[u8]) {
    let graph = fs::read(folder.path.join(MODEL_FILE)).expect("written");
    let graph = Onnx::decode(&graph[..]).ok().and_then(|model| model.graph).expect("a graph");
    let tensor = graph.initializers.iter().find(|tensor| tensor.name == weight).expect("the weight");
    let entry = |key: &str| {
        let entry = tensor.external.iter().find(|entry| entry.key == key).expect("outside of the graph");
        entry.value.parse::<usize>().expect("a number")
    };
    assert!(start + bytes.len() <= entry("length"), "{weight} is shorter");
    let mut data = fs::read(folder.path.join(DATA_FILE)).expect("written");
    data[entry("offset") + start..][..bytes.len()].copy_from_slice(bytes);
    fs::write(folder.path.join(DATA_FILE), data).expect("to write");
}

pub(crate) fn load(folder: &Path) -> Arc<Model> {
    Model::load(folder, &options()).unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// A verifier in one memory or the other. On the CPU, device memory is host memory, used by the same code as a GPU's.
pub(crate) fn verifier(model: &Arc<Model>, memory: Memory) -> OrtVerifier {
    let verifier = OrtVerifier::with_memory(Arc::clone(model), memory);
    verifier.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// The error and its causes.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A tiny model that can be exported.
pub(crate) trait Export {
    /// From a GGUF file.
    fn export(&self, weights: WeightType) -> Folder;
    /// From a folder of safetensors of this type, in one file or in two.
    fn export_folder(&self, stored: GgmlType, shards: bool, weights: WeightType) -> Folder;
}

impl Export for Tiny {
    fn export(&self, weights: WeightType) -> Folder {
        exported(write(&self.writer(None)).path(), weights)
    }

    fn export_folder(&self, stored: GgmlType, shards: bool, weights: WeightType) -> Folder {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let typed = Self { attention: stored, ffn: stored, embedding: stored, ..self.clone() };
        typed.write_folder(folder.path(), shards);
        self.write_text(folder.path());
        exported(folder.path(), weights)
    }
}

/// A verifier with a shorter context than its model, so that tests can reach its end.
pub(crate) struct Short {
    inner: OrtVerifier,
    limits: Limits,
}

impl Short {
    pub(crate) fn new(inner: OrtVerifier, max_context: usize) -> Self {
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
    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        self.limits.check_inputs(inputs, |seq| self.inner.committed(seq))?;
        self.inner.forward(inputs, top)
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
