//! The files of a run: `results.json`, `results.csv`, `report.html`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::report;
use crate::results::Results;
use crate::runner::{BenchError, parse_versioned};

/// The file of everything.
pub const RESULTS: &str = "results.json";

/// Writes all three, each whole or not at all; returns their paths.
///
/// # Errors
/// [`BenchError::Io`], [`BenchError::Report`]. Files that were written before the failure stay.
pub fn write(folder: &Path, results: &Results) -> Result<Vec<PathBuf>, BenchError> {
    let mut written = Vec::new();
    let mut keep = |name: &str, bytes: &[u8]| -> Result<(), BenchError> {
        let path = folder.join(name);
        replace(&path, bytes).map_err(|source| BenchError::Io {
            doing: "write",
            path: path.clone(),
            source,
        })?;
        written.push(path);
        Ok(())
    };
    let json = |source: serde_json::Error| BenchError::Io {
        doing: "write",
        path: folder.join(RESULTS),
        source: io::Error::from(source),
    };
    keep(RESULTS, &serde_json::to_vec(results).map_err(json)?)?;
    keep("results.csv", &report::csv(results)?)?;
    keep("report.html", report::html(results)?.as_bytes())?;
    Ok(written)
}

/// Puts `bytes` in the place of whatever `path` holds, or leaves that as it is.
///
/// # Errors
/// As the system has it.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    // As a plain file of this user would have them; a temporary one is private.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    file.persist(path)?;
    Ok(())
}

/// Reads the results of a run from its folder.
///
/// # Errors
/// [`BenchError::Io`], [`BenchError::OtherSchema`], [`BenchError::NotARun`].
pub fn read(folder: &Path) -> Result<Results, BenchError> {
    let path = if folder.is_dir() { folder.join(RESULTS) } else { folder.to_owned() };
    let text = fs::read_to_string(&path).map_err(|source| BenchError::Io {
        doing: "read",
        path: path.clone(),
        source,
    })?;
    parse_versioned(&path, &text)
}
