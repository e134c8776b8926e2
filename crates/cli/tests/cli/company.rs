//! Law 12 over HTTP, on the real model: an answer does not depend on the other requests that are being answered.

use std::io::{BufRead, BufReader};
use std::net::Shutdown;
use std::time::Duration;
use std::{env, thread};

use serde_json::{Value, json};

use crate::server::{Server, read};

/// A number in an environment variable.
fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |value| value.parse().unwrap())
}

/// How a client treats its answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Client {
    Reads,
    /// Disconnects after so many events of a stream.
    LeavesAfter(usize),
    /// Closes the connection after so many milliseconds.
    LeavesAt(u64),
}

#[derive(Debug)]
struct Request {
    path: &'static str,
    body: Value,
    client: Client,
    /// Milliseconds before it arrives.
    delay: u64,
}

/// What a finished answer says: texts, finish reasons and counts of tokens. Ids and times differ.
#[derive(Debug, PartialEq)]
struct Said {
    choices: Vec<(String, String)>,
    completion_tokens: u64,
}

const WORDS: [&str; 16] = [
    "the", "river", "seven", "Paris", "list", "of", "numbers", "in", "order", "why", "does", "rain", "fall",
    "and", "a", "story",
];

fn prompt(rng: &mut fastrand::Rng) -> String {
    let longest = if rng.u8(0..8) == 0 { 150 } else { 20 };
    let words: Vec<_> = (0..rng.usize(1..longest)).map(|_| pick(rng, &WORDS)).collect();
    words.join(" ")
}

fn pick<T: Copy>(rng: &mut fastrand::Rng, of: &[T]) -> T {
    of[rng.usize(..of.len())]
}

fn request(rng: &mut fastrand::Rng) -> Request {
    let max_tokens = rng.u32(1..40);
    let mut body = json!({
        "temperature": pick(rng, &[0.0, 0.3, 0.7, 1.0, 1.5]),
        "seed": rng.u32(..),
        "max_tokens": max_tokens,
        "top_k": pick(rng, &[0, 40]),
        "top_p": pick(rng, &[1.0, 0.9]),
        "min_p": pick(rng, &[0.0, 0.05]),
        "repetition_penalty": pick(rng, &[1.0, 1.1]),
        "ignore_eos": rng.bool(),
    });
    if rng.u8(0..8) == 0 {
        body["n"] = 2.into();
    }
    if rng.u8(0..4) == 0 {
        body["stop"] = json!([". ", "\n\n"]);
    }
    if rng.u8(0..4) == 0 {
        body["cache_salt"] = pick(rng, &["a", "b"]).into();
    }
    let path = if rng.bool() {
        // Most conversations begin alike, so prefixes are copied between sequences that run.
        let system =
            json!({"role": "system", "content": "You answer in short and plain sentences, without lists."});
        let user = json!({"role": "user", "content": prompt(rng)});
        body["messages"] = if rng.u8(0..3) > 0 { json!([system, user]) } else { json!([user]) };
        "/v1/chat/completions"
    } else {
        body["prompt"] = prompt(rng).into();
        "/v1/completions"
    };
    let client = match rng.u8(0..10) {
        0 | 1 => Client::LeavesAfter(rng.usize(0..12)),
        2 => Client::LeavesAt(rng.u64(0..150)),
        _ => Client::Reads,
    };
    if rng.bool() || matches!(client, Client::LeavesAfter(_)) {
        body["stream"] = true.into();
        body["stream_options"] = json!({"include_usage": true});
    }
    Request { path, body, client, delay: rng.u64(0..40) }
}

impl Request {
    /// The answer, unless the client leaves.
    fn send(&self, server: &Server) -> Option<Said> {
        let mut connection = server.begin("POST", self.path, &self.body.to_string());
        match self.client {
            Client::Reads => {}
            Client::LeavesAfter(events) => {
                let lines = BufReader::new(connection).lines().map_while(Result::ok);
                lines.filter(|line| line.starts_with("data:")).take(events).for_each(drop);
                return None;
            }
            Client::LeavesAt(time) => {
                thread::sleep(Duration::from_millis(time));
                // The connection may be closed already.
                let _ = connection.shutdown(Shutdown::Both);
                return None;
            }
        }
        let (status, text) = read(&mut connection);
        assert_eq!(status, 200, "{self:?}: {text}");
        let streamed = self.body["stream"] == true;
        let values: Vec<Value> = if streamed {
            // Chunks of the connection end with events.
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
        } else {
            vec![serde_json::from_str(&text).unwrap()]
        };
        let mut choices = vec![(String::new(), String::new()); self.body["n"].as_u64().unwrap_or(1) as usize];
        for choice in values.iter().flat_map(|value| value["choices"].as_array().unwrap()) {
            let said = &mut choices[choice["index"].as_u64().unwrap() as usize];
            let text = [&choice["text"], &choice["message"]["content"], &choice["delta"]["content"]];
            text.iter().filter_map(|text| text.as_str()).for_each(|text| said.0.push_str(text));
            said.1.push_str(choice["finish_reason"].as_str().unwrap_or_default());
        }
        let usage = &values.last().unwrap()["usage"];
        Some(Said { choices, completion_tokens: usage["completion_tokens"].as_u64().unwrap() })
    }
}

/// Sends the requests from `width` clients at once, which take every `width`th of them.
fn send_all(server: &Server, requests: &[Request], width: usize) -> Vec<Option<Said>> {
    let mut answers: Vec<_> = thread::scope(|scope| {
        let clients: Vec<_> = (0..width)
            .map(|first| {
                scope.spawn(move || {
                    let own = requests.iter().enumerate().skip(first).step_by(width);
                    own.map(|(index, request)| {
                        thread::sleep(Duration::from_millis(request.delay));
                        (index, request.send(server))
                    })
                    .collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Sends random requests with 1 to 16 at once. Returns those whose clients stayed, with their answers.
fn in_company(server: &Server, count: u64, seed: u64) -> Vec<(Request, Said)> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut requests: Vec<_> = (0..count).map(|_| request(&mut rng)).collect();
    let mut answered = Vec::new();
    while !requests.is_empty() {
        let width = rng.usize(1..=16);
        let part: Vec<_> = requests.drain(..requests.len().min(3 * width)).collect();
        let answers = send_all(server, &part, width);
        answered.extend(part.into_iter().zip(answers).filter_map(|(request, said)| Some((request, said?))));
    }
    answered
}

/// The same request, one at a time, without drafts or cached prefixes.
const ALONE: [&str; 6] =
    ["--set", "engine.max_cached_tokens=0", "--set", "engine.max_sequences=1", "--drafter", "none"];

#[test]
fn an_answer_is_that_of_its_request_alone() {
    let (count, seed) = (number("UPCYCLE_COMPANY_REQUESTS", 48), number("UPCYCLE_COMPANY_SEED", 1));
    let server = Server::start(&[]);
    server.ready();
    let answered = in_company(&server, count, seed);
    // Who left was cancelled.
    while !server.ask("GET", "/metrics", "").1.contains("num_requests_running 0") {
        thread::sleep(Duration::from_millis(5));
    }
    drop(server);

    let server = Server::start(&ALONE);
    server.ready();
    for (request, said) in &answered {
        let alone = request.send(&server).unwrap();
        assert_eq!(
            *said, alone,
            "UPCYCLE_COMPANY_REQUESTS={count} UPCYCLE_COMPANY_SEED={seed}: {request:#?}"
        );
    }
    let (tokens, len) =
        (answered.iter().map(|(_, said)| said.completion_tokens).sum::<u64>(), answered.len());
    println!(
        "{len} of {count} requests were answered with {tokens} tokens; every answer is that of its request alone"
    );
    assert!(len as u64 * 2 > count);
}
