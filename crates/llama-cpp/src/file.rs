//! Opening a model's file or files: by our reader first, then by llama.cpp.

use std::path::Path;

use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use upcycle_checkpoint::gguf::{GgufError, SplitFiles};

use crate::error::LoadError;
use crate::native::{Library, library, listen};

/// Reads the headers of a model, given its file or its first part.
///
/// # Errors
/// [`LoadError::MissingPart`], [`LoadError::Gguf`].
pub(crate) fn open(path: &Path) -> Result<SplitFiles, LoadError> {
    SplitFiles::open(path).map_err(|error| match error {
        GgufError::Part { path: part, count, source } if matches!(*source, GgufError::Open { .. }) => {
            LoadError::MissingPart { path: path.to_owned(), part, count, reason: reason(path) }
        }
        source => LoadError::Gguf { path: path.to_owned(), source },
    })
}

/// llama.cpp's reason to refuse a model with a missing part.
fn reason(path: &Path) -> String {
    let params = LlamaModelParams::default().with_vocab_only(true);
    let loaded = library().and_then(|library| load(library, path, &params));
    match loaded {
        Err(LoadError::Model { reason, .. }) => reason,
        Err(error) => error.to_string(),
        Ok(_) => "llama.cpp found the part a moment later".to_owned(),
    }
}

/// Loads a file that [`open`] has accepted.
///
/// # Errors
/// [`LoadError::Path`], [`LoadError::Model`].
pub(crate) fn load(
    library: &Library,
    path: &Path,
    params: &LlamaModelParams,
) -> Result<LlamaModel, LoadError> {
    if path.to_str().is_none_or(|path| path.contains('\0')) {
        return Err(LoadError::Path { path: path.to_owned() });
    }
    let (loaded, reason) = listen(|| LlamaModel::load_from_file(&library.backend, path, params));
    loaded.map_err(|_| LoadError::Model { path: path.to_owned(), reason })
}
