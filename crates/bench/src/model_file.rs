//! Names and checksums of model files.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use upcycle::model_folder;
use upcycle_checkpoint::gguf::SplitFiles;

use crate::error::BenchError;

/// The file name of a model, for reports, which must not show folders of this machine.
#[must_use]
pub fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// What one row of a pass takes, by a GGUF file's matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowWork {
    /// Bytes of weights that a pass reads. An embedding is left out, unless it is the head too.
    pub bytes: u64,
    /// Multiply-adds of a row.
    pub multiply_adds: u64,
}

/// What one row takes; none if the model is no GGUF file.
#[must_use]
pub fn row_work(path: &Path) -> Option<RowWork> {
    let parts = SplitFiles::open(path).ok()?;
    let tied = !parts.tensors().any(|tensor| tensor.name == "output.weight");
    let matrices = parts
        .tensors()
        .filter(|tensor| tensor.shape.len() > 1 && (tied || tensor.name != "token_embd.weight"));
    Some(matrices.fold(RowWork { bytes: 0, multiply_adds: 0 }, |work, tensor| RowWork {
        bytes: work.bytes + tensor.bytes,
        multiply_adds: work.multiply_adds + tensor.elements(),
    }))
}

/// The SHA-256 of a model in hex. A folder is hashed as its files one after another, ordered by name.
///
/// # Errors
/// [`BenchError::Io`].
pub fn sha256(path: &Path) -> Result<String, BenchError> {
    let hash = || -> io::Result<String> {
        let files = match model_folder(path) {
            Some(folder) => files_of(folder)?,
            None => vec![path.to_owned()],
        };
        let mut hash = Sha256::new();
        for path in files {
            io::copy(&mut File::open(path)?, &mut hash)?;
        }
        Ok(format!("{:x}", hash.finalize()))
    };
    hash().map_err(|source| BenchError::io("read", path, source))
}

/// The files in a folder, by name, without those in its subfolders.
fn files_of(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let mut files = entries.collect::<io::Result<Vec<_>>>()?;
    files.retain(|path| path.is_file());
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_graph_covers_the_files_beside_it() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let file = |name: &str| folder.path().join(name);
        for (name, text) in [("model.onnx", "b"), ("a.json", "a"), ("model.onnx.data", "c")] {
            fs::write(file(name), text)?;
        }
        fs::create_dir(file("below"))?;
        let all = format!("{:x}", Sha256::digest("abc"));
        assert_eq!(sha256(folder.path())?, all);
        assert_eq!(sha256(&file("model.onnx"))?, all);
        assert_eq!(sha256(&file("a.json"))?, format!("{:x}", Sha256::digest("a")));
        assert!(sha256(&file("gone")).is_err());
        Ok(())
    }
}
