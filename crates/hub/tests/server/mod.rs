//! A mock hub on loopback, with configurable faults.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};

/// The commit of all files.
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// The files and faults of the mock hub.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    /// The files of the only repository, `owner/repo`, by name.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    /// The token that requests need, if any.
    pub(crate) token: Option<String>,
    /// How many answers to cut off in the middle.
    pub(crate) cuts: usize,
    /// Whether to send wrong bytes.
    pub(crate) corrupt: bool,
    /// Whether to send files without a redirect to storage, as for small files.
    pub(crate) direct: bool,
}

/// The server of one test.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    pub(crate) content: Arc<Mutex<Content>>,
    /// Path and range of every request, in order.
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
}

/// Marks a request to the storage that carried the token.
pub(crate) const LEAKED: &str = "with a token";

impl Server {
    pub(crate) fn start(content: Content) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (content, requests) = (Arc::new(Mutex::new(content)), Arc::new(Mutex::new(Vec::new())));
        let (theirs, log) = (Arc::clone(&content), Arc::clone(&requests));
        thread::spawn(move || {
            // A test makes a few dozen requests at most.
            for stream in listener.incoming().take(1000) {
                let Ok(stream) = stream else { break };
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let _ = answer(stream, &theirs, &log);
            }
        });
        Self { endpoint, content, requests }
    }

    /// The number of requests whose record contains `part`.
    pub(crate) fn asked(&self, part: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|request| request.contains(part)).count()
    }
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn answer(stream: TcpStream, content: &Mutex<Content>, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut range, mut token) = (None, None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        let (name, value) = line.trim().split_once(": ").unwrap_or_default();
        match name.to_lowercase().as_str() {
            "range" => range = value.strip_prefix("bytes=").map(str::to_owned),
            "authorization" => token = value.strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let stored = path.strip_prefix("/stored/");
    let leaked = if stored.is_some() && token.is_some() { LEAKED } else { "" };
    log.lock().unwrap().push(format!("{path} {leaked}{}", range.as_deref().unwrap_or("-")));
    let port = stream.local_addr()?.port();
    let mut content = content.lock().unwrap();
    let mut stream = stream;
    let mut reply = |status: &str, headers: &str, body: &[u8], sent: usize| -> std::io::Result<()> {
        write!(
            stream,
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        )?;
        stream.write_all(&body[..sent])?;
        stream.flush()
    };
    if stored.is_none() && content.token.is_some() && content.token != token {
        return reply("401 Unauthorized", "", b"", 0);
    }
    if path == "/api/models/owner/repo/revision/main" {
        let names: Vec<String> =
            content.files.keys().map(|name| format!("{{\"rfilename\": \"{name}\"}}")).collect();
        let body = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", names.join(", "));
        return reply("200 OK", "Content-Type: application/json\r\n", body.as_bytes(), body.len());
    }
    let name =
        stored.or_else(|| path.strip_prefix("/owner/repo/resolve/main/")).unwrap_or_default().to_owned();
    let Some(mut bytes) = content.files.get(&name).cloned() else {
        return reply("404 Not Found", "", b"", 0);
    };
    let about = format!("ETag: \"{}\"\r\nX-Repo-Commit: {COMMIT}\r\n", hash(&bytes));
    if stored.is_none() && !content.direct {
        // To another host, as the real hub does.
        let headers = format!(
            "{about}X-Linked-ETag: \"{}\"\r\nLocation: http://localhost:{port}/stored/{name}\r\n",
            hash(&bytes)
        );
        return reply("302 Found", &headers, b"", 0);
    }
    if content.corrupt {
        bytes.iter_mut().for_each(|byte| *byte ^= 1);
    }
    let whole = bytes.len();
    let (from, to) = match range.as_deref().and_then(|range| range.split_once('-')) {
        Some((from, to)) => (from.parse().unwrap_or(0), to.parse().map_or(whole, |to: usize| to + 1)),
        None => (0, whole),
    };
    let (from, to) = (usize::min(from, whole), usize::min(to, whole));
    let part = &bytes[from..to];
    let headers = format!("{about}Content-Range: bytes {from}-{}/{whole}\r\n", to.saturating_sub(1));
    let cut = part.len() > 1 && content.cuts > 0;
    content.cuts -= usize::from(cut);
    reply("206 Partial Content", &headers, part, if cut { part.len() / 2 } else { part.len() })
}
