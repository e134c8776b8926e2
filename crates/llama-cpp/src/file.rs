//! A model's file, or files, before llama.cpp sees them.

use std::path::Path;

use llama_cpp_2::model::params::LlamaModelParams;
use upcycle_checkpoint::gguf::{GgufError, Parts};

use crate::native::library;
use crate::{LoadError, vocabulary};

/// The headers of a model that is whole, or whose first part is given.
///
/// # Errors
/// [`LoadError::MissingPart`], [`LoadError::Gguf`].
pub(crate) fn open(path: &Path) -> Result<Parts, LoadError> {
    Parts::open(path).map_err(|error| match error {
        GgufError::Part { path: part, count, source } if matches!(*source, GgufError::Open { .. }) => {
            let (path, reason) = (path.to_owned(), reason(path));
            LoadError::MissingPart { path, part, count, reason }
        }
        source => LoadError::Gguf { path: path.to_owned(), source },
    })
}

/// What llama.cpp says to a model of which a part is missing.
fn reason(path: &Path) -> String {
    let params = LlamaModelParams::default().with_vocab_only(true);
    let loaded = library().and_then(|library| vocabulary::load(library, path, &params));
    match loaded {
        Err(LoadError::Model { reason, .. }) => reason,
        Err(error) => error.to_string(),
        Ok(_) => "it found the part a moment later".to_owned(),
    }
}
