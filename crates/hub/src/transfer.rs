//! One file over HTTP: where it is, what the hub says of it, and its bytes, from where an earlier try ended.
//!
//! `hf-hub`, whose cache is used here, can transfer too; but it sends the token on to wherever the hub redirects.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, Uri, header};
use ureq::{Agent, Body, http::Response};

use crate::OnProgress;

/// How often a connection that breaks off is taken up again, and how long before the first time.
const RETRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(200);

/// Redirects that are followed.
const REDIRECTS: usize = 8;

/// A server that says nothing for this long is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    agent: Agent,
    /// Whose requests get the token.
    origin: (Option<String>, Option<String>),
    token: Option<String>,
}

/// What the hub says of a file.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Where its bytes are; may hold for a few minutes.
    address: String,
    pub(crate) commit: String,
    /// Names the content: the SHA-256 of a large file, git's hash of a small one.
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
    #[error("the answer lacks {0}; is this a hub?")]
    Lacks(&'static str),
    #[error("{0} redirects, one after the other")]
    Redirects(usize),
    #[error("{0:?} is no address")]
    Address(String),
    #[error("the connection broke off after {done} of {size} bytes")]
    BrokenOff { done: u64, size: u64 },
    #[error(transparent)]
    File(#[from] io::Error),
}

impl Client {
    /// One that shows `token` to the host of `endpoint` alone.
    pub(crate) fn new(endpoint: &str, token: Option<&str>) -> Self {
        let config = Agent::config_builder()
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
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

    /// Asks for a file of the hub, and follows to where it is stored.
    pub(crate) fn locate(&self, address: &str) -> Result<Stored, TransferError> {
        let (mut address, mut commit, mut etag, mut linked) = (address.to_owned(), None, None, None);
        for _ in 0..REDIRECTS {
            let response = self.get(&address, Some("bytes=0-0"))?;
            let (status, headers) = (response.status(), response.headers());
            // The hub's own answers come first, and say more than those of its stores.
            commit = commit.or_else(|| text(headers, "x-repo-commit"));
            linked = linked.or_else(|| text(headers, "x-linked-etag"));
            etag = etag.or_else(|| text(headers, "etag"));
            if status.is_redirection() {
                let target = text(headers, "location").ok_or(TransferError::Lacks("Location"))?;
                address = absolute(&address, &target)?;
                continue;
            }
            if !status.is_success() {
                return Err(TransferError::Status(status.as_u16()));
            }
            let size = match text(headers, "content-range") {
                Some(range) => range.rsplit('/').next().and_then(|size| size.parse().ok()),
                // It does not know ranges and sends all of it.
                None => text(headers, "content-length").and_then(|size| size.parse().ok()),
            };
            let size = size.ok_or(TransferError::Lacks("its length"))?;
            let commit = commit.ok_or(TransferError::Lacks("X-Repo-Commit"))?;
            let etag = linked.or(etag).ok_or(TransferError::Lacks("ETag"))?;
            let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
            return Ok(Stored { address, commit, etag, size });
        }
        Err(TransferError::Redirects(REDIRECTS))
    }

    /// Fetches what `part` still lacks of a file.
    pub(crate) fn fetch(
        &self,
        hub_address: &str,
        mut stored: Stored,
        part: &Path,
        progress: OnProgress<'_>,
    ) -> Result<(), TransferError> {
        let mut tries = 0;
        loop {
            let failed = match self.fetch_once(&stored, part, progress) {
                Ok(()) => return Ok(()),
                Err(TransferError::File(error)) => return Err(TransferError::File(error)),
                Err(error) => error,
            };
            if tries == RETRIES {
                return Err(failed);
            }
            tracing::warn!(error = %failed, "taking the connection up again");
            thread::sleep(PAUSE * 2_u32.pow(tries));
            tries += 1;
            // Addresses of stores expire. A file that has changed meanwhile is another one.
            if let Ok(anew) = self.locate(hub_address)
                && anew.etag == stored.etag
            {
                stored = anew;
            }
        }
    }

    fn fetch_once(
        &self,
        stored: &Stored,
        part: &Path,
        progress: OnProgress<'_>,
    ) -> Result<(), TransferError> {
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(part)?;
        let mut done = file.seek(SeekFrom::End(0))?;
        if done > stored.size {
            done = restart(&mut file)?;
        }
        progress(done, stored.size);
        if done == stored.size {
            return Ok(());
        }
        let mut response = self.get(&stored.address, Some(&format!("bytes={done}-")))?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            // All of it, whatever was asked for.
            StatusCode::OK => done = restart(&mut file)?,
            status => return Err(TransferError::Status(status.as_u16())),
        }
        let mut reader = response.body_mut().as_reader();
        let mut buffer = vec![0; 1 << 16];
        while done < stored.size {
            let most =
                usize::try_from(stored.size - done).map_or(buffer.len(), |left| left.min(buffer.len()));
            match reader.read(&mut buffer[..most]) {
                Ok(0) | Err(_) => return Err(TransferError::BrokenOff { done, size: stored.size }),
                Ok(read) => {
                    file.write_all(&buffer[..read])?;
                    done += read as u64;
                    progress(done, stored.size);
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

/// Who answers at an address: scheme, and host with port.
fn origin(uri: &Uri) -> (Option<String>, Option<String>) {
    (uri.scheme_str().map(str::to_owned), uri.authority().map(|authority| authority.as_str().to_lowercase()))
}

/// Where a redirect at `address` leads.
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
    fn redirects_lead_to_a_whole_address_or_nowhere() {
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
