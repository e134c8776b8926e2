//! Clients that leave, break off, read slowly and send nonsense, beside a model that fails and a drafter that panics.
//! Nobody else's answer changes, and nothing leaks: no thread, no descriptor, no sequence, no memory.
#![cfg(target_os = "linux")]

mod support;

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, fs, panic, thread};

use peak_alloc::PeakAlloc;
use serde_json::{Value, json};
use support::{Server, VOCAB, engine, engine_with};
use upcycle::{DrafterSetup, Engine, NoOptions, Registry, ServerOptions};
use upcycle_core::{DraftContext, DraftTree, Drafter, Outcome, PromptLookup, SeqId};
use upcycle_testkit::{Failure, NaiveVerifier};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const CLIENTS: usize = 8;
/// A pass fails this often.
const FAILS_EVERY: usize = 400;
/// A drafter panics this often.
const PANICS_EVERY: usize = 100;
const PANIC: &str = "told to panic";

/// The sequences that the drafter has something of.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// Panics now and then.
struct Unsteady {
    inner: PromptLookup,
    drafts: usize,
    sequences: HashSet<SeqId>,
}

impl Drafter for Unsteady {
    fn draft(&mut self, context: DraftContext<'_>, tree: &mut DraftTree) {
        self.inner.draft(context, tree);
        self.drafts += 1;
        self.sequences.insert(context.seq);
        KEPT.store(self.sequences.len(), Relaxed);
        assert!(!self.drafts.is_multiple_of(PANICS_EVERY), "{PANIC}");
    }

    fn observe(&mut self, outcome: &Outcome<'_>) {
        self.inner.observe(outcome);
    }

    fn drop_sequence(&mut self, seq: SeqId) {
        self.sequences.remove(&seq);
    }
}

/// An engine of which everything fails now and then.
fn unsteady() -> Engine {
    let failures = [Failure::NotFinite, Failure::Forward, Failure::Commit].into_iter().cycle();
    let verifier = (1..1000)
        .map(|index| index * FAILS_EVERY)
        .zip(failures)
        .fold(NaiveVerifier::new(VOCAB, 3), |verifier, (call, failure)| verifier.failing(failure, call));
    let mut registry = Registry::builtin();
    registry.register_drafter("unsteady", "for a test", |_: &NoOptions, _: &DrafterSetup<'_>| {
        Ok(Box::new(Unsteady {
            inner: PromptLookup::new(3.try_into()?, 8),
            drafts: 0,
            sequences: HashSet::new(),
        }))
    });
    engine_with(verifier, &registry, &[("drafter.name", "unsteady"), ("engine.max_cached_tokens", "0")])
}

/// A server as `upcycle serve` runs it. It ends at SIGTERM.
fn serve(engine: Engine) -> (SocketAddr, thread::JoinHandle<()>) {
    let (sender, address) = mpsc::channel();
    let options = ServerOptions { port: 0, body_timeout_s: 5, ..ServerOptions::default() };
    let load = move || Ok::<_, std::io::Error>(engine);
    let on_listening = move |address| sender.send(address).unwrap();
    let server = thread::spawn(|| upcycle_serve::run(options, Vec::new(), load, on_listening).unwrap());
    let address = address.recv().unwrap();
    until("the model is loading", || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.starts_with("HTTP/1.1 200")
    });
    (address, server)
}

/// A request that clients send over and over, and its answer when nobody else is there.
struct Known {
    path: &'static str,
    body: Value,
    text: String,
}

/// All text of an answer: of one JSON value, or of the events of a stream.
fn text(value: &Value) -> String {
    let choices = value["choices"].as_array().into_iter().flatten();
    let texts = choices.flat_map(|choice| {
        [&choice["text"], &choice["message"]["content"], &choice["delta"]["content"]].map(Value::as_str)
    });
    texts.flatten().collect()
}

fn known(rng: &mut fastrand::Rng) -> Vec<Known> {
    let alone = Server::start(engine(&[("drafter.name", "none")]));
    (0..24)
        .map(|index| {
            let prompt: String = (0..rng.usize(1..120)).map(|_| ['a', 'b', 'c'][rng.usize(..3)]).collect();
            let mut body = json!({"max_tokens": rng.u32(1..80), "temperature": f32::from(rng.u8(..9)) / 8.0, "seed": index});
            let path = if rng.bool() {
                body["messages"] = json!([{"role": "user", "content": prompt}]);
                "/v1/chat/completions"
            } else {
                body["prompt"] = prompt.into();
                "/v1/completions"
            };
            let (status, answer) = alone.post(path, &body);
            assert_eq!(status, 200, "{answer}");
            body["stream"] = rng.bool().into();
            Known { path, body, text: text(&answer) }
        })
        .collect()
}

#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    failed: AtomicUsize,
    refused: AtomicUsize,
}

struct Client<'a> {
    address: SocketAddr,
    rng: fastrand::Rng,
    known: &'a [Known],
    /// Connections that nobody ends.
    open: Vec<TcpStream>,
    counts: &'a Counts,
}

impl Client<'_> {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    fn begin(&self, path: &str, body: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        // The server may refuse before it has read everything.
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        stream
    }

    fn begin_known(&self, known: &Known) -> TcpStream {
        self.begin(known.path, known.body.to_string().as_bytes())
    }

    /// Reads an answer to its end, which must be the one of the request alone, or the error of a pass that failed.
    fn finish(&self, known: &Known, mut stream: impl Read) {
        let mut found = String::new();
        stream.read_to_string(&mut found).unwrap();
        let (head, body) = found.split_once("\r\n\r\n").unwrap();
        let streamed = known.body["stream"] == true;
        let values: Vec<Value> = if streamed {
            let data = body.lines().filter_map(|line| line.strip_prefix("data: "));
            data.filter(|data| *data != "[DONE]").map(|data| serde_json::from_str(data).unwrap()).collect()
        } else {
            vec![serde_json::from_str(body).unwrap()]
        };
        if values.iter().any(|value| value["error"]["type"] == "server_error") {
            self.counts.failed.fetch_add(1, Relaxed);
            return;
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{found}");
        assert_eq!(values.iter().map(text).collect::<String>(), known.text, "{}", known.body);
        self.counts.answered.fetch_add(1, Relaxed);
    }

    /// The body with bytes changed, cut or repeated.
    fn damaged(&mut self, known: &Known) -> Vec<u8> {
        let mut body = known.body.to_string().into_bytes();
        for _ in 0..self.rng.usize(1..4) {
            let at = self.rng.usize(..body.len().max(1));
            match self.rng.u8(0..3) {
                0 => body.truncate(at),
                1 => body.iter_mut().skip(at).take(1).for_each(|byte| *byte = self.rng.u8(..)),
                _ => body.extend_from_within(at..),
            }
        }
        body
    }

    fn one(&mut self) {
        let known = &self.known[self.rng.usize(..self.known.len())];
        match self.rng.u8(0..16) {
            0..=5 => self.finish(known, self.begin_known(known)),
            // Leaves at once, or somewhere in the answer.
            6 => drop(self.begin_known(known)),
            7 | 8 => {
                let events = self.rng.usize(..20);
                BufReader::new(self.begin_known(known))
                    .lines()
                    .map_while(Result::ok)
                    .take(events)
                    .for_each(drop);
            }
            // Reads slowly.
            9 => self.finish(known, Slowly(self.begin_known(known))),
            10 | 11 => {
                let body = self.damaged(known);
                let mut response = Vec::new();
                self.begin(known.path, &body).read_to_end(&mut response).unwrap();
                let status = String::from_utf8_lossy(response.get(9..12).unwrap_or_default()).into_owned();
                // Some damage changes nothing, or only numbers.
                assert!(["200", "400", "404", "500"].contains(&status.as_str()), "{status}: {body:?}");
                self.counts.refused.fetch_add(usize::from(status == "400"), Relaxed);
            }
            // No HTTP at all, or a head without an end.
            12 => {
                let mut stream = self.connect();
                let bytes: Vec<u8> = (0..self.rng.usize(..200)).map(|_| self.rng.u8(..)).collect();
                let _ = stream.write_all(&bytes).and_then(|()| stream.shutdown(Shutdown::Write));
                // The server may reset the connection.
                let _ = stream.read_to_end(&mut Vec::new());
            }
            // Half a head, or half a body; the connection stays open for a while.
            13 => {
                let body = known.body.to_string();
                let mut stream = self.connect();
                let whole = format!(
                    "POST {} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
                    known.path,
                    body.len()
                );
                stream.write_all(&whole.as_bytes()[..self.rng.usize(..whole.len())]).unwrap();
                if self.open.len() == 4 {
                    self.open.remove(0);
                }
                self.open.push(stream);
            }
            // Says that nothing more comes, and waits for the answer. The server may take it as a disconnection.
            14 => {
                let mut stream = self.begin_known(known);
                stream.shutdown(Shutdown::Write).unwrap();
                let _ = stream.read_to_end(&mut Vec::new());
            }
            // Many long answers at once, of which most is never read.
            _ => {
                let body =
                    json!({"prompt": "a", "n": 4, "max_tokens": 900, "stream": true, "ignore_eos": true});
                let mut slowly = Slowly(self.begin("/v1/completions", body.to_string().as_bytes()));
                let _ = slowly.by_ref().take(2000).read_to_end(&mut Vec::new());
            }
        }
    }
}

/// Reads a few bytes at a time, and pauses.
struct Slowly(TcpStream);

impl Read for Slowly {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        thread::sleep(Duration::from_micros(200));
        let few = buffer.len().min(256);
        self.0.read(&mut buffer[..few])
    }
}

/// Sends `count` requests from all clients.
fn send(address: SocketAddr, known: &[Known], counts: &Counts, count: usize, seed: u64) {
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let rng = fastrand::Rng::with_seed(seed + client as u64);
            let mut client = Client { address, rng, known, open: Vec::new(), counts };
            scope.spawn(move || (0..count / CLIENTS).for_each(|_| client.one()));
        }
    });
}

#[derive(Debug)]
struct Held {
    threads: usize,
    descriptors: usize,
}

/// What this process has open.
fn held() -> Held {
    let count = |path| fs::read_dir(path).unwrap().count();
    Held { threads: count("/proc/self/task"), descriptors: count("/proc/self/fd") }
}

/// The resident set, in bytes.
fn resident() -> usize {
    let text = fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let start = Instant::now();
    while !reached() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: {:?}", held());
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn faults_harm_nobody_else_and_leak_nothing() {
    let number = |variable: &str, default| env::var(variable).map_or(default, |value| value.parse().unwrap());
    let (count, seed) = (number("UPCYCLE_FAULTY_REQUESTS", 1000), number("UPCYCLE_FAULTY_SEED", 1));
    println!("UPCYCLE_FAULTY_REQUESTS={count} UPCYCLE_FAULTY_SEED={seed}");
    // The drafter's panics are told to happen.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() != Some(PANIC) {
            hook(info);
        }
    }));
    let known = known(&mut fastrand::Rng::with_seed(seed as u64));
    let before = held();

    let (engine, counts) = (unsteady(), Counts::default());
    let (address, server) = serve(engine.clone());
    let settled = || engine.status().running + engine.status().waiting == 0;
    let memory = || {
        until("requests are left over", settled);
        (ALLOCATOR.current_usage(), resident())
    };
    // The first half brings all buffers to their size.
    send(address, &known, &counts, count / 2, seed as u64);
    let (heap_when_warm, resident_when_warm) = memory();
    send(address, &known, &counts, count - count / 2, seed as u64 + 1000);
    let (heap_after, resident_after) = memory();
    println!(
        "{} answered, {} failed, {} refused; allocated {heap_when_warm}, then {heap_after} bytes; resident {resident_when_warm}, \
         then {resident_after} bytes",
        counts.answered.load(Relaxed),
        counts.failed.load(Relaxed),
        counts.refused.load(Relaxed)
    );

    // The faults happened, and most answers came although the engine has 64 sequences: none is lost.
    assert!(counts.answered.load(Relaxed) > count / 4 && counts.refused.load(Relaxed) > count / 40);
    assert_eq!(engine.status().cached_tokens, 0);
    assert!(counts.failed.load(Relaxed) > 0);
    assert!(KEPT.load(Relaxed) <= 64, "the drafter keeps {} sequences", KEPT.load(Relaxed));
    // Fewer requests do not bring all buffers to their size.
    if count >= 20_000 {
        assert!(
            resident_after <= resident_when_warm + resident_when_warm / 50,
            "{resident_after} bytes are resident"
        );
    }
    let status = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", std::process::id())).status();
    assert!(status.unwrap().success());
    server.join().unwrap();
    drop(engine);
    until("threads or descriptors are left over", || {
        let held = held();
        held.threads <= before.threads && held.descriptors <= before.descriptors
    });
}
