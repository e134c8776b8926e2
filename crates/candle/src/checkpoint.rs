//! The tensors of a model's files, by the names that GGUF files give them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use upcycle_gguf::{Architecture, Gguf, Hyperparameters, TensorInfo};

use crate::file::ModelFile;
use crate::mapped::Mapped;
use crate::{LoadError, folder};

/// A model's files, read up to its weights.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) model: Hyperparameters,
    pub(crate) checkpoint: Checkpoint,
    /// Whether the head is the embedding.
    pub(crate) tied: bool,
    /// Whether queries, keys and values have a bias.
    pub(crate) biased: bool,
}

/// Where the tensors stand.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    path: PathBuf,
    files: Vec<ModelFile>,
    /// By the name that the tensor has in a GGUF file; by its own, if it has none there.
    entries: BTreeMap<String, Entry>,
    /// What a tensor is called in these files.
    name: fn(&str) -> String,
}

/// A tensor.
#[derive(Debug)]
pub(crate) struct Entry {
    file: usize,
    /// Its name in its file, its type, its shape (innermost dimension first), its place in its file.
    pub(crate) info: TensorInfo,
}

impl Source {
    /// Reads a GGUF file, or a folder of safetensors with a `config.json`; of the latter any file may be named as well.
    pub(crate) fn open(path: &Path) -> Result<Self, LoadError> {
        match folder::of(path) {
            Some(folder) => folder::open(folder),
            None => Self::gguf(path),
        }
    }

    fn gguf(path: &Path) -> Result<Self, LoadError> {
        let file = ModelFile::open(path)?;
        let gguf_error = |source| LoadError::Gguf { path: path.to_owned(), source };
        let gguf = Gguf::read(&mut file.reader()).map_err(gguf_error)?;
        let model = Hyperparameters::read(&gguf).map_err(|source| LoadError::of_metadata(path, source))?;
        let mut checkpoint = Checkpoint::new(path, str::to_owned);
        let file = checkpoint.add_file(file);
        for info in gguf.tensors() {
            checkpoint.add(info.name.clone(), file, info.clone());
        }
        let tied = !checkpoint.has("output.weight");
        let biased = model.architecture.is_biased() || checkpoint.has("blk.0.attn_q.bias");
        Ok(Self { model, checkpoint, tied, biased })
    }

    pub(crate) fn architecture(&self) -> Architecture {
        self.model.architecture
    }
}

impl Checkpoint {
    /// Refuses what was read of a file that was changed meanwhile.
    pub(crate) fn check_unchanged(&self) -> Result<(), LoadError> {
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

    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The tensor, if it is there and has this shape (innermost dimension first).
    pub(crate) fn find(&self, name: &str, shape: &[usize]) -> Result<&Entry, LoadError> {
        let Some(entry) = self.entries.get(name) else {
            let (path, tensor) = (self.path.clone(), (self.name)(name));
            return Err(LoadError::MissingTensor { path, tensor, count: self.entries.len() });
        };
        let expected: Vec<u64> = shape.iter().map(|&dimension| dimension as u64).collect();
        if entry.info.shape != expected {
            let (tensor, found) = (entry.info.name.clone(), entry.info.shape.clone());
            return Err(LoadError::Shape { tensor, expected, found });
        }
        Ok(entry)
    }

    /// The names of all tensors, as in GGUF files, and the tensors.
    pub(crate) fn tensors(&self) -> impl ExactSizeIterator<Item = (&str, &TensorInfo)> + '_ {
        self.entries.iter().map(|(name, entry)| (name.as_str(), &entry.info))
    }

    /// The mapped file that a tensor lies in.
    pub(crate) fn map(&self, entry: &Entry) -> Result<&Mapped, LoadError> {
        self.files[entry.file].map()
    }

    /// The bytes of a tensor, in memory of their own.
    pub(crate) fn read(&self, entry: &Entry) -> Result<Mapped, LoadError> {
        // The reader of the header has checked that the tensor lies in the file.
        let TensorInfo { name, offset, bytes, .. } = &entry.info;
        let len =
            usize::try_from(*bytes).map_err(|_| LoadError::Memory { tensor: name.clone(), bytes: *bytes })?;
        self.files[entry.file].read(*offset, len)
    }

    /// As [`read`](Self::read), into `bytes`, which are as many as the tensor has.
    pub(crate) fn read_into(&self, entry: &Entry, bytes: &mut [u8]) -> Result<(), LoadError> {
        self.files[entry.file].read_into(entry.info.offset, bytes)
    }

    /// Whether two tensors, if both are there, have the same bytes.
    pub(crate) fn are_equal(&self, one: &str, other: &str) -> Result<bool, LoadError> {
        const PART: u64 = 1 << 20;
        let (Some(one), Some(other)) = (self.entries.get(one), self.entries.get(other)) else {
            return Ok(false);
        };
        if one.info.bytes != other.info.bytes {
            return Ok(false);
        }
        for start in (0..one.info.bytes).step_by(PART as usize) {
            let len = PART.min(one.info.bytes - start) as usize;
            let part = |entry: &Entry| self.files[entry.file].read(entry.info.offset + start, len);
            if part(one)?.bytes() != part(other)?.bytes() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
