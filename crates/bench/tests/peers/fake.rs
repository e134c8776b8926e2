//! A stand-in for `llama-server`: a shell script for the process, a thread for what it answers.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use upcycle_bench::peers::{LlamaServer, PeerError, PeerSpec, Timeouts};

/// Nothing is waited for longer. Scripts live twice as long, so that none ends in time by itself.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// Bounds that no test but those of bounds should meet.
pub(crate) const PATIENT: Timeouts = Timeouts { start: BOUND, answer: BOUND };

/// How the thread answers `/completion`.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// With this status and body.
    With(u16, String),
    /// With half of what it announced.
    Cut,
    /// Not at all: it makes the file, which tells the script to die, and closes the connection.
    Die(PathBuf),
}

/// The program that stands in for `llama-server`.
pub(crate) fn program() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/llama-server.sh")
}

/// A script for [`program`], and the folder that it may write to as `$(dirname "$model")`.
pub(crate) struct Script {
    folder: TempDir,
}

impl Script {
    pub(crate) fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("model"), text).unwrap();
        Self { folder }
    }

    /// One that writes its id to `pid`, says that it listens at `port`, and waits to be ended.
    pub(crate) fn listening(port: u16) -> Self {
        Self::new(&format!("{PID}echo \"listening on http://127.0.0.1:{port}\"\nexec sleep 60\n"))
    }

    /// One that begins with `first`, says the same, and dies when the file `die` is there.
    pub(crate) fn mortal(first: &str, port: u16, die: &Path) -> Self {
        let die = die.display();
        Self::new(&format!(
            "{first}\n{PID}echo \"listening on http://127.0.0.1:{port}\"\n\
             for _ in $(seq 1200); do [ ! -e '{die}' ] || {{ echo 'out of memory' >&2; exit 9; }}; sleep 0.05; done\n"
        ))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn start(&self) -> Result<LlamaServer, PeerError> {
        self.start_within(PATIENT)
    }

    pub(crate) fn start_within(&self, timeout: Timeouts) -> Result<LlamaServer, PeerError> {
        LlamaServer::start_within(timeout, &program(), &self.path("model"), &PeerSpec::plain(), 1, 256)
    }
}

/// The line with which a script leaves its id.
pub(crate) const PID: &str = "echo $$ >\"$model.part\"; mv \"$model.part\" \"$(dirname \"$model\")/pid\"\n";

/// Answers on the loopback until it is dropped, or [`BOUND`] is over.
pub(crate) struct Http {
    pub(crate) port: u16,
    asked: Arc<Mutex<Vec<Value>>>,
    over: Arc<AtomicBool>,
}

impl Http {
    /// `/health` is answered with the status `health`, each `/completion` with the next of `replies`.
    pub(crate) fn new(health: u16, replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let http = Self { port, asked: Arc::clone(&asked), over: Arc::clone(&over) };
        thread::spawn(move || {
            let begin = Instant::now();
            let mut replies = replies.into_iter();
            let mut open = Vec::new();
            while begin.elapsed() < BOUND && !over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => open.extend(serve(stream, health, &mut replies, &asked)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        thread::sleep(Duration::from_millis(5));
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        });
        http
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// A sound answer of these tokens to a prompt of `prompt` tokens.
pub(crate) fn sound(prompt: usize, tokens: &[u32]) -> Reply {
    let timings = json!({
        "prompt_n": prompt, "prompt_ms": 20.0, "predicted_n": tokens.len(), "predicted_ms": 30.0,
        "draft_n": 8, "draft_n_accepted": 1,
    });
    Reply::With(200, json!({ "tokens": tokens, "timings": timings }).to_string())
}

/// Answers one question. The connection stays open where the answer was whole, but nobody reads from it again.
fn serve(
    mut stream: TcpStream,
    health: u16,
    replies: &mut impl Iterator<Item = Reply>,
    asked: &Mutex<Vec<Value>>,
) -> Option<TcpStream> {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let mut reader = BufReader::new(&stream);
    let (mut path, mut length) = (String::new(), 0);
    for line in reader.by_ref().lines() {
        let line = line.unwrap().to_ascii_lowercase();
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap().to_owned();
        } else if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        } else if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let reply = if path == "/health" {
        Reply::With(health, "{}".to_owned())
    } else {
        assert_eq!(path, "/completion");
        asked.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
        replies.next().expect("no more questions than replies")
    };
    let (text, is_whole) = match reply {
        Reply::With(status, body) => {
            (format!("HTTP/1.1 {status} Text\r\ncontent-length: {}\r\n\r\n{body}", body.len()), true)
        }
        Reply::Cut => ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"tokens\":[1,".to_owned(), false),
        Reply::Die(file) => {
            fs::write(file, "").unwrap();
            (String::new(), false)
        }
    };
    // The client may have gone.
    let _ = stream.write_all(text.as_bytes());
    is_whole.then_some(stream)
}
