//! A file of the model, read part by part.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::CheckpointError;

/// A file of the model, open for reading.
///
/// It may be replaced or removed: what was opened stays there. Of a file that is written to, reading makes an error where
/// a part is gone, and [`check_unchanged`](Self::check_unchanged) says the rest.
#[derive(Debug)]
pub struct ModelFile {
    path: PathBuf,
    file: File,
    /// When it was opened.
    state: State,
}

/// What tells that a file was written to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    len: u64,
    /// Where a system does not tell times, the length has to do.
    modified: Option<SystemTime>,
}

impl State {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { len: metadata.len(), modified: metadata.modified().ok() })
    }
}

impl ModelFile {
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let opened = File::open(path).and_then(|file| Ok((State::of(&file)?, file)));
        let (state, file) =
            opened.map_err(|source| CheckpointError::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file, state })
    }

    /// Its bytes when it was opened.
    pub(crate) fn len(&self) -> u64 {
        self.state.len
    }

    /// The file itself; whoever reads it this way meets its end where it is now.
    pub(crate) fn reader(&self) -> impl Read + Seek + '_ {
        &self.file
    }

    /// Fills `bytes` with those from byte `offset` on.
    pub(crate) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> Result<(), CheckpointError> {
        self.read_exact(offset, bytes).map_err(|source| self.read_error(source))
    }

    fn read_exact(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(bytes)
    }

    fn read_error(&self, source: io::Error) -> CheckpointError {
        match source.kind() {
            // The part lay within the file when that was opened.
            ErrorKind::UnexpectedEof => CheckpointError::Changed { path: self.path.clone() },
            _ => self.error(source),
        }
    }

    /// The open file, for whoever maps it.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Refuses a file that was written to since it was opened, as far as its length and the time of its last change tell.
    ///
    /// # Errors
    /// [`CheckpointError::Changed`].
    pub fn check_unchanged(&self) -> Result<(), CheckpointError> {
        match State::of(&self.file) {
            Ok(state) if state == self.state => Ok(()),
            Ok(_) => Err(CheckpointError::Changed { path: self.path.clone() }),
            Err(source) => Err(self.error(source)),
        }
    }

    /// What the operating system said of this file, as an error.
    #[must_use]
    pub fn error(&self, source: io::Error) -> CheckpointError {
        CheckpointError::File { path: self.path.clone(), source }
    }
}
