//! Rewritten standard exports, and the files that they are saved in.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tracing::info;
use upcycle_onnx::rewrite::{OptimumInterface, rewrite};
use upcycle_onnx::schema::{Message, Model};

use super::Saving;
use super::file::{GraphSource, PROTOBUF_LIMIT, graph_of};
use super::folder::Folder;
use super::standard;
use super::tree_ready::TreeReady;
use crate::error::{GraphError, LoadError};

/// Raised whenever the rewriting changes.
const VERSION: u8 = 1;

/// The tree-ready form of the standard export at `path`, which contains `bytes`. Reads it from the saved file if that was made
/// of the same bytes; else rewrites the export and saves the result, unless `saving` says otherwise.
pub(super) fn open(
    path: &Path,
    bytes: Vec<u8>,
    model: Model,
    saving: Saving,
) -> Result<(TreeReady, GraphSource), LoadError> {
    let refused = |source: GraphError| LoadError::Graph { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or(Path::new(""));
    let settings = Folder::read(folder)?;
    let interface = standard::interface(graph_of(path, &model)?, &settings).map_err(refused)?;
    let saved = saved_path(path, &bytes, &interface);
    drop(bytes);
    if let Some(mut ready) = read(&saved) {
        path.clone_into(&mut ready.path);
        return Ok((ready, GraphSource::File(saved)));
    }
    let (model, _) = rewrite(model, &interface).map_err(|source| refused(GraphError::Standard(source)))?;
    let ready = TreeReady::recognize(path, &model)?;
    let bytes = model.encode_to_vec();
    drop(model);
    if bytes.len() as u64 > PROTOBUF_LIMIT {
        return Err(LoadError::TooLarge { path: path.to_owned(), bytes: bytes.len() as u64 });
    }
    if saving == Saving::Save {
        match save(path, &saved, &bytes) {
            Ok(()) => return Ok((ready, GraphSource::File(saved))),
            Err(error) => info!("{} is not saved for the next time: {error}", saved.display()),
        }
    }
    let folder = fs::canonicalize(folder_or_here(folder)).unwrap_or_default();
    Ok((ready, GraphSource::Memory { bytes, folder }))
}

fn folder_or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// The file for the rewritten graph. It is in the same folder, so that the runtime finds the files of weights, and its name
/// contains a hash of the original.
fn saved_path(path: &Path, bytes: &[u8], interface: &OptimumInterface) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update([VERSION]);
    hash.update(env!("CARGO_PKG_VERSION"));
    // The settings beside the graph influence the result.
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

/// A saved graph, if it is complete.
fn read(saved: &Path) -> Option<TreeReady> {
    let model = Model::decode(&fs::read(saved).ok()?[..]).ok()?;
    TreeReady::recognize(saved, &model).ok()
}

/// Saves a graph with the permissions of the original. Writes a temporary file and renames it, so that nobody reads a part of
/// it.
fn save(original: &Path, saved: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = NamedTempFile::new_in(folder_or_here(saved.parent().unwrap_or(Path::new(""))))?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(fs::metadata(original)?.permissions())?;
    file.as_file().sync_all()?;
    file.persist(saved)?;
    Ok(())
}
