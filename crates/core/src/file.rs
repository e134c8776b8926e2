//! Writes a file completely or not at all.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// The most symbolic links to follow, as in Linux.
const MAX_LINKS: usize = 40;

/// What is at a path.
enum Found {
    Nothing,
    File(Metadata),
    /// A pipe, a device or a socket.
    Special,
}

/// Replaces the file at `path` by one with the content `bytes`.
///
/// It writes a temporary file in the same folder, syncs it and renames it. So a reader always finds the complete old file or the
/// complete new one. A symbolic link stays: the file that it names is replaced. An existing file keeps its mode and, as far as the
/// system allows, its owner. A new file gets the usual mode (0666 without the bits of the umask).
///
/// A folder may refuse new files, or the path may be a mount of a single file, as containers have it. An existing file is then
/// written in place, so a crash can damage it. A pipe or device is written as it is.
///
/// # Errors
/// The error of the operating system. An existing file that is replaced is then unchanged. A file that cannot be opened for writing
/// is never replaced.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let existing = match find(path)? {
        Found::Special => return writable(path)?.write_all(bytes),
        Found::Nothing => None,
        Found::File(metadata) => {
            writable(path)?;
            Some(metadata)
        }
    };
    match renamed(&resolve(path)?, existing.as_ref(), bytes) {
        Err(error) if existing.is_some() && folder_refused(&error) => in_place(writable(path)?, bytes),
        renamed => renamed,
    }
}

/// Checks that [`replace`] can write the file at `path`, and leaves nothing behind.
///
/// # Errors
/// The error of the operating system.
pub fn check_replaceable(path: &Path) -> io::Result<()> {
    match find(path)? {
        // Opening a pipe waits for its reader.
        Found::Special => Ok(()),
        Found::File(_) => writable(path).map(drop),
        Found::Nothing => temporary(&resolve(path)?).map(drop),
    }
}

/// Opens an existing file for writing, with its content.
fn writable(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).open(path)
}

fn find(path: &Path) -> io::Result<Found> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(metadata) if metadata.is_file() => Ok(Found::File(metadata)),
        Ok(_) => Ok(Found::Special),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(error),
    }
}

/// The path of the file that a symbolic link names, which need not exist.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = folder(&path).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".upcycle");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder(path))
}

fn renamed(path: &Path, existing: Option<&Metadata>, bytes: &[u8]) -> io::Result<()> {
    let mut file = temporary(path)?;
    if let Some(existing) = existing {
        keep_owner(file.as_file(), existing);
        // After the owner, whose change clears bits of the mode.
        file.as_file().set_permissions(existing.permissions())?;
    }
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Gives a file the owner and the group of another. Only root may give the owner, so a failure is usual.
fn keep_owner(file: &File, existing: &Metadata) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        if fchown(file, Some(existing.uid()), Some(existing.gid())).is_err() {
            let _ = fchown(file, None, Some(existing.gid()));
        }
    }
    #[cfg(not(unix))]
    let _ = (file, existing);
}

/// Whether the folder, or a mount, refused a new file.
fn folder_refused(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::ResourceBusy
            | ErrorKind::CrossesDevices
    )
}

fn in_place(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn an_existing_file_keeps_its_mode_and_its_links() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "a longer text").unwrap();
        symlink("file", &link).unwrap();
        for bits in [0o600, 0o640, 0o644, 0o666, 0o664] {
            fs::set_permissions(&file, PermissionsExt::from_mode(bits)).unwrap();
            replace(&link, b"new").unwrap();
            assert_eq!((fs::read(&file).unwrap(), mode(&file)), (b"new".to_vec(), bits));
            assert_eq!(fs::read_link(&link).unwrap(), Path::new("file"));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }

    #[test]
    fn a_new_file_has_the_mode_of_any_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, usual, link) = (folder.path().join("o"), folder.path().join("u"), folder.path().join("l"));
        fs::write(&usual, "").unwrap();
        replace(&ours, b"new").unwrap();
        assert_eq!(mode(&ours), mode(&usual));
        // A link to a file that does not exist yet.
        symlink("to be", &link).unwrap();
        check_replaceable(&link).unwrap();
        replace(&link, b"new").unwrap();
        assert_eq!(fs::read(folder.path().join("to be")).unwrap(), b"new");
        symlink("loop", folder.path().join("loop")).unwrap();
        assert!(replace(&folder.path().join("loop"), b"").is_err());
    }

    #[test]
    fn folders_are_refused_and_devices_are_written() {
        let folder = tempfile::tempdir().unwrap();
        for refused in [folder.path(), &folder.path().join("none").join("file")] {
            assert!(check_replaceable(refused).is_err() && replace(refused, b"x").is_err());
        }
        check_replaceable(Path::new("/dev/null")).unwrap();
        replace(Path::new("/dev/null"), b"x").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file(), "it is still a device");
    }

    #[test]
    fn a_file_in_place_has_the_new_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for (before, after) in [("", "abc"), ("a longer text", "abc")] {
            fs::write(&path, before).unwrap();
            in_place(writable(&path).unwrap(), after.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
        }
    }
}
