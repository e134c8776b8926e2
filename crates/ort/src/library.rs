//! ONNX Runtime's shared library: the search for it, and the one instance of a process.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::LoadDynamicError;
use ort::environment::Environment;

use crate::error::LibraryError;
use crate::options::{Options, Provider};

/// The project's folder for it, relative to a searched folder.
const CACHE: &str = ".cache/ort";

/// The library of this process.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    pub(crate) environment: Environment,
    pub(crate) path: PathBuf,
}

static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// The library that the options name. A process loads only one.
    pub(crate) fn get(options: &Options) -> Result<Self, LibraryError> {
        let mut loaded = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = &*loaded {
            return match &options.library {
                Some(asked) if *asked != runtime.path => {
                    Err(LibraryError::Another { loaded: runtime.path.clone(), asked: asked.clone() })
                }
                _ => Ok(runtime.clone()),
            };
        }
        let folders = [env::current_dir().ok(), env::current_exe().ok()];
        let path = find(options, env::var_os("ORT_DYLIB_PATH"), folders.into_iter().flatten())?;
        let runtime = load(path)?;
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// Name and version, as far as known.
    pub(crate) fn name(&self) -> String {
        // The library reports its commit. The script that fetches it writes the version to a file.
        let noted =
            self.path.parent().and_then(|folder| std::fs::read_to_string(folder.join("version")).ok());
        let commit = ort::info().split("git-commit-id=").nth(1).and_then(|rest| rest.split(',').next());
        match (noted, commit) {
            (Some(version), _) => format!("ONNX Runtime {}", version.trim()),
            (None, Some(commit)) => format!("ONNX Runtime, commit {commit}"),
            (None, None) => "ONNX Runtime".to_owned(),
        }
    }
}

/// The providers that ONNX Runtime was built with. `library` overrides the search for it.
///
/// # Errors
/// [`LibraryError`].
pub fn providers(library: Option<&Path>) -> Result<Vec<Provider>, LibraryError> {
    let options = Options { library: library.map(Path::to_owned), ..Options::default() };
    Runtime::get(&options)?;
    Ok(Provider::ALL.iter().copied().filter(|provider| provider.is_available()).collect())
}

/// The file of the library: the one that the options name, else the one that `variable` names, else the one in the project's
/// cache in one of `folders` or above, else a bare name for the system's loader.
fn find(
    options: &Options,
    variable: Option<OsString>,
    folders: impl Iterator<Item = PathBuf>,
) -> Result<PathBuf, LibraryError> {
    let named = options.library.clone().or(variable.filter(|path| !path.is_empty()).map(PathBuf::from));
    if let Some(path) = named {
        return match path.is_file() {
            true => Ok(path),
            false => Err(LibraryError::Unusable { path, reason: "no such file".to_owned() }),
        };
    }
    let name = format!("{}onnxruntime{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
    let wants_gpu =
        options.providers.iter().any(|provider| matches!(provider, Provider::Cuda | Provider::TensorRt));
    let kinds = if wants_gpu { ["cuda", "cpu"] } else { ["cpu", "cuda"] };
    for folder in folders {
        for folder in folder.ancestors() {
            let cached = kinds.map(|kind| folder.join(CACHE).join(kind).join(&name));
            if let Some(path) = cached.into_iter().find(|path| path.is_file()) {
                return Ok(path);
            }
        }
    }
    Ok(PathBuf::from(name))
}

fn load(path: PathBuf) -> Result<Runtime, LibraryError> {
    let unusable = |path: PathBuf, reason: String| LibraryError::Unusable { path, reason };
    // The system's loader searches for a bare name.
    let bare = path.parent() == Some(Path::new(""));
    let builder = ort::init_from(&path).map_err(|error| match error {
        LoadDynamicError::BadVersion { version_str, path } => {
            LibraryError::TooOld { path, found: version_str }
        }
        LoadDynamicError::Dlopen { .. } if bare => LibraryError::NotFound {
            tried: format!("{CACHE} here and above, and {} in the system's folders", path.display()),
        },
        other => unusable(path.clone(), other.to_string()),
    })?;
    let environment = builder
        .with_name("upcycle")
        .with_telemetry(false)
        .build()
        .map_err(|error| unusable(path.clone(), error.to_string()))?;
    Ok(Runtime { environment, path })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::error::{NEEDED, SETUP};

    #[test]
    fn options_precede_the_variable_the_cache_and_the_system() -> Result<(), std::io::Error> {
        let folder = tempfile::tempdir()?;
        let name = format!("{}onnxruntime{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
        let place = |part: &str| folder.path().join(part);
        for kind in ["cpu", "cuda"] {
            fs::create_dir_all(place(CACHE).join(kind))?;
            fs::write(place(CACHE).join(kind).join(&name), "")?;
        }
        fs::write(place("mine"), "")?;
        fs::write(place("other"), "")?;
        let below = place("deep/below");
        let with = |library: Option<&str>, provider| Options {
            library: library.map(place),
            providers: vec![provider],
            ..Options::default()
        };
        let find = |options: &Options, variable: Option<&str>, folder: PathBuf| {
            let variable = variable.map(|part| place(part).into_os_string());
            find(options, variable, std::iter::once(folder))
        };
        let found = |options: &Options, variable| find(options, variable, below.clone()).ok();
        let cached = |kind: &str| Some(place(CACHE).join(kind).join(&name));
        assert_eq!(found(&with(Some("mine"), Provider::Cpu), Some("other")), Some(place("mine")));
        assert_eq!(found(&with(None, Provider::Cpu), Some("other")), Some(place("other")));
        assert_eq!(found(&with(None, Provider::Cpu), None), cached("cpu"));
        assert_eq!(found(&with(None, Provider::Cuda), None), cached("cuda"));
        let nowhere = find(&with(None, Provider::Cpu), None, PathBuf::from("/"));
        assert!(matches!(nowhere, Ok(path) if path == Path::new(&name)));

        // A named file must exist; there is no fallback.
        for (library, variable) in [(Some("gone"), None), (None, Some("gone"))] {
            let error = find(&with(library, Provider::Cpu), variable, below.clone()).unwrap_err().to_string();
            assert!(error.contains("gone") && error.contains(NEEDED) && error.contains(SETUP), "{error}");
        }
        Ok(())
    }
}
