//! Split models, as llama.cpp's `llama-gguf-split` writes them.

use std::path::{Path, PathBuf};

use crate::gguf::error::GgufError;
use crate::gguf::header::{Gguf, SplitPart};
use crate::gguf::read::{open_any, open_any_lenient};
use crate::gguf::tensor::TensorInfo;

/// The headers of all files of a model.
///
/// Each part has `split.no` (from 0), `split.count` and a name like `NAME-00002-of-00003.gguf`. The first part contains the model's
/// metadata. Tensors are spread over all parts.
#[derive(Debug)]
pub struct SplitFiles {
    /// At least one.
    files: Vec<(PathBuf, Gguf)>,
}

impl SplitFiles {
    /// Reads the headers of a whole model, or of all parts of a split one by its first part. The parts must be in one folder.
    ///
    /// # Errors
    /// As for [`Gguf::open_first`], and [`GgufError::PartName`], [`GgufError::Part`] and [`GgufError::OtherPart`].
    pub fn open(first: impl AsRef<Path>) -> Result<Self, GgufError> {
        Self::open_with(first.as_ref(), open_any)
    }

    /// As [`open`](Self::open), and passes on the faults that [`Gguf::open_lenient`] lists.
    ///
    /// # Errors
    /// As for [`open`](Self::open), for all other faults.
    pub fn open_lenient(first: impl AsRef<Path>) -> Result<Self, GgufError> {
        Self::open_with(first.as_ref(), |path| open_any_lenient(path).map(|(gguf, _)| gguf))
    }

    fn open_with(path: &Path, open: impl Fn(&Path) -> Result<Gguf, GgufError>) -> Result<Self, GgufError> {
        let gguf = open(path)?.expect_first()?;
        let Some(SplitPart { count, .. }) = gguf.split_part() else {
            return Ok(Self { files: vec![(path.to_owned(), gguf)] });
        };
        let prefix = path.to_str().and_then(|path| path.strip_suffix(&suffix(0, count)));
        let prefix = prefix.ok_or_else(|| GgufError::PartName { path: path.to_owned(), count })?;
        let mut files = vec![(path.to_owned(), gguf)];
        for number in 1..count {
            let path = PathBuf::from(format!("{prefix}{}", suffix(number, count)));
            let part = |source| GgufError::Part { path: path.clone(), count, source: Box::new(source) };
            let gguf = open(&path).map_err(part)?;
            if gguf.split_part() != Some(SplitPart { number, count }) {
                return Err(GgufError::OtherPart { path, number: number + 1, count });
            }
            files.push((path, gguf));
        }
        Ok(Self { files })
    }

    /// The header with the model's metadata.
    #[must_use]
    pub fn first(&self) -> &Gguf {
        &self.files[0].1
    }

    /// The parts and their headers, in order.
    pub fn files(&self) -> impl ExactSizeIterator<Item = (&Path, &Gguf)> {
        self.files.iter().map(|(path, gguf)| (&**path, gguf))
    }

    /// The tensors of all parts. Each offset counts within its own part.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.files.iter().flat_map(|(_, gguf)| gguf.tensors())
    }
}

/// The end of a part's file name; `number` counts from 0.
fn suffix(number: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", number + 1)
}
