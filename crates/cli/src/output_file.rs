//! Writes a file completely or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file that a command will write completely or not at all.
#[derive(Debug)]
pub(crate) struct OutputFile {
    /// As it was given.
    path: PathBuf,
    /// The path with links resolved.
    resolved: PathBuf,
    folder: PathBuf,
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
        let resolved = match fs::metadata(&path) {
            // A rename would replace a folder or a device by a file.
            Ok(found) if !found.is_file() => return Err(OutputFileError::NoFile { flag, path }),
            Ok(_) => fs::canonicalize(&path).unwrap_or_else(|_| path.clone()),
            Err(_) if path.file_name().is_none() => return Err(OutputFileError::NoFile { flag, path }),
            Err(_) => path.clone(),
        };
        let folder = match resolved.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let target = Self { path, resolved, folder };
        // Deleted again: Ctrl-C while the model loads would leave it behind.
        target.temporary().map_err(|source| OutputFileError::Folder {
            flag,
            path: target.path.clone(),
            source,
        })?;
        Ok(target)
    }

    /// As it was given.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a temporary file, then renames it to the target.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), OutputFileError> {
        let written = self.temporary().and_then(|mut file| {
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&self.resolved).map_err(|error| error.error)
        });
        written.map_err(|source| OutputFileError::Write { path: self.path.clone(), source })?;
        Ok(())
    }

    /// A new file in the same folder, with the permissions of an ordinary file.
    fn temporary(&self) -> io::Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".upcycle");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(&self.folder)
    }
}
