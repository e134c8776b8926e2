//! Writes a file completely or not at all.

use std::io;
use std::path::{Path, PathBuf};

use upcycle_core::file;

use crate::failure::Failure;
use crate::input::is_stdio;
use crate::output::Output;

/// A file that a command will write completely or not at all, or standard output.
#[derive(Debug)]
pub(crate) struct OutputFile {
    /// As it was given.
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum OutputFileError {
    #[error("{flag} {path:?} is not a file name; name the file to write")]
    NoFile { flag: &'static str, path: PathBuf },
    #[error("{flag} {} cannot be written; choose a folder that exists and is writable", path.display())]
    Folder {
        flag: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl OutputFile {
    /// Checks that the file can be written, before any long work. `flag` is named in messages.
    pub(crate) fn new(flag: &'static str, path: PathBuf) -> Result<Self, OutputFileError> {
        if is_stdio(&path) {
            return Ok(Self { path });
        }
        if path.is_dir() || path.file_name().is_none() {
            return Err(OutputFileError::NoFile { flag, path });
        }
        match file::check_replaceable(&path) {
            Ok(()) => Ok(Self { path }),
            Err(source) => Err(OutputFileError::Folder { flag, path, source }),
        }
    }

    /// As it was given; `None` for standard output.
    pub(crate) fn path(&self) -> Option<&Path> {
        (!is_stdio(&self.path)).then_some(&self.path)
    }

    /// Replaces the file.
    pub(crate) fn write(&self, bytes: &[u8], output: &mut Output) -> Result<(), Failure> {
        match self.path() {
            None => output.bytes(bytes),
            Some(path) => file::replace(path, bytes)
                .map_err(|source| Failure::failed(OutputFileError::Write { path: path.to_owned(), source })),
        }
    }
}
