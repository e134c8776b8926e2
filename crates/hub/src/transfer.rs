//! Resumable downloads of single files over HTTP.
//!
//! The crate `hf-hub`, whose cache layout is used here, can download too, but it sends the token to servers that the hub redirects to.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, Uri, header};
use ureq::{Agent, Body, http::Response};

/// Called with the bytes of the current file that have arrived, and its size.
pub type OnProgress<'a> = &'a mut dyn FnMut(u64, u64);

/// How often a lost connection is retried.
const RETRIES: u32 = 4;
/// The wait before the first retry. It doubles for each further one.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// The most redirects to follow.
const MAX_REDIRECTS: usize = 8;

/// The longest wait for a connection or an answer.
const TIMEOUT: Duration = Duration::from_secs(60);

/// An HTTP client for one hub.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    agent: Agent,
    /// The server that gets the token.
    origin: (Option<String>, Option<String>),
    token: Option<String>,
}

/// A file on the hub.
#[derive(Debug)]
pub(crate) struct RemoteFile {
    /// The address of its bytes; may expire within minutes.
    address: String,
    pub(crate) commit: String,
    /// Identifies the content: the SHA-256 of a large file, the git hash of a small one.
    pub(crate) etag: String,
    pub(crate) size: u64,
}

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    #[error("HTTP status {0}")]
    Status(u16),
    #[error(transparent)]
    Http(#[from] ureq::Error),
    #[error("the answer lacks {0}; check that the address is a hub's")]
    Missing(&'static str),
    #[error("more than {0} redirects in a row")]
    Redirects(usize),
    #[error("{0:?} is not an address")]
    Address(String),
    #[error("the connection was lost after {done} of {size} bytes")]
    Interrupted { done: u64, size: u64 },
    #[error(transparent)]
    File(#[from] io::Error),
}

impl Client {
    /// A client that sends `token` to the server at `endpoint` only.
    pub(crate) fn new(endpoint: &str, token: Option<&str>) -> Self {
        let config = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .user_agent(concat!("upcycle/", env!("CARGO_PKG_VERSION")));
        let origin = endpoint.parse().map_or((None, None), |uri| origin(&uri));
        Self { agent: config.build().into(), origin, token: token.map(str::to_owned) }
    }

    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    fn get(&self, address: &str, range: Option<&str>) -> Result<Response<Body>, TransferError> {
        let uri: Uri = address.parse().map_err(|_| TransferError::Address(address.to_owned()))?;
        let mut request = self.agent.get(address);
        if let Some(token) = self.token.as_ref().filter(|_| origin(&uri) == self.origin) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(range) = range {
            request = request.header(header::RANGE, range);
        }
        Ok(request.call()?)
    }

    /// The text at `address`.
    pub(crate) fn text(&self, address: &str) -> Result<String, TransferError> {
        let mut response = self.get(address, None)?;
        match response.status() {
            status if status.is_success() => Ok(response.body_mut().read_to_string()?),
            status => Err(TransferError::Status(status.as_u16())),
        }
    }

    /// Looks up a file of the hub and follows redirects to its storage.
    pub(crate) fn locate(&self, address: &str) -> Result<RemoteFile, TransferError> {
        let (mut address, mut commit, mut etag, mut linked) = (address.to_owned(), None, None, None);
        for _ in 0..MAX_REDIRECTS {
            let response = self.get(&address, Some("bytes=0-0"))?;
            let (status, headers) = (response.status(), response.headers());
            // The first answers are the hub's own; they take precedence over those of its storage.
            commit = commit.or_else(|| text(headers, "x-repo-commit"));
            linked = linked.or_else(|| text(headers, "x-linked-etag"));
            etag = etag.or_else(|| text(headers, "etag"));
            if status.is_redirection() {
                let target = text(headers, "location").ok_or(TransferError::Missing("Location"))?;
                address = absolute(&address, &target)?;
                continue;
            }
            if !status.is_success() {
                return Err(TransferError::Status(status.as_u16()));
            }
            let size = match text(headers, "content-range") {
                Some(range) => range.rsplit('/').next().and_then(|size| size.parse().ok()),
                // The server ignores ranges and sends the whole file.
                None => text(headers, "content-length").and_then(|size| size.parse().ok()),
            };
            let size = size.ok_or(TransferError::Missing("the file's length"))?;
            let commit = commit.ok_or(TransferError::Missing("X-Repo-Commit"))?;
            let etag = linked.or(etag).ok_or(TransferError::Missing("ETag"))?;
            let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
            return Ok(RemoteFile { address, commit, etag, size });
        }
        Err(TransferError::Redirects(MAX_REDIRECTS))
    }

    /// Downloads the rest of a file into `part`, with retries.
    pub(crate) fn fetch(
        &self,
        hub_address: &str,
        mut remote: RemoteFile,
        part: &Path,
        progress: OnProgress<'_>,
    ) -> Result<(), TransferError> {
        let mut tries = 0;
        loop {
            let failed = match self.fetch_once(&remote, part, progress) {
                Ok(()) => return Ok(()),
                Err(TransferError::File(error)) => return Err(TransferError::File(error)),
                Err(error) => error,
            };
            if tries == RETRIES {
                return Err(failed);
            }
            tracing::warn!(error = %failed, "retrying the download");
            thread::sleep(RETRY_DELAY * 2_u32.pow(tries));
            tries += 1;
            // The address may have expired. Ignore a newer version of the file.
            if let Ok(found) = self.locate(hub_address)
                && found.etag == remote.etag
            {
                remote = found;
            }
        }
    }

    fn fetch_once(
        &self,
        remote: &RemoteFile,
        part: &Path,
        progress: OnProgress<'_>,
    ) -> Result<(), TransferError> {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(part)?;
        let mut done = file.seek(SeekFrom::End(0))?;
        if done > remote.size {
            done = restart(&mut file)?;
        }
        progress(done, remote.size);
        if done == remote.size {
            return Ok(());
        }
        let mut response = self.get(&remote.address, Some(&format!("bytes={done}-")))?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            // The server ignores ranges and sends the whole file.
            StatusCode::OK => done = restart(&mut file)?,
            status => return Err(TransferError::Status(status.as_u16())),
        }
        let mut reader = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 16];
        while done < remote.size {
            let most =
                usize::try_from(remote.size - done).map_or(buffer.len(), |left| left.min(buffer.len()));
            match reader.read(&mut buffer[..most]) {
                Ok(0) | Err(_) => return Err(TransferError::Interrupted { done, size: remote.size }),
                Ok(read) => {
                    file.write_all(&buffer[..read])?;
                    done += read as u64;
                    progress(done, remote.size);
                }
            }
        }
        file.sync_all()?;
        Ok(())
    }
}

fn restart(file: &mut File) -> io::Result<u64> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// The origin of an address: scheme, and host with port.
fn origin(uri: &Uri) -> (Option<String>, Option<String>) {
    (uri.scheme_str().map(str::to_owned), uri.authority().map(|authority| authority.as_str().to_lowercase()))
}

/// The absolute address of a redirect from `address`.
fn absolute(address: &str, target: &str) -> Result<String, TransferError> {
    let wrong = |_| TransferError::Address(target.to_owned());
    let uri: Uri = target.parse().map_err(wrong)?;
    if uri.scheme().is_some() {
        return Ok(target.to_owned());
    }
    let base: Uri = address.parse().map_err(wrong)?;
    match (origin(&base), target.starts_with('/')) {
        ((Some(scheme), Some(authority)), true) => Ok(format!("{scheme}://{authority}{target}")),
        _ => Err(TransferError::Address(target.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_resolve_to_an_absolute_address_or_fail() {
        let from = "https://hub.example:8443/a/b?c";
        for (target, expected) in [
            ("https://store.example/x?y=z", Some("https://store.example/x?y=z")),
            ("/x?y", Some("https://hub.example:8443/x?y")),
            ("x/y", None),
            ("", None),
        ] {
            assert_eq!(absolute(from, target).ok().as_deref(), expected, "{target}");
        }
    }

    #[test]
    fn another_port_or_scheme_is_another_origin() {
        let of = |text: &str| origin(&text.parse().unwrap());
        assert_eq!(of("https://Hub.example/a"), of("https://hub.example/b"));
        assert_ne!(of("https://hub.example/a"), of("http://hub.example/a"));
        assert_ne!(of("https://hub.example/a"), of("https://hub.example:8443/a"));
    }
}
