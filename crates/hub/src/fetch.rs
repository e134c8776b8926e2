use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::HubError;
use crate::model_files::{self, CONFIG};
use crate::reference::{Reference, is_plain_path};
use crate::transfer::{Client, OnProgress, RemoteFile, TransferError};

/// The hub and its local cache.
#[derive(Clone, Debug)]
pub struct Hub {
    endpoint: String,
    cache: Cache,
    token: Option<String>,
    offline: bool,
}

impl Hub {
    /// A hub configured by the hub's usual variables (see the [crate's page](crate)).
    ///
    /// # Errors
    /// [`HubError::NoCache`] if neither a variable nor a home folder gives the cache's path.
    pub fn from_env() -> Result<Self, HubError> {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let path = match (text("HF_HUB_CACHE"), text("HF_HOME"), etcetera::home_dir()) {
            (Some(path), _, _) => PathBuf::from(path),
            (None, Some(home), _) => Path::new(&home).join("hub"),
            (None, None, Ok(home)) => home.join(".cache").join("huggingface").join("hub"),
            (None, None, Err(_)) => return Err(HubError::NoCache),
        };
        let cache = Cache::new(path);
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        let token = text("HF_TOKEN").or_else(|| cache.token());
        let offline = text("HF_HUB_OFFLINE")
            .is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.to_uppercase().as_str()));
        Ok(Self { endpoint: endpoint.trim_end_matches('/').to_owned(), cache, token, offline })
    }

    /// A hub at `endpoint` (`https://…`) with a cache in `cache` and no token.
    #[must_use]
    pub fn at(endpoint: &str, cache: &Path) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Self { endpoint, cache: Cache::new(cache.to_owned()), token: None, offline: false }
    }

    /// Sends this token with requests to the hub, but not to servers that the hub redirects to.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Uses only the cache.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// The local path of a model, which is fetched unless it is cached: a file, or a folder for a repository of safetensors.
    /// `progress` is called as the bytes of each file arrive.
    ///
    /// A cached branch is not checked for newer commits; name the commit to fetch one.
    ///
    /// # Errors
    /// [`HubError`]. The next call resumes an interrupted download.
    pub fn fetch(&self, reference: &Reference, progress: OnProgress<'_>) -> Result<PathBuf, HubError> {
        if let Some(file) = reference.file() {
            return self.file(reference, file, progress);
        }
        let names = match self.cached_listing(reference) {
            Some(names) => names,
            None => self.list(reference)?,
        };
        let files = model_files::select(reference, &names)?;
        let mut paths = Vec::with_capacity(files.len());
        for file in &files {
            paths.push(self.file(&reference.with_file(file), file, progress)?);
        }
        let first = paths.swap_remove(0);
        let folder = first.parent().filter(|_| first.file_name() == Some(OsStr::new(CONFIG)));
        Ok(folder.unwrap_or(&first).to_owned())
    }

    fn repo(reference: &Reference) -> Repo {
        let (repo, revision) = (reference.repo().to_owned(), reference.revision().to_owned());
        Repo::with_revision(repo, RepoType::Model, revision)
    }

    fn client(&self, reference: &Reference) -> Result<Client, HubError> {
        if self.offline {
            let (what, cache) = (reference.to_string(), self.cache.path().clone());
            return Err(HubError::Offline { what, cache });
        }
        Ok(Client::new(&self.endpoint, self.token.as_deref()))
    }

    /// The folder of this repository in the cache.
    fn folder(&self, reference: &Reference) -> PathBuf {
        self.cache.path().join(Self::repo(reference).folder_name())
    }

    /// The names of a repository's files, if the cache has its listing.
    fn cached_listing(&self, reference: &Reference) -> Option<Vec<String>> {
        // `refs/REVISION` holds the commit; it is written once a file of the commit has arrived.
        let commit =
            fs::read_to_string(self.folder(reference).join("refs").join(reference.revision())).ok()?;
        let names = fs::read_to_string(self.listing_path(reference, commit.trim())).ok()?;
        Some(names.lines().map(str::to_owned).collect())
    }

    /// The cache file with the names of a commit's files, so that a cached model needs no request.
    fn listing_path(&self, reference: &Reference, commit: &str) -> PathBuf {
        self.folder(reference).join("listings").join(commit)
    }

    /// Requests the names of a repository's files.
    fn list(&self, reference: &Reference) -> Result<Vec<String>, HubError> {
        let client = self.client(reference)?;
        let (repo, revision) = (reference.repo(), in_address(reference.revision()));
        let address = format!("{}/api/models/{repo}/revision/{revision}", self.endpoint);
        let unexpected = |reason: String| self.fetch_error(reference, reason);
        let text = client.text(&address).map_err(|error| self.failed(reference, &client, &error))?;
        let Listing { sha, siblings } = serde_json::from_str(&text)
            .map_err(|error| unexpected(format!("the answer is not a listing of a repository: {error}")))?;
        if !is_plain_path(&sha) {
            return Err(unexpected(format!("the hub sent the unsafe commit name {sha:?}")));
        }
        // Drop names that would lead out of the cache.
        let names = siblings.into_iter().map(|sibling| sibling.rfilename);
        let names: Vec<String> = names.filter(|name| is_plain_path(name)).collect();
        let path = self.listing_path(reference, &sha);
        let written = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, names.join("\n")));
        written.map_err(|source| HubError::Cache { path, source })?;
        Ok(names)
    }

    fn file(&self, reference: &Reference, file: &str, progress: OnProgress<'_>) -> Result<PathBuf, HubError> {
        let cached = self.cache.repo(Self::repo(reference));
        if let Some(path) = cached.get(file) {
            return Ok(path);
        }
        let client = self.client(reference)?;
        tracing::info!(%reference, endpoint = self.endpoint, "fetching");
        let failed = |error| self.failed(reference, &client, &error);
        let (repo, revision) = (reference.repo(), in_address(reference.revision()));
        let name: Vec<String> = file.split('/').map(|part| in_address(part).to_string()).collect();
        let name = name.join("/");
        let address = format!("{}/{repo}/resolve/{revision}/{name}", self.endpoint);
        let remote = client.locate(&address).map_err(failed)?;
        let RemoteFile { commit, etag, size, .. } = &remote;
        let (commit, etag, size) = (commit.clone(), etag.clone(), *size);
        if let Some(name) =
            [&commit, &etag].into_iter().find(|name| !is_plain_path(name) || name.contains('/'))
        {
            return Err(self.fetch_error(reference, format!("the hub sent the unsafe name {name:?}")));
        }

        let blob = self.folder(reference).join("blobs").join(&etag);
        let cache = |source| HubError::Cache { path: blob.clone(), source };
        if let Some(folder) = blob.parent() {
            fs::create_dir_all(folder).map_err(cache)?;
        }
        // Wait for another process that fetches the same file.
        let lock = File::create(blob.with_extension("lock")).map_err(cache)?;
        lock.lock().map_err(cache)?;
        if !blob.exists() {
            let part = blob.with_extension("part");
            client.fetch(&address, remote, &part, progress).map_err(failed)?;
            if let Some((expected, found)) = difference(&part, size, &etag).map_err(cache)? {
                fs::remove_file(&part).map_err(cache)?;
                return Err(HubError::Corrupted { what: reference.to_string(), expected, found });
            }
            fs::rename(&part, &blob).map_err(cache)?;
        }
        let snapshot_path = cached.pointer_path(&commit).join(file);
        link(&snapshot_path, &blob, file).map_err(cache)?;
        cached.create_ref(&commit).map_err(cache)?;
        Ok(snapshot_path)
    }

    fn fetch_error(&self, reference: &Reference, reason: String) -> HubError {
        HubError::Fetch { what: reference.to_string(), endpoint: self.endpoint.clone(), reason }
    }

    fn failed(&self, reference: &Reference, client: &Client, error: &TransferError) -> HubError {
        let (what, endpoint) = (reference.to_string(), self.endpoint.clone());
        match *error {
            TransferError::Status(404) => HubError::NotFound { what, endpoint },
            TransferError::Status(status @ (401 | 403)) => {
                HubError::Denied { what, status, with_token: client.has_token() }
            }
            ref other => self.fetch_error(reference, other.to_string()),
        }
    }
}

/// The characters besides letters and digits that need no escape in an address (RFC 3986, section 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn in_address(part: &str) -> PercentEncode<'_> {
    utf8_percent_encode(part, UNRESERVED)
}

/// The hub's description of a repository.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// Links a file of a commit to its content, in the layout of the hub's other programs.
fn link(snapshot_path: &Path, blob: &Path, file: &str) -> io::Result<()> {
    if let Some(folder) = snapshot_path.parent() {
        fs::create_dir_all(folder)?;
    }
    if snapshot_path.exists() {
        return Ok(());
    }
    #[cfg(unix)]
    {
        // From snapshots/<commit>/<file> to blobs/<etag>. A relative link, so that the cache can be moved.
        let up = "../".repeat(file.split('/').count() + 1);
        let name = blob.file_name().unwrap_or_default();
        match std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(name), snapshot_path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        fs::rename(blob, snapshot_path)
    }
}

/// How a downloaded file differs from the hub's: the expected and the found length or SHA-256. `None` if it is the same.
fn difference(path: &Path, size: u64, etag: &str) -> io::Result<Option<(String, String)>> {
    let found = fs::metadata(path)?.len();
    // The ETag of a large file is its SHA-256, that of a small one its git hash.
    let (expected, found) = if found != size {
        (format!("{size} bytes"), format!("{found}"))
    } else if etag.len() == 64 {
        (format!("SHA-256 {etag}"), format!("SHA-256 {}", sha256(path)?))
    } else {
        return Ok(None);
    };
    Ok((expected != found).then_some((expected, found)))
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
