//! The exported folder: written aside, then renamed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::layout::{DATA_FILE, MAX_CONTEXT, MODEL_FILE, WEIGHTS};
use crate::schema::{Entry, IR_VERSION, MICROSOFT, Message, Model, OPSET, OperatorSet};
use upcycle_checkpoint::gguf::Gguf;
use upcycle_checkpoint::{CheckpointError, Source, folder_of};

use crate::export::architecture;
use crate::export::data::DataFile;
use crate::export::graph::Builder;
use crate::export::linear::Writer;
use crate::export::tensors::Tensors;
use crate::export::text::{self, TextFile};
use crate::export::{ExportError, Options, model};

/// The configuration in an exported folder.
pub const CONFIG_FILE: &str = "upcycle.toml";

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The architecture of the model.
    pub architecture: &'static str,
    /// Nodes of the graph.
    pub nodes: usize,
    /// Bytes of graph and weights.
    pub bytes: u64,
}

/// Exports the model at `path` into the folder `to`, which must not be there yet. The model is a GGUF file, or a folder
/// with a `config.json`, safetensors and a `tokenizer.json` (or one of the first two). Calls `progress` with the bytes of
/// weights written and about how many there will be.
///
/// # Errors
/// [`ExportError`]. Nothing is left behind then.
pub fn export(
    path: &Path,
    to: &Path,
    options: Options,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Exported, ExportError> {
    options.check()?;
    if to.exists() {
        return Err(ExportError::Exists { path: to.to_owned() });
    }
    let source = Source::open(path)?;
    architecture::check(&source.model)?;
    let hyperparameters = source.model.clone();
    let text_files = match folder_of(path) {
        Some(folder) => text::of_folder(folder, hyperparameters.vocab)?,
        None => {
            let failed = |source| CheckpointError::Gguf { path: path.to_owned(), source };
            text::of_gguf(&Gguf::open(path).map_err(failed)?, hyperparameters.vocab)?
        }
    };
    let source = Tensors::new(source)?;
    let expected = expected_bytes(&source, options);

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
    let place = |name: &str| folder.path().join(name);

    let data_path = place(DATA_FILE);
    let data = DataFile::new(File::create(&data_path).map_err(failed(&data_path))?);
    let mut writer = Writer { source, graph: Builder::default(), data, path: data_path.clone(), options };
    model::build(&mut writer, &hyperparameters, &mut |written| progress(written, expected))?;
    let bytes = writer.data.len();
    writer.data.finish().map_err(failed(&data_path))?;

    let graph = writer.graph.finish(hyperparameters.architecture.name());
    let nodes = graph.nodes.len();
    let opset = |domain: &str, version| OperatorSet { domain: domain.to_owned(), version };
    let entry = |key: &str, value: String| Entry { key: key.to_owned(), value };
    let model = Model {
        ir_version: IR_VERSION,
        producer_name: "upcycle".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opsets: vec![opset("", OPSET), opset(MICROSOFT, 1)],
        metadata: vec![
            entry(MAX_CONTEXT, hyperparameters.context.to_string()),
            entry(WEIGHTS, options.weights.name().to_owned()),
        ],
        ..Model::default()
    }
    .encode_to_vec();
    let write = |name: &str, bytes: &[u8]| {
        let path = place(name);
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

/// Gives the folder its name.
fn publish(folder: tempfile::TempDir, to: &Path) -> Result<(), ExportError> {
    let failed = |source| ExportError::Write { path: to.to_owned(), source };
    // A temporary folder is for its owner alone.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    fs::rename(folder.path(), to).map_err(failed)?;
    // It has moved away, and must not be deleted under its new name.
    let _ = folder.keep();
    Ok(())
}

/// About how many bytes of weights there will be: for the progress alone.
fn expected_bytes(source: &Tensors, options: Options) -> u64 {
    let (bytes, elements) = source.sizes();
    match options.weights {
        crate::export::Weights::F32 => 4 * elements,
        crate::export::Weights::F16 => 2 * elements,
        crate::export::Weights::Int8 => 2 * elements,
        crate::export::Weights::Int4 => elements.min(2 * bytes),
    }
}

/// A configuration that runs the folder that it stands in.
fn configuration(options: Options) -> String {
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
