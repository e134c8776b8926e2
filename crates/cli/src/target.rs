//! A file that a command writes: whole, or not at all.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file that is to be written as a whole, or not at all.
#[derive(Debug)]
pub(crate) struct Target {
    /// As it was given.
    path: PathBuf,
    /// Where it is, links followed.
    place: PathBuf,
    folder: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("{flag} {path:?} is no name of a file; give that of the file to write")]
    NoFile { flag: &'static str, path: PathBuf },
    #[error("{flag} {} cannot be written; name a file in a folder that exists and may be written to", path.display())]
    Folder {
        flag: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} cannot be written", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Target {
    /// Tries that a file can be written there, before anything takes time; `flag` named it, for messages.
    pub(crate) fn new(flag: &'static str, path: PathBuf) -> Result<Self, TargetError> {
        let place = match fs::metadata(&path) {
            // A rename would put a file in the place of a folder or of a device.
            Ok(found) if !found.is_file() => return Err(TargetError::NoFile { flag, path }),
            Ok(_) => fs::canonicalize(&path).unwrap_or_else(|_| path.clone()),
            Err(_) if path.file_name().is_none() => return Err(TargetError::NoFile { flag, path }),
            Err(_) => path.clone(),
        };
        let folder = match place.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let target = Self { path, place, folder };
        // Not kept until the page is there: Ctrl-C while the model is loaded would leave it behind.
        target.temporary().map_err(|source| TargetError::Folder {
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

    /// Replaces what is there once all is written.
    pub(crate) fn write(&self, bytes: &[u8]) -> Result<(), TargetError> {
        let written = self.temporary().and_then(|mut file| {
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&self.place).map_err(|error| error.error)
        });
        written.map_err(|source| TargetError::Write { path: self.path.clone(), source })?;
        Ok(())
    }

    /// A new file in the same folder, which may be read by whoever may read other files there.
    fn temporary(&self) -> io::Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".upcycle");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(&self.folder)
    }
}
