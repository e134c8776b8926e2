//! A running `upcycle serve`, and a client of a few lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{SIZE, model, upcycle};

/// `upcycle serve` on a free port.
pub(crate) fn serve(arguments: &[&str]) -> Command {
    let mut command = upcycle();
    command.args(["serve", "--port", "0", "--set", SIZE]).args(arguments);
    command
}

/// A running server. It is killed when dropped.
pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Server {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let model = model().display().to_string();
        let mut command = serve(&["--model", &model]);
        let mut child = command.args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = lines.by_ref().map(Result::unwrap).find(|line| line.contains("listening on http://"));
        let address = listening.unwrap().rsplit('/').next().unwrap().to_owned();
        thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        read(&mut self.begin(method, path, body))
    }

    pub(crate) fn begin(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n");
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        stream
    }

    /// Waits until the model is loaded. Before that, requests are told to wait.
    pub(crate) fn ready(&self) {
        let start = Instant::now();
        loop {
            match self.ask("GET", "/health", "") {
                (200, _) => return,
                (status, body) => assert_eq!(status, 503, "{body}"),
            }
            assert!(start.elapsed() < Duration::from_secs(300), "the model is not loaded");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let kill =
            Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", self.child.id())).status().unwrap();
        assert!(kill.success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Status and body of a response that ends with its connection.
pub(crate) fn read(stream: &mut TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}
