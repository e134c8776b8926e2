use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::{Cache, Repo, RepoType};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::choose::{self, CONFIG};
use crate::reference::is_plain_path;
use crate::transfer::{Client, Stored, TransferError};
use crate::{HubError, Reference};

/// The hub, and its cache on this machine.
#[derive(Clone, Debug)]
pub struct Hub {
    endpoint: String,
    cache: Cache,
    token: Option<String>,
    offline: bool,
}

/// Bytes of the file at hand that have arrived, and those that it has.
pub type OnProgress<'a> = &'a mut dyn FnMut(u64, u64);

impl Hub {
    /// By the variables that the hub's other programs go by.
    ///
    /// # Errors
    /// [`HubError::NoCache`] where neither a variable nor a home folder says where the cache is.
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

    /// A hub at `endpoint` (`https://…`), with its cache in `cache`, no token, and online.
    #[must_use]
    pub fn at(endpoint: &str, cache: &Path) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Self { endpoint, cache: Cache::new(cache.to_owned()), token: None, offline: false }
    }

    /// Shows this token with every request to the hub; it is not sent on to where the hub redirects.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Asks nothing: only what is in the cache serves.
    #[must_use]
    pub fn offline(mut self) -> Self {
        self.offline = true;
        self
    }

    /// The path of a model on this machine, fetched if it is not in the cache: a file, or, for a repository of safetensors, their
    /// folder. `progress` is called as bytes of each file arrive.
    ///
    /// A branch is not asked again once it is cached; a newer state of it is fetched by its commit.
    ///
    /// # Errors
    /// [`HubError`]. What has arrived of a file by then is kept, and the next call goes on from there.
    pub fn fetch(&self, reference: &Reference, progress: OnProgress<'_>) -> Result<PathBuf, HubError> {
        if let Some(file) = reference.file() {
            return self.file(reference, file, progress);
        }
        let names = match self.listed(reference) {
            Some(names) => names,
            None => self.list(reference)?,
        };
        let files = choose::files(reference, &names)?;
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

    /// Where the cache has this repository.
    fn folder(&self, reference: &Reference) -> PathBuf {
        self.cache.path().join(Self::repo(reference).folder_name())
    }

    /// The names of the files of a repository whose listing is in the cache.
    fn listed(&self, reference: &Reference) -> Option<Vec<String>> {
        // Which commit a revision is stands in a file that is written when something of it has arrived.
        let commit =
            fs::read_to_string(self.folder(reference).join("refs").join(reference.revision())).ok()?;
        let kept = fs::read_to_string(self.listing(reference, commit.trim())).ok()?;
        Some(kept.lines().map(str::to_owned).collect())
    }

    /// Where the names of a commit's files are kept, so that a cached model needs no question.
    fn listing(&self, reference: &Reference, commit: &str) -> PathBuf {
        self.folder(reference).join("listings").join(commit)
    }

    /// Asks for the names of a repository's files.
    fn list(&self, reference: &Reference) -> Result<Vec<String>, HubError> {
        let client = self.client(reference)?;
        let (repo, revision) = (reference.repo(), in_address(reference.revision()));
        let address = format!("{}/api/models/{repo}/revision/{revision}", self.endpoint);
        let strange = |reason: String| self.fetch_error(reference, reason);
        let text = client.text(&address).map_err(|error| self.failed(reference, &client, &error))?;
        let Listing { sha, siblings } = serde_json::from_str(&text)
            .map_err(|error| strange(format!("the answer is no listing of a repository: {error}")))?;
        if !is_plain_path(&sha) {
            return Err(strange(format!("its commit is called {sha:?}")));
        }
        // A name that leads out of the cache is no file of a model.
        let names = siblings.into_iter().map(|sibling| sibling.rfilename);
        let names: Vec<String> = names.filter(|name| is_plain_path(name)).collect();
        let path = self.listing(reference, &sha);
        let kept = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| fs::write(&path, names.join("\n")));
        kept.map_err(|source| HubError::Cache { path, source })?;
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
        let stored = client.locate(&address).map_err(failed)?;
        let Stored { commit, etag, size, .. } = &stored;
        let (commit, etag, size) = (commit.clone(), etag.clone(), *size);
        if let Some(strange) =
            [&commit, &etag].into_iter().find(|name| !is_plain_path(name) || name.contains('/'))
        {
            return Err(self.fetch_error(reference, format!("the hub names it {strange:?}")));
        }

        let blob = self.folder(reference).join("blobs").join(&etag);
        let cache = |source| HubError::Cache { path: blob.clone(), source };
        if let Some(folder) = blob.parent() {
            fs::create_dir_all(folder).map_err(cache)?;
        }
        // Another process may be fetching the same file: it is waited for.
        let lock = File::create(blob.with_extension("lock")).map_err(cache)?;
        lock.lock().map_err(cache)?;
        if !blob.exists() {
            let part = blob.with_extension("part");
            client.fetch(&address, stored, &part, progress).map_err(failed)?;
            check(reference, &part, size, &etag).map_err(|error| match error {
                Ok(damaged) => damaged,
                Err(source) => cache(source),
            })?;
            fs::rename(&part, &blob).map_err(cache)?;
        }
        let pointer = cached.pointer_path(&commit).join(file);
        point(&pointer, &blob, file).map_err(cache)?;
        cached.create_ref(&commit).map_err(cache)?;
        Ok(pointer)
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

/// What stands for itself in a part of an address, besides letters and digits (RFC 3986, section 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn in_address(part: &str) -> PercentEncode<'_> {
    utf8_percent_encode(part, UNRESERVED)
}

/// What the hub says of a repository.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// Puts the name of a file in a commit at its content, as the hub's other programs do.
fn point(pointer: &Path, blob: &Path, file: &str) -> io::Result<()> {
    if let Some(folder) = pointer.parent() {
        fs::create_dir_all(folder)?;
    }
    if pointer.exists() {
        return Ok(());
    }
    #[cfg(unix)]
    {
        // From snapshots/<commit>/<file> to blobs/<etag>, so that the cache can be moved.
        let up = "../".repeat(file.split('/').count() + 1);
        let name = blob.file_name().unwrap_or_default();
        match std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(name), pointer) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = file;
        fs::rename(blob, pointer)
    }
}

/// Holds what arrived against what the hub says of it, and removes it if it is something else: an error of the hub, or of the
/// cache.
fn check(
    reference: &Reference,
    part: &Path,
    size: u64,
    etag: &str,
) -> Result<(), Result<HubError, io::Error>> {
    let found = fs::metadata(part).map_err(Err)?.len();
    // Large files are named by their SHA-256, small ones by the hash of git.
    let (expected, found) = if found != size {
        (format!("{size} bytes"), format!("{found}"))
    } else if etag.len() == 64 {
        (format!("SHA-256 {etag}"), format!("SHA-256 {}", sha256(part).map_err(Err)?))
    } else {
        return Ok(());
    };
    if expected == found {
        return Ok(());
    }
    fs::remove_file(part).map_err(Err)?;
    Err(Ok(HubError::Damaged { what: reference.to_string(), expected, found }))
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
