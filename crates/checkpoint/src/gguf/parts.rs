//! Models in several files, as llama.cpp's `llama-gguf-split` writes them.

use std::path::{Path, PathBuf};

use crate::gguf::read::open;
use crate::gguf::{Gguf, GgufError, TensorInfo};

/// The headers of a model in one file, or in several.
///
/// Each part has `split.no` (from 0), `split.count` and a name of its own: `NAME-00002-of-00003.gguf`. The first holds the
/// model's metadata, and tensors lie in any.
#[derive(Debug)]
pub struct Parts {
    /// Not empty.
    files: Vec<(PathBuf, Gguf)>,
}

impl Parts {
    /// Reads the headers of a model that is whole or whose first part is given; the others lie beside it.
    ///
    /// # Errors
    /// As for [`Gguf::open_first`]; [`GgufError::PartName`], [`GgufError::Part`], [`GgufError::OtherPart`].
    pub fn open(first: impl AsRef<Path>) -> Result<Self, GgufError> {
        let path = first.as_ref();
        let gguf = Gguf::open_first(path)?;
        let Some((_, count)) = split(&gguf) else { return Ok(Self { files: vec![(path.to_owned(), gguf)] }) };
        let prefix = path.to_str().and_then(|path| path.strip_suffix(&suffix(0, count)));
        let prefix = prefix.ok_or_else(|| GgufError::PartName { path: path.to_owned(), count })?;
        let mut files = vec![(path.to_owned(), gguf)];
        for number in 1..count {
            let path = PathBuf::from(format!("{prefix}{}", suffix(number, count)));
            let part = |source| GgufError::Part { path: path.clone(), count, source: Box::new(source) };
            let gguf = open(&path).map_err(part)?;
            if split(&gguf) != Some((number, count)) {
                return Err(GgufError::OtherPart { path, number: number + 1, count });
            }
            files.push((path, gguf));
        }
        Ok(Self { files })
    }

    /// The header that holds the model's metadata.
    #[must_use]
    pub fn first(&self) -> &Gguf {
        &self.files[0].1
    }

    /// The parts and their headers, in order.
    pub fn files(&self) -> impl ExactSizeIterator<Item = (&Path, &Gguf)> {
        self.files.iter().map(|(path, gguf)| (&**path, gguf))
    }

    /// The tensors of all parts; their offsets count within the part that holds them.
    pub fn tensors(&self) -> impl Iterator<Item = &TensorInfo> {
        self.files.iter().flat_map(|(_, gguf)| gguf.tensors())
    }
}

impl Gguf {
    /// Reads the header of a whole model, or of the first part of one in several files, which holds its metadata and some of
    /// its tensors. For whoever needs all of them there is [`Parts`].
    ///
    /// # Errors
    /// [`GgufError::NotFirstPart`], or as for [`open`](Self::open).
    pub fn open_first(path: impl AsRef<Path>) -> Result<Self, GgufError> {
        let gguf = open(path.as_ref())?;
        match split(&gguf) {
            Some((number, count)) if number > 0 => {
                Err(GgufError::NotFirstPart { number: number.saturating_add(1), count })
            }
            _ => Ok(gguf),
        }
    }
}

/// Which part of how many a file is, from 0; none if it is whole.
pub(crate) fn split(gguf: &Gguf) -> Option<(u64, u64)> {
    let number = |key| gguf.get(key).and_then(crate::gguf::Value::as_integer);
    let at_least_0 = |number: i128| u64::try_from(number.max(0)).unwrap_or(u64::MAX);
    let count = number("split.count").filter(|&count| count > 1)?;
    Some((at_least_0(number("split.no").unwrap_or(0)), at_least_0(count)))
}

/// How the name of a part ends.
fn suffix(number: u64, count: u64) -> String {
    format!("-{:05}-of-{count:05}.gguf", number + 1)
}
