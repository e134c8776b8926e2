//! The error for an ONNX graph with a backend that reads weights.

use std::path::PathBuf;

use crate::model_files::{CONFIG_FILE, GRAPH_FILE, model_folder};
use crate::parts::ModelSource;

#[derive(Debug, thiserror::Error)]
#[error(
    "{path} is a graph for ONNX Runtime, and this backend reads GGUF files and folders of safetensors; set \
     backend.name = \"ort\", or name the file that the graph was exported from",
    path = path.display()
)]
pub(super) struct GraphGiven {
    path: PathBuf,
}

/// Refuses a folder with a graph and no safetensors.
pub(super) fn refuse_graph(model: ModelSource<'_>) -> Result<(), GraphGiven> {
    let folder = model_folder(model.path).unwrap_or(model.path);
    if model.gguf.is_none() && folder.join(GRAPH_FILE).exists() && !folder.join(CONFIG_FILE).exists() {
        return Err(GraphGiven { path: model.path.to_owned() });
    }
    Ok(())
}
