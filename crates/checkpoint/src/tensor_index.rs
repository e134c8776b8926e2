//! The tensors of a model's files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::CheckpointError;
use crate::file::CheckpointFile;
use crate::gguf::TensorInfo;
use crate::hyperparameters::HyperparameterError;

/// The tensors of a model, by their names in GGUF files, whatever the format of the model.
#[derive(Debug)]
pub struct TensorIndex {
    path: PathBuf,
    files: Vec<CheckpointFile>,
    /// By the name in GGUF files, or by its own name for a tensor without one.
    entries: BTreeMap<String, TensorEntry>,
    /// Translates a name in GGUF files to the name in these files.
    own_name: fn(&str) -> String,
}

/// A tensor and the file that contains it.
#[derive(Debug)]
pub struct TensorEntry {
    file: usize,
    info: TensorInfo,
}

impl TensorEntry {
    /// Its name in its file, type, shape (innermost dimension first) and offset.
    #[must_use]
    pub fn info(&self) -> &TensorInfo {
        &self.info
    }
}

impl TensorIndex {
    /// Checks that no file was changed since it was opened, by length and modification time.
    ///
    /// # Errors
    /// [`CheckpointError::Changed`].
    pub fn check_unchanged(&self) -> Result<(), CheckpointError> {
        self.files.iter().try_for_each(CheckpointFile::check_unchanged)
    }

    /// An empty index. `own_name` translates a name in GGUF files to the name in these files.
    pub(crate) fn new(path: &Path, own_name: fn(&str) -> String) -> Self {
        Self { path: path.to_owned(), files: Vec::new(), entries: BTreeMap::new(), own_name }
    }

    /// Adds a file and returns its index.
    pub(crate) fn add_file(&mut self, file: CheckpointFile) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    /// Adds a tensor of a file; false if the name is taken.
    pub(crate) fn add(&mut self, name: String, file: usize, info: TensorInfo) -> bool {
        self.entries.insert(name, TensorEntry { file, info }).is_none()
    }

    /// Removes a tensor.
    pub(crate) fn remove(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// Whether there is a tensor with this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The tensor with this name and shape (innermost dimension first).
    ///
    /// # Errors
    /// [`CheckpointError::MissingTensor`], [`HyperparameterError::Shape`].
    pub fn find(&self, name: &str, shape: &[usize]) -> Result<&TensorEntry, CheckpointError> {
        let Some(entry) = self.entries.get(name) else {
            let (path, tensor) = (self.path.clone(), (self.own_name)(name));
            return Err(CheckpointError::MissingTensor { path, tensor, count: self.entries.len() });
        };
        let expected: Vec<u64> = shape.iter().map(|&dimension| dimension as u64).collect();
        if entry.info.shape != expected {
            let (tensor, found) = (entry.info.name.clone(), entry.info.shape.clone());
            return Err(CheckpointError::Hyperparameters(HyperparameterError::Shape {
                tensor,
                expected,
                found,
            }));
        }
        Ok(entry)
    }

    /// The tensor with this name, if there is one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&TensorEntry> {
        self.entries.get(name)
    }

    /// All tensors with their names in GGUF files.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &TensorInfo)> + '_ {
        self.entries.iter().map(|(name, entry)| (name.as_str(), &entry.info))
    }

    /// Fills `bytes` with bytes of a tensor, from its byte `start` on. Does not check that they lie within the tensor.
    ///
    /// # Errors
    /// The bytes cannot be read, or the file was truncated.
    pub fn read_into(
        &self,
        entry: &TensorEntry,
        start: u64,
        bytes: &mut [u8],
    ) -> Result<(), CheckpointError> {
        self.files[entry.file].read_into(entry.info.offset.saturating_add(start), bytes)
    }

    /// Whether two tensors exist and have the same bytes.
    pub(crate) fn are_equal(&self, one: &str, other: &str) -> Result<bool, CheckpointError> {
        const CHUNK: u64 = 1 << 20;
        let (Some(one), Some(other)) = (self.entries.get(one), self.entries.get(other)) else {
            return Ok(false);
        };
        if one.info.bytes != other.info.bytes {
            return Ok(false);
        }
        for start in (0..one.info.bytes).step_by(CHUNK as usize) {
            let mut chunks =
                [one, other].map(|entry| (entry, vec![0; CHUNK.min(one.info.bytes - start) as usize]));
            for (entry, bytes) in &mut chunks {
                self.read_into(entry, start, bytes)?;
            }
            if chunks[0].1 != chunks[1].1 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
