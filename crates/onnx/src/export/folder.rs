//! Writes an exported folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use upcycle_checkpoint::gguf::Gguf;
use upcycle_checkpoint::{Checkpoint, CheckpointError, folder_of};

use super::data_file::DataFile;
use super::error::ExportError;
use super::graph_builder::GraphBuilder;
use super::options::{ExportOptions, WeightType};
use super::tensors::Tensors;
use super::text_files::{self, TextFile};
use super::writer::Writer;
use super::{model, rotary};
use crate::layout::{DATA_FILE, MAX_CONTEXT, MODEL_FILE, WEIGHTS};
use crate::schema::{Entry, IR_VERSION, MICROSOFT, Message, Model, OPSET, OperatorSet};

/// The configuration in an exported folder.
pub const CONFIG_FILE: &str = "upcycle.toml";

/// The result of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The architecture of the model.
    pub architecture: &'static str,
    /// The number of nodes in the graph.
    pub nodes: usize,
    /// The size of graph and weights, in bytes.
    pub bytes: u64,
}

/// Exports the model at `path` into the folder `to`, which must not exist. The model is a GGUF file, or a folder with a
/// `config.json`, safetensors and a `tokenizer.json`. Calls `progress` with the bytes of weights written and an estimate of the
/// total.
///
/// # Errors
/// [`ExportError`]. No files are left behind.
pub fn export(
    path: &Path,
    to: &Path,
    options: ExportOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Exported, ExportError> {
    options.check()?;
    if to.exists() {
        return Err(ExportError::Exists { path: to.to_owned() });
    }
    let checkpoint = Checkpoint::open(path)?;
    let hyperparameters = checkpoint.hyperparameters.clone();
    rotary::check(&hyperparameters)?;
    let text_files = match folder_of(path) {
        Some(folder) => text_files::from_folder(folder, hyperparameters.vocab)?,
        None => {
            let failed = |source| CheckpointError::Gguf { path: path.to_owned(), source };
            text_files::from_gguf(&Gguf::open(path).map_err(failed)?, hyperparameters.vocab)?
        }
    };
    let tensors = Tensors::new(checkpoint)?;
    let expected = expected_bytes(&tensors, options);

    let parent = match to.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ExportError::Write { path, source }
    };
    fs::create_dir_all(&parent).map_err(failed(&parent))?;
    let folder = tempfile::Builder::new().prefix(".export-").tempdir_in(&parent).map_err(failed(&parent))?;
    let at = |name: &str| folder.path().join(name);

    let data_path = at(DATA_FILE);
    let data = DataFile::new(File::create(&data_path).map_err(failed(&data_path))?);
    let mut writer =
        Writer { tensors, graph: GraphBuilder::default(), data, path: data_path.clone(), options };
    model::build(&mut writer, &hyperparameters, &mut |written| progress(written, expected))?;
    let bytes = writer.data.len();
    writer.data.finish().map_err(failed(&data_path))?;

    let graph = writer.graph.finish(hyperparameters.architecture.name());
    let nodes = graph.nodes.len();
    let opset = |domain: &str, version| OperatorSet { domain: domain.to_owned(), version };
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "upcycle".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opsets: vec![opset("", OPSET), opset(MICROSOFT, 1)],
        metadata: vec![
            Entry::new(MAX_CONTEXT, hyperparameters.context),
            Entry::new(WEIGHTS, options.weights.name()),
        ],
        ..Model::default()
    }
    .encode_to_vec();
    let write = |name: &str, bytes: &[u8]| {
        let path = at(name);
        fs::write(&path, bytes).map_err(failed(&path))
    };
    write(MODEL_FILE, &model)?;
    for TextFile { name, bytes } in &text_files {
        write(name, bytes)?;
    }
    write(CONFIG_FILE, configuration(options).as_bytes())?;
    publish(folder, to)?;
    progress(bytes, bytes);
    Ok(Exported {
        architecture: hyperparameters.architecture.name(),
        nodes,
        bytes: bytes + model.len() as u64,
    })
}

/// Renames the finished folder.
fn publish(folder: tempfile::TempDir, to: &Path) -> Result<(), ExportError> {
    let failed = |source| ExportError::Write { path: to.to_owned(), source };
    // Only its owner may read a temporary folder.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    fs::rename(folder.path(), to).map_err(failed)?;
    // It was renamed; nothing is left to delete.
    let _ = folder.keep();
    Ok(())
}

/// An estimate of the bytes of weights, for the progress.
fn expected_bytes(tensors: &Tensors, options: ExportOptions) -> u64 {
    let (bytes, elements) = tensors.sizes();
    match options.weights {
        WeightType::F32 => 4 * elements,
        WeightType::F16 => 2 * elements,
        WeightType::Int8 => 2 * elements,
        WeightType::Int4 => elements.min(2 * bytes),
    }
}

/// A configuration that runs the exported folder.
fn configuration(options: ExportOptions) -> String {
    format!(
        "# An exported model on ONNX Runtime, with weights in {weights}.\n\
         #\n\
         #   ./scripts/setup-ort.sh\n\
         #   upcycle run --config {CONFIG_FILE} --prompt \"Why is the sky blue?\"\n\
         \n\
         [model]\n\
         path = \"{MODEL_FILE}\"\n\
         \n\
         [backend]\n\
         name = \"ort\"\n\
         \n\
         [backend.ort]\n\
         providers = [\"cpu\"]\n\
         \n\
         [drafter]\n\
         name = \"mixed\"\n\
         budget = \"auto\"\n",
        weights = options.weights.name(),
    )
}
