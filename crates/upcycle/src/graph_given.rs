//! A graph where a backend reads weights.

use std::path::PathBuf;

use crate::Source;
use crate::engine::{CONFIG_FILE, GRAPH_FILE, model_folder};

/// The model is a graph for ONNX Runtime.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} is a graph for ONNX Runtime, and this backend reads GGUF files and folders of safetensors; set \
     backend.name = \"ort\", or name the file that the graph was exported from",
    path = path.display()
)]
pub(crate) struct GraphGiven {
    path: PathBuf,
}

/// Refuses a folder that holds a graph and no weights.
pub(crate) fn refuse_graph(source: &Source<'_>) -> Result<(), GraphGiven> {
    let folder = model_folder(source.path).unwrap_or(source.path);
    if source.gguf.is_none() && folder.join(GRAPH_FILE).exists() && !folder.join(CONFIG_FILE).exists() {
        return Err(GraphGiven { path: source.path.to_owned() });
    }
    Ok(())
}
