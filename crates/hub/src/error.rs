use std::io;
use std::path::PathBuf;

/// Why a model could not be had from the hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// No reference.
    #[error(
        "{found:?} names no model on the hub; expected hf:owner/repo, hf:owner/repo/file or either with @revision"
    )]
    Reference {
        /// What was given.
        found: String,
    },
    /// The hub has no such thing.
    #[error("{what} is not on the hub at {endpoint}; check its name, its file and its revision")]
    NotFound {
        /// The reference.
        what: String,
        /// Who was asked.
        endpoint: String,
    },
    /// The hub wants to know who asks.
    #[error(
        "{what} may not be fetched ({status}): it is private, or its terms have to be accepted on its page; {token}",
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
    /// A repository with several models, or none, of which one has to be named.
    #[error("{what} holds {found}; name one file of it: {what}/FILE")]
    Which {
        /// The reference.
        what: String,
        /// What it holds.
        found: String,
    },
    /// Nothing may be asked, and the cache lacks it.
    #[error("{what} is not in the cache at {cache}, and HF_HUB_OFFLINE is set; unset it to fetch it once", cache = cache.display())]
    Offline {
        /// The reference.
        what: String,
        /// Where the cache is.
        cache: PathBuf,
    },
    /// What arrived is not what the hub has.
    #[error("{what} arrived damaged and was thrown away: expected {expected}, found {found}; fetch it again")]
    Damaged {
        /// The reference.
        what: String,
        /// Its SHA-256 or its length by the hub.
        expected: String,
        /// Those of what arrived.
        found: String,
    },
    /// The hub could not be reached, or broke off; what has arrived is kept, and the next try goes on from there.
    #[error("{what} could not be fetched from {endpoint}: {reason}; a next try goes on where this one ended")]
    Fetch {
        /// The reference.
        what: String,
        /// Who was asked.
        endpoint: String,
        /// What went wrong.
        reason: String,
    },
    /// Nobody says where the cache is.
    #[error("there is no home folder to keep models in; set HF_HOME to a folder for the hub's cache")]
    NoCache,
    /// The cache cannot be read or written.
    #[error("the hub's cache cannot be used at {path}; HF_HOME names another place", path = path.display())]
    Cache {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}
