//! The files of a model: one GGUF file, or a folder with a graph or safetensors.

use std::path::Path;

/// The graph in a folder that `upcycle export` wrote.
pub(crate) const GRAPH_FILE: &str = "model.onnx";

/// The file of a folder of safetensors that says which model it is.
pub(crate) const CONFIG_FILE: &str = "config.json";

/// The folder of a model that consists of several files: a graph or safetensors, and a tokenizer.
///
/// It is `path` itself, or the folder that contains `path` if that is a graph, a `config.json` or a safetensors file. `None` for
/// any other file.
#[must_use]
pub fn model_folder(path: &Path) -> Option<&Path> {
    if path.is_dir() {
        return Some(path);
    }
    let of_folder = path.file_name().is_some_and(|name| name == CONFIG_FILE)
        || path.extension().is_some_and(|extension| extension == "onnx" || extension == "safetensors");
    let parent = path.parent().filter(|_| of_folder)?;
    Some(if parent == Path::new("") { Path::new(".") } else { parent })
}
