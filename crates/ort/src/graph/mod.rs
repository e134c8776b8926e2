//! Graphs, checked before the runtime sees them.

mod file;
mod folder;
mod functions;
mod rewritten;
mod standard;
mod tree_ready;
mod values;
mod weights;

use std::path::Path;

use crate::error::LoadError;

pub(crate) use file::GraphSource;
pub(crate) use tree_ready::{Rounding, TreeReady};

/// Whether a rewritten graph is saved for the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saving {
    Save,
    Leave,
}

/// Reads the graph at `path`, a file or its folder. Rewrites a standard export.
pub(crate) fn read(path: &Path, saving: Saving) -> Result<(TreeReady, GraphSource), LoadError> {
    let path = if path.is_dir() { folder::graph_in(path) } else { path.to_owned() };
    let (bytes, model) = file::open(&path)?;
    let graph = file::graph_of(&path, &model)?;
    functions::check(&path, &model)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    if standard::marker(graph).is_some() {
        weights::check(folder, graph)?;
        return rewritten::open(&path, bytes, model, saving);
    }
    let ready = TreeReady::recognize(&path, &model)?;
    weights::check(folder, graph)?;
    Ok((ready, GraphSource::File(path)))
}
