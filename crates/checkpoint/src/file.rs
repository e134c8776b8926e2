use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::CheckpointError;

/// An open file of a model.
///
/// Replacing or removing the path does not affect an open file. Reading a truncated file is an error;
/// [`check_unchanged`](Self::check_unchanged) detects other changes.
#[derive(Debug)]
pub(crate) struct CheckpointFile {
    path: PathBuf,
    file: File,
    /// Its state when it was opened.
    state: State,
}

/// What shows that a file was written to.
#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    len: u64,
    /// `None` if the system does not record it.
    modified: Option<SystemTime>,
}

impl State {
    fn from_file(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self { len: metadata.len(), modified: metadata.modified().ok() })
    }
}

impl CheckpointFile {
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let opened = File::open(path).and_then(|file| Ok((State::from_file(&file)?, file)));
        let (state, file) =
            opened.map_err(|source| CheckpointError::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file, state })
    }

    /// Its length when it was opened, in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.state.len
    }

    /// A reader of the file as it is now.
    pub(crate) fn reader(&self) -> impl Read + Seek + '_ {
        &self.file
    }

    /// Fills `bytes` from byte `offset` on.
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
            // The bytes were within the file when it was opened.
            ErrorKind::UnexpectedEof => CheckpointError::Changed { path: self.path.clone() },
            _ => self.error(source),
        }
    }

    /// Checks by length and modification time that the file was not written to since it was opened.
    ///
    /// # Errors
    /// [`CheckpointError::Changed`].
    pub(crate) fn check_unchanged(&self) -> Result<(), CheckpointError> {
        match State::from_file(&self.file) {
            Ok(state) if state == self.state => Ok(()),
            Ok(_) => Err(CheckpointError::Changed { path: self.path.clone() }),
            Err(source) => Err(self.error(source)),
        }
    }

    /// The typed error for a system error with this file.
    fn error(&self, source: io::Error) -> CheckpointError {
        CheckpointError::File { path: self.path.clone(), source }
    }
}
