//! Models that are named by where they are on the Hugging Face hub.

use std::path::{Path, PathBuf};

use crate::{LoadError, OnProgress};

/// What such a name begins with.
const SCHEME: &str = "hf:";

/// Whether a model is named `hf:owner/repo[/file][@revision]` instead of by a path.
#[must_use]
pub fn is_on_hub(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.starts_with(SCHEME))
}

/// Why a name of a model on the hub cannot serve here; none if it can.
pub(crate) fn problem(path: &Path) -> Option<String> {
    #[cfg(feature = "hub")]
    {
        let reference = upcycle_hub::Reference::parse(path.to_str()?)?;
        reference.err().map(|error| error.to_string())
    }
    #[cfg(not(feature = "hub"))]
    {
        is_on_hub(path).then(|| LoadError::NoHub.to_string())
    }
}

/// Where a model is on this machine: `path` itself, or, for one that is named by where it is on the hub, where the hub's cache has it,
/// fetched if need be.
///
/// # Errors
/// `LoadError::Hub` with the feature `hub`, [`LoadError::NoHub`] without it.
pub fn local_model(path: &Path, progress: OnProgress<'_>) -> Result<PathBuf, LoadError> {
    if !is_on_hub(path) {
        return Ok(path.to_owned());
    }
    #[cfg(feature = "hub")]
    {
        let name = path.to_str().unwrap_or_default();
        let Some(reference) = upcycle_hub::Reference::parse(name) else { return Ok(path.to_owned()) };
        let mut told = |done, total| progress(crate::Progress { done, total });
        Ok(upcycle_hub::Hub::from_env()?.fetch(&reference?, &mut told)?)
    }
    #[cfg(not(feature = "hub"))]
    {
        let _ = progress;
        Err(LoadError::NoHub)
    }
}
