//! Reading the file of a graph.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use upcycle_onnx::schema::{Graph, Message, Model};

use crate::error::LoadError;

/// The largest protobuf.
pub(super) const PROTOBUF_LIMIT: u64 = (1 << 31) - 1;

/// Where the runtime reads the graph.
#[derive(Debug)]
pub(crate) enum GraphSource {
    /// In a file.
    File(PathBuf),
    /// In memory, with weights in this folder.
    Memory { bytes: Vec<u8>, folder: PathBuf },
}

/// The graph of a model.
///
/// # Errors
/// [`LoadError::NotOnnx`] if it has none.
pub(super) fn graph_of<'a>(path: &Path, model: &'a Model) -> Result<&'a Graph, LoadError> {
    let graph = model.graph.as_ref().filter(|graph| !graph.nodes.is_empty() && !graph.outputs.is_empty());
    graph.ok_or_else(|| LoadError::NotOnnx { path: path.to_owned(), hint: "", source: None })
}

/// What a file that is no graph seems to be.
fn hint(start: &[u8]) -> &'static str {
    match start {
        [b'v', b'e', b'r', b's', b'i', b'o', b'n', b' ', ..] => {
            "; this seems to be a pointer of Git LFS: fetch the file itself with `git lfs pull`"
        }
        [b'<', ..] => {
            "; this seems to be a web page: on Hugging Face, download from `resolve`, not from `blob`"
        }
        _ => "",
    }
}

/// Reads and decodes a file. Returns its bytes too.
pub(super) fn open(path: &Path) -> Result<(Vec<u8>, Model), LoadError> {
    let failed = |source| LoadError::File { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let mut start = Vec::new();
    file.by_ref().take(4).read_to_end(&mut start).map_err(failed)?;
    if start == b"GGUF" {
        return Err(LoadError::Gguf { path: path.to_owned() });
    }
    if bytes > PROTOBUF_LIMIT {
        return Err(LoadError::TooLarge { path: path.to_owned(), bytes });
    }
    file.read_to_end(&mut start).map_err(failed)?;
    let model = Model::decode(&start[..]).map_err(|error| {
        let (path, hint) = (path.to_owned(), hint(&start));
        LoadError::NotOnnx { path, hint, source: Some(error) }
    })?;
    Ok((start, model))
}
