//! `upcycle serve` on the real model: the first request, signals, wrong settings.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{SIZE, fail, model, stdout, upcycle};

fn serve(arguments: &[&str]) -> Command {
    let mut command = upcycle();
    command.args(["serve", "--port", "0", "--set", SIZE]).args(arguments);
    command
}

/// A running server. It is killed when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let model = model().display().to_string();
        let mut command = serve(&["--model", &model]);
        let mut child = command.args(arguments).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let listening = lines.by_ref().map(Result::unwrap).find(|line| line.contains("listening on http://"));
        let address = listening.unwrap().rsplit('/').next().unwrap().to_owned();
        thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        read(&mut self.begin(method, path, body))
    }

    fn begin(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n");
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        stream
    }

    /// Waits until the model is loaded. Before that, requests are told to wait.
    fn ready(&self) {
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

    fn signal(&self, signal: &str) {
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
fn read(stream: &mut TcpStream) -> (u16, String) {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn question(max_tokens: usize) -> String {
    let message = json!({"role": "user", "content": "Why is the sky blue?"});
    json!({"messages": [message], "temperature": 0, "max_tokens": max_tokens}).to_string()
}

#[test]
fn an_answer_is_that_of_upcycle_run() {
    let server = Server::start(&[]);
    server.ready();
    let (status, body) = server.ask("POST", "/v1/chat/completions", &question(24));
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let run = stdout(upcycle().arg("run").arg("--model").arg(model()).args([
        "--prompt",
        "Why is the sky blue?",
        "-n",
        "24",
    ]));
    assert_eq!(answer["choices"][0]["message"]["content"].as_str().unwrap(), run.trim_end_matches('\n'));
    assert_eq!(answer["model"], model().file_stem().unwrap().to_str().unwrap());
}

#[test]
fn the_defaults_of_requests_are_said_once_the_model_is_loaded() {
    let model = model().display().to_string();
    let mut command = serve(&["--model", &model, "--temperature", "0.7"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let said = lines.find(|line| line.contains("ready;"));
    child.kill().unwrap();
    child.wait().unwrap();
    let said = said.expect("the server ended");
    assert!(said.contains("temperature 0.7, top_k 0, top_p 1,"), "{said}");
}

#[test]
fn sigterm_lets_running_requests_end() {
    for signal in ["TERM", "INT"] {
        let mut server = Server::start(&[]);
        server.ready();
        let mut running = server.begin("POST", "/v1/chat/completions", &question(48));
        // It runs once the metrics say so.
        while !server.ask("GET", "/metrics", "").1.contains("num_requests_running 1") {
            thread::sleep(Duration::from_millis(5));
        }
        server.signal(signal);
        let (status, body) = read(&mut running);
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["usage"]["completion_tokens"], 48);
        assert!(server.child.wait().unwrap().success());
    }
}

#[test]
fn wrong_settings_are_said_before_the_model_is_loaded() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let model = model().display().to_string();
    let error = fail(upcycle().args(["serve", "--model", &model, "--port", &port]), 1);
    assert!(error.contains(&port) && error.contains("server.port"), "{error}");
    let error = fail(&mut serve(&["--model", &model, "--host", "no such host"]), 1);
    assert!(error.contains("no such host"), "{error}");
    let error = fail(upcycle().args(["serve", "--model", &model, "--port", "70000"]), 2);
    assert!(error.contains("65535"), "{error}");
    let error = fail(&mut serve(&["--model", &model, "--api-key-file", "no-such-file"]), 2);
    assert!(error.contains("no-such-file"), "{error}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let error = fail(&mut serve(&["--model", &model, "--api-key-file", empty.path().to_str().unwrap()]), 2);
    assert!(error.contains("no key"), "{error}");
}

#[test]
fn a_server_without_a_model_ends() {
    let error = upcycle().args(["serve", "--port", "0"]).output().unwrap();
    let message = String::from_utf8(error.stderr).unwrap();
    assert!(!error.status.success() && message.contains("model.path"), "{message}");
}
