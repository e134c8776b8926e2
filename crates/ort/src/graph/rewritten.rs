//! Standard exports made tree-ready, and the files that they are kept in.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tracing::info;
use upcycle_onnx::schema::{Message, Model};
use upcycle_onnx::standard::{Interface, rewrite};

use super::folder::Folder;
use super::{PROTOBUF_LIMIT, Source, TreeReady, standard, the_graph};
use crate::{GraphError, LoadError};

/// Raised whenever a graph is rewritten otherwise than before.
const VERSION: u8 = 1;

/// The tree-ready form of the standard export at `path`, which holds `bytes`: from the file beside it, if that was made of the
/// same, else made anew and put there.
pub(super) fn open(path: &Path, bytes: Vec<u8>, model: Model) -> Result<(TreeReady, Source), LoadError> {
    let refused = |source: GraphError| LoadError::Graph { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new(""));
    let settings = Folder::read(folder)?;
    let interface = standard::interface(the_graph(path, &model)?, &settings).map_err(refused)?;
    let kept = place(path, &bytes, &interface);
    drop(bytes);
    if let Some(mut ready) = read(&kept) {
        path.clone_into(&mut ready.path);
        return Ok((ready, Source::File(kept)));
    }
    let (model, _) = rewrite(model, &interface).map_err(|source| refused(GraphError::Standard(source)))?;
    let ready = TreeReady::recognise(path, &model)?;
    let bytes = model.encode_to_vec();
    drop(model);
    if bytes.len() as u64 > PROTOBUF_LIMIT {
        return Err(LoadError::TooLarge { path: path.to_owned(), bytes: bytes.len() as u64 });
    }
    match keep(path, &kept, &bytes) {
        Ok(()) => Ok((ready, Source::File(kept))),
        Err(error) => {
            info!("{} is not kept for the next time: {error}", kept.display());
            Ok((
                ready,
                Source::Memory {
                    bytes,
                    folder: fs::canonicalize(folder_or_here(folder)).unwrap_or_default(),
                },
            ))
        }
    }
}

fn folder_or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// Where the rewritten graph is kept: in the same folder, so that files of weights are found from there, under a name that tells
/// what it was made of.
fn place(path: &Path, bytes: &[u8], interface: &Interface) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update([VERSION]);
    hash.update(env!("CARGO_PKG_VERSION"));
    // What the files beside the graph say is part of it.
    hash.update(format!("{interface:?}"));
    hash.update(bytes);
    let digest = hash.finalize();
    let mut name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    name.push_str(".upcycle-");
    for byte in &digest[..8] {
        let _ = write!(name, "{byte:02x}");
    }
    name.push_str(".onnx");
    path.with_file_name(name)
}

/// A graph that was kept, if it is whole.
fn read(kept: &Path) -> Option<TreeReady> {
    let model = Model::decode(&fs::read(kept).ok()?[..]).ok()?;
    TreeReady::recognise(kept, &model).ok()
}

/// Writes it aside and renames it, so that nobody finds a part of it. Whoever may read the original may read it.
fn keep(original: &Path, kept: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(folder_or_here(kept.parent().unwrap_or(Path::new(""))))?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(fs::metadata(original)?.permissions())?;
    file.as_file().sync_all()?;
    file.persist(kept)?;
    Ok(())
}
