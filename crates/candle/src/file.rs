//! A file of the model: read part by part, or mapped as a whole.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::SystemTime;

use crate::LoadError;
use crate::mapped::Mapped;

/// A file of the model, open for reading.
///
/// It may be replaced or removed: what was opened stays there. Of a file that is written to, [`read`](Self::read) makes an
/// error where a part is gone, and [`check_unchanged`](Self::check_unchanged) says the rest; only what is [mapped](Self::map)
/// must stay as it is.
#[derive(Debug)]
pub(crate) struct ModelFile {
    path: PathBuf,
    file: File,
    /// When it was opened.
    state: State,
    map: OnceLock<Mapped>,
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
    pub(crate) fn open(path: &Path) -> Result<Self, LoadError> {
        let opened = File::open(path).and_then(|file| Ok((State::of(&file)?, file)));
        let (state, file) = opened.map_err(|source| LoadError::File { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file, state, map: OnceLock::new() })
    }

    /// Its bytes when it was opened.
    pub(crate) fn len(&self) -> u64 {
        self.state.len
    }

    /// The file itself; whoever reads it this way meets its end where it is now.
    pub(crate) fn reader(&self) -> impl Read + Seek + '_ {
        &self.file
    }

    /// `len` bytes from byte `offset` on, in memory of their own.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Mapped, LoadError> {
        Mapped::filled(len, |bytes| self.read_exact(offset, bytes)).map_err(|source| self.read_error(source))
    }

    /// As [`read`](Self::read), into `bytes`.
    pub(crate) fn read_into(&self, offset: u64, bytes: &mut [u8]) -> Result<(), LoadError> {
        self.read_exact(offset, bytes).map_err(|source| self.read_error(source))
    }

    fn read_exact(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(bytes)
    }

    fn read_error(&self, source: io::Error) -> LoadError {
        match source.kind() {
            // The part lay within the file when that was opened.
            ErrorKind::UnexpectedEof => LoadError::Changed { path: self.path.clone() },
            _ => self.error(source),
        }
    }

    /// All of the file, mapped once.
    pub(crate) fn map(&self) -> Result<&Mapped, LoadError> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let map = Mapped::of_file(&self.file).map_err(|source| self.error(source))?;
        // A part that is gone would end the process when it is looked at.
        self.check_unchanged()?;
        Ok(self.map.get_or_init(|| map))
    }

    /// Refuses a file that was written to since it was opened, as far as its length and the time of its last change tell.
    pub(crate) fn check_unchanged(&self) -> Result<(), LoadError> {
        match State::of(&self.file) {
            Ok(state) if state == self.state => Ok(()),
            Ok(_) => Err(LoadError::Changed { path: self.path.clone() }),
            Err(source) => Err(self.error(source)),
        }
    }

    fn error(&self, source: io::Error) -> LoadError {
        LoadError::File { path: self.path.clone(), source }
    }
}
