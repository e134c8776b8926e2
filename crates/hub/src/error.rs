use std::io;
use std::path::PathBuf;

/// Why a model could not be fetched from the hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The text is not a reference.
    #[error(
        "{found:?} does not name a model on the hub; expected hf:owner/repo, hf:owner/repo/file or either with @revision"
    )]
    Reference {
        /// The text.
        found: String,
    },
    /// The hub has no such repository, file or revision.
    #[error("{what} does not exist on the hub at {endpoint}; check its name, file and revision")]
    NotFound {
        /// The reference.
        what: String,
        /// The hub's address.
        endpoint: String,
    },
    /// The hub denies access.
    #[error(
        "access to {what} is denied ({status}): it is private, or its terms must be accepted on its page; {token}",
        token = if *with_token { "the token that was sent does not allow it" }
            else { "set HF_TOKEN, or run `hf auth login`" }
    )]
    Denied {
        /// The reference.
        what: String,
        /// The HTTP status.
        status: u16,
        /// Whether a token was sent.
        with_token: bool,
    },
    /// The repository contains no model.
    #[error(
        "{what} contains neither a GGUF file nor safetensors with a config.json; name another repository"
    )]
    NoModel {
        /// The reference.
        what: String,
    },
    /// The repository contains several models.
    #[error("{what} contains {found}; name one of its files: {what}/FILE")]
    SeveralModels {
        /// The reference.
        what: String,
        /// What it contains.
        found: String,
    },
    /// The model is not cached, and `HF_HUB_OFFLINE` forbids fetching it.
    #[error("{what} is not in the cache at {cache}, and HF_HUB_OFFLINE is set; unset it to fetch the model", cache = cache.display())]
    Offline {
        /// The reference.
        what: String,
        /// The cache.
        cache: PathBuf,
    },
    /// The downloaded file has the wrong length or checksum. It was deleted.
    #[error(
        "{what} was corrupted in transit and deleted: expected {expected}, found {found}; fetch it again"
    )]
    Corrupted {
        /// The reference.
        what: String,
        /// The SHA-256 or length according to the hub.
        expected: String,
        /// That of the download.
        found: String,
    },
    /// The hub could not be reached, or the connection was lost. The next call resumes the download.
    #[error("cannot fetch {what} from {endpoint}: {reason}; try again to resume the download")]
    Fetch {
        /// The reference.
        what: String,
        /// The hub's address.
        endpoint: String,
        /// The problem.
        reason: String,
    },
    /// No variable names the cache, and there is no home folder.
    #[error("there is no home folder for the hub's cache; set HF_HOME to a folder")]
    NoCache,
    /// The cache cannot be read or written.
    #[error("cannot use the hub's cache at {path}; set HF_HOME to another folder", path = path.display())]
    Cache {
        /// The path.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
}
