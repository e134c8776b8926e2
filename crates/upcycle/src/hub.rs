//! Models named by their address on the Hugging Face hub.

use std::path::{Path, PathBuf};

use crate::load_error::LoadError;
use crate::parts::OnProgress;

/// The beginning of such a name.
const SCHEME: &str = "hf:";

/// Whether this names a model on the hub, `hf:owner/repo[/file][@revision]`, instead of a path.
#[must_use]
pub fn is_on_hub(path: &Path) -> bool {
    path.to_str().is_some_and(|path| path.starts_with(SCHEME))
}

/// Why a name of a model on the hub cannot be used; `None` if it can.
pub(crate) fn hub_reference_error(path: &Path) -> Option<String> {
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

/// The path of a model on this machine: `path` itself, or the model's path in the hub cache. A model that is not in the cache is
/// fetched.
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
        let mut told = |done, total| progress(crate::parts::Progress { done, total });
        Ok(upcycle_hub::Hub::from_env()?.fetch(&reference?, &mut told)?)
    }
    #[cfg(not(feature = "hub"))]
    {
        let _ = progress;
        Err(LoadError::NoHub)
    }
}
