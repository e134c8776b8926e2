//! Tiny models in temporary files.

use std::path::{Path, PathBuf};

use super::{Tiny, write};

/// How a model is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A GGUF file.
    Gguf,
    /// A folder with a `config.json` and one file of safetensors.
    Folder,
    /// The same with two files and an index.
    Shards,
}

/// A model in temporary files, which are deleted when this is dropped.
#[derive(Debug)]
pub struct Saved {
    path: PathBuf,
    _files: Files,
}

#[derive(Debug)]
#[expect(dead_code, reason = "kept for their destructors")]
enum Files {
    Gguf(tempfile::NamedTempFile),
    Folder(tempfile::TempDir),
}

impl Saved {
    /// The file or folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Tiny {
    /// Writes the model to temporary files.
    ///
    /// # Panics
    /// If a file cannot be written, or the format does not have the model's types.
    #[must_use]
    pub fn save(&self, format: Format) -> Saved {
        if format == Format::Gguf {
            let file = write(&self.writer(None));
            return Saved { path: file.path().to_owned(), _files: Files::Gguf(file) };
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        self.write_folder(folder.path(), format == Format::Shards);
        Saved { path: folder.path().to_owned(), _files: Files::Folder(folder) }
    }
}
