//! `upcycle serve` on the real model: the first request, signals, wrong settings.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{fail, model, stdout, upcycle};
use crate::server::{Server, read, serve};

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
        assert!(server.wait().success());
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
