//! The tensors of a model's files, by the names that GGUF files give them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::gguf::{Gguf, HyperparameterError, Hyperparameters, TensorInfo};

use crate::file::ModelFile;
use crate::{CheckpointError, folder};

/// A model's files, read up to its weights.
#[derive(Debug)]
#[non_exhaustive]
pub struct Source {
    /// Its sizes.
    pub model: Hyperparameters,
    /// Its tensors.
    pub checkpoint: Checkpoint,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Whether queries, keys and values have a bias.
    pub biased: bool,
}

/// Where the tensors stand.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    files: Vec<ModelFile>,
    /// By the name that the tensor has in a GGUF file; by its own, if it has none there.
    entries: BTreeMap<String, Entry>,
    /// What a tensor is called in these files.
    name: fn(&str) -> String,
}

/// A tensor.
#[derive(Debug)]
pub struct Entry {
    file: usize,
    info: TensorInfo,
}

impl Entry {
    /// Its name in its file, its type, its shape (innermost dimension first), its place in its file.
    #[must_use]
    pub fn info(&self) -> &TensorInfo {
        &self.info
    }

    /// The number of its file, an index into [`Checkpoint::files`].
    #[must_use]
    pub fn file(&self) -> usize {
        self.file
    }
}

impl Source {
    /// Reads a GGUF file, or a folder of safetensors with a `config.json`; of the latter any file may be named as well.
    ///
    /// # Errors
    /// [`CheckpointError`]: a file cannot be read, is not sound, or holds another model than is known here.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        match folder::of(path) {
            Some(folder) => folder::open(folder),
            None => Self::gguf(path),
        }
    }

    fn gguf(path: &Path) -> Result<Self, CheckpointError> {
        let file = ModelFile::open(path)?;
        let gguf_error = |source| CheckpointError::Gguf { path: path.to_owned(), source };
        let gguf = Gguf::read(&mut file.reader()).map_err(gguf_error)?;
        let model =
            Hyperparameters::read(&gguf).map_err(|source| CheckpointError::of_metadata(path, source))?;
        let mut checkpoint = Checkpoint::new(path, str::to_owned);
        let file = checkpoint.add_file(file);
        for info in gguf.tensors() {
            checkpoint.add(info.name.clone(), file, info.clone());
        }
        let tied = !checkpoint.has("output.weight");
        let biased = model.architecture.is_biased() || checkpoint.has("blk.0.attn_q.bias");
        Ok(Self { model, checkpoint, tied, biased })
    }
}

impl Checkpoint {
    /// Refuses what was read of a file that was changed meanwhile.
    ///
    /// # Errors
    /// [`CheckpointError::Changed`].
    pub fn check_unchanged(&self) -> Result<(), CheckpointError> {
        self.files.iter().try_for_each(ModelFile::check_unchanged)
    }

    /// One without tensors, whose files call them by `name` of their name in GGUF files.
    pub(crate) fn new(path: &Path, name: fn(&str) -> String) -> Self {
        Self { path: path.to_owned(), files: Vec::new(), entries: BTreeMap::new(), name }
    }

    /// Adds a file, and gives its number.
    pub(crate) fn add_file(&mut self, file: ModelFile) -> usize {
        self.files.push(file);
        self.files.len() - 1
    }

    /// Adds a tensor that lies within a file; false if there is one of this name.
    pub(crate) fn add(&mut self, name: String, file: usize, info: TensorInfo) -> bool {
        self.entries.insert(name, Entry { file, info }).is_none()
    }

    /// Takes a tensor out.
    pub(crate) fn remove(&mut self, name: &str) {
        self.entries.remove(name);
    }

    /// Whether there is a tensor of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The tensor, if it is there and has this shape (innermost dimension first).
    ///
    /// # Errors
    /// [`CheckpointError::MissingTensor`], [`HyperparameterError::Shape`].
    pub fn find(&self, name: &str, shape: &[usize]) -> Result<&Entry, CheckpointError> {
        let Some(entry) = self.entries.get(name) else {
            let (path, tensor) = (self.path.clone(), (self.name)(name));
            return Err(CheckpointError::MissingTensor { path, tensor, count: self.entries.len() });
        };
        let expected: Vec<u64> = shape.iter().map(|&dimension| dimension as u64).collect();
        if entry.info.shape != expected {
            let (tensor, found) = (entry.info.name.clone(), entry.info.shape.clone());
            return Err(CheckpointError::Model(HyperparameterError::Shape { tensor, expected, found }));
        }
        Ok(entry)
    }

    /// The tensor of this name, whatever its shape.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// The names of all tensors, as in GGUF files, and the tensors.
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = (&str, &TensorInfo)> + '_ {
        self.entries.iter().map(|(name, entry)| (name.as_str(), &entry.info))
    }

    /// The files, in the order of their numbers.
    #[must_use]
    pub fn files(&self) -> &[ModelFile] {
        &self.files
    }

    /// Fills `bytes` with those of a tensor from its byte `start` on.
    ///
    /// # Errors
    /// They cannot be read, or are gone; a part that is not the tensor's is read as if it were.
    pub fn read_into(&self, entry: &Entry, start: u64, bytes: &mut [u8]) -> Result<(), CheckpointError> {
        self.files[entry.file].read_into(entry.info.offset.saturating_add(start), bytes)
    }

    /// Whether two tensors, if both are there, have the same bytes.
    pub(crate) fn are_equal(&self, one: &str, other: &str) -> Result<bool, CheckpointError> {
        const PART: u64 = 1 << 20;
        let (Some(one), Some(other)) = (self.entries.get(one), self.entries.get(other)) else {
            return Ok(false);
        };
        if one.info.bytes != other.info.bytes {
            return Ok(false);
        }
        for start in (0..one.info.bytes).step_by(PART as usize) {
            let mut parts =
                [one, other].map(|entry| (entry, vec![0; PART.min(one.info.bytes - start) as usize]));
            for (entry, bytes) in &mut parts {
                self.read_into(entry, start, bytes)?;
            }
            if parts[0].1 != parts[1].1 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
