//! The endpoints over real connections, with a model of a few tokens.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Server, engine};
use upcycle::ServerOptions;

fn ask(prompt: &str) -> Value {
    json!({"messages": [{"role": "user", "content": prompt}], "max_tokens": 12, "temperature": 0})
}

#[test]
fn a_chat_is_answered_whole_and_streamed_alike() {
    let server = Server::start(engine(&[]));
    let (status, whole) = server.post("/v1/chat/completions", &ask("abc"));
    assert_eq!(status, 200, "{whole}");
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["usage"]["completion_tokens"], 12);
    let usage = &whole["usage"];
    assert_eq!(
        usage["total_tokens"].as_u64().unwrap(),
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap()
    );

    let mut streamed = ask("abc");
    streamed["stream"] = true.into();
    streamed["stream_options"] = json!({"include_usage": true});
    let chunks = server.stream("/v1/chat/completions", &streamed);
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, whole["choices"][0]["message"]["content"].as_str().unwrap());
    let (last, before) = chunks.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]["completion_tokens"]), (&json!([]), &json!(12)));
    // Null until the end.
    let reasons: Vec<_> = before.iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
    assert!(reasons[..reasons.len() - 1].iter().all(|reason| reason.is_null()), "{reasons:?}");
    assert_eq!(*reasons[reasons.len() - 1], "length");
    assert!(before.iter().all(|chunk| chunk["usage"].is_null() && chunk["id"] == last["id"]));
}

#[test]
fn several_answers_have_an_index_each() {
    let server = Server::start(engine(&[]));
    let mut request = ask("abc");
    request["n"] = 3.into();
    request["temperature"] = 1.into();
    request["seed"] = 5.into();
    let (_, whole) = server.post("/v1/chat/completions", &request);
    let texts: Vec<_> =
        whole["choices"].as_array().unwrap().iter().map(|choice| &choice["message"]["content"]).collect();
    assert!(texts.len() == 3 && texts[0] != texts[1], "{texts:?}");
    assert_eq!(whole["usage"]["completion_tokens"], 36);
    assert_eq!(
        server.post("/v1/chat/completions", &request).1["choices"],
        whole["choices"],
        "a seed repeats"
    );

    request["stream"] = true.into();
    let mut streamed = vec![String::new(); 3];
    for chunk in server.stream("/v1/chat/completions", &request) {
        let choice = &chunk["choices"][0];
        streamed[choice["index"].as_u64().unwrap() as usize] +=
            choice["delta"]["content"].as_str().unwrap_or("");
    }
    assert_eq!(streamed, texts.iter().map(|text| text.as_str().unwrap()).collect::<Vec<_>>());
}

#[test]
fn texts_and_tokens_are_continued() {
    let server = Server::start(engine(&[]));
    let complete = |prompt: Value| {
        server.post("/v1/completions", &json!({"prompt": prompt, "temperature": 0, "max_tokens": 5})).1
    };
    let (_, tokens) = server.post("/tokenize", &json!({"prompt": "abc"}));
    assert_eq!(tokens["count"], 3);
    assert_eq!(server.post("/detokenize", &json!({"tokens": tokens["tokens"]})).1["content"], "abc");
    let text = complete("abc".into());
    assert_eq!(text["choices"][0]["text"].as_str().unwrap().chars().count(), 5);
    assert_eq!(complete(tokens["tokens"].clone())["choices"], text["choices"]);
    let both = complete(json!(["abc", "abd"]));
    assert_eq!(both["choices"][0]["text"], text["choices"][0]["text"]);
    assert_eq!((both["choices"][1]["index"].as_u64(), &both["usage"]["prompt_tokens"]), (Some(1), &json!(6)));
    let default = server.post("/v1/completions", &json!({"prompt": "abc"})).1;
    assert_eq!(default["usage"]["completion_tokens"], 16);
}

#[test]
fn a_response_streams_numbered_events() {
    let server = Server::start(engine(&[]));
    let mut request = json!({"input": "abc", "max_output_tokens": 6, "temperature": 0});
    let (_, whole) = server.post("/v1/responses", &request);
    assert_eq!((&whole["object"], &whole["status"]), (&json!("response"), &json!("incomplete")));
    request["stream"] = true.into();
    let events = server.stream("/v1/responses", &request);
    let numbers: Vec<_> = events.iter().map(|event| event["sequence_number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
    let text: String = events
        .iter()
        .filter(|event| event["type"] == "response.output_text.delta")
        .map(|event| event["delta"].as_str().unwrap())
        .collect();
    assert_eq!(text, whole["output"][0]["content"][0]["text"].as_str().unwrap());
    assert_eq!(events.last().unwrap()["type"], "response.incomplete");
}

#[test]
fn a_message_in_anthropics_shape_is_that_of_a_chat() {
    let server = Server::start(engine(&[]));
    let chat = json!({
        "messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "abc"}],
        "max_tokens": 12,
        "temperature": 0,
    });
    let text = server.post("/v1/chat/completions", &chat).1["choices"][0]["message"]["content"].clone();
    let mut request = json!({
        "system": [{"type": "text", "text": "S"}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "abc"}]}],
        "max_tokens": 12,
        "temperature": 0,
    });
    let (status, whole) = server.post("/v1/messages", &request);
    assert_eq!(status, 200, "{whole}");
    assert_eq!(whole["content"], json!([{"type": "text", "text": text}]));
    assert_eq!((&whole["type"], &whole["stop_reason"]), (&json!("message"), &json!("max_tokens")));
    assert_eq!(whole["usage"]["output_tokens"], 12);

    request["stream"] = true.into();
    let events = server.stream("/v1/messages", &request);
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["message_start", "content_block_start"]);
    assert_eq!(kinds[kinds.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let deltas = events.iter().filter_map(|event| event["delta"]["text"].as_str());
    assert_eq!(json!(deltas.collect::<String>()), text);
    assert_eq!(events[events.len() - 2]["delta"]["stop_reason"], "max_tokens");

    let stop: String = text.as_str().unwrap().chars().skip(4).take(3).collect();
    request["stream"] = false.into();
    request["stop_sequences"] = json!([stop]);
    let (_, stopped) = server.post("/v1/messages", &request);
    assert_eq!((&stopped["stop_reason"], &stopped["stop_sequence"]), (&json!("stop_sequence"), &json!(stop)));

    request["max_tokens"] = Value::Null;
    let (status, error) = server.post("/v1/messages", &request);
    assert_eq!((status, &error["type"]), (400, &json!("error")));
    assert_eq!(error["error"]["type"], "invalid_request_error");
    let message = error["error"]["message"].as_str().unwrap();
    assert!(message.contains("max_tokens"), "{message}");
}

#[test]
fn wrong_requests_are_refused_by_name() {
    let server = Server::start(engine(&[]));
    let with = |field: &str, value: Value| {
        let mut request = ask("abc");
        request[field] = value;
        request
    };
    for (request, status, param) in [
        (with("temperature", json!(-1)), 400, "temperature"),
        (with("temperature", json!("hot")), 400, "temperature"),
        (with("top_p", json!(0)), 400, "top_p"),
        (with("n", json!(0)), 400, "n"),
        (with("n", json!(1000)), 400, "n"),
        (with("messages", json!([])), 400, "messages"),
        (with("messages", json!([{"role": "robot", "content": "x"}])), 400, "messages[0].role"),
        (with("messages", json!([{"role": "user", "content": [{"type": "image_url"}]}])), 400, "messages[0]"),
        (with("model", json!("gpt-4")), 404, "model"),
        (with("tools", json!([{"type": "function"}])), 400, "tools"),
        (with("logprobs", json!(3)), 400, "logprobs"),
        (with("top_logprobs", json!(3)), 400, "top_logprobs"),
        (with("logit_bias", json!({"1": 101})), 400, "logit_bias"),
        (with("logit_bias", json!({"one": 1})), 400, "logit_bias"),
        (with("logit_bias", json!({"96": 1})), 400, "logit_bias"),
        (with("logit_bias", json!({"1": "a lot"})), 400, "logit_bias.1"),
        (with("frequency_penalty", json!(0.5)), 400, "frequency_penalty"),
        (with("response_format", json!({"type": "json_object"})), 400, "response_format"),
        (with("stop", json!([""])), 400, "stop"),
        (with("messages", json!([{"role": "user", "content": "a".repeat(2000)}])), 400, "messages"),
    ] {
        let (found, error) = server.post("/v1/chat/completions", &request);
        assert_eq!((found, error["error"]["param"].as_str()), (status, Some(param)), "{request}: {error}");
        assert!(error["error"]["message"].as_str().unwrap().len() > 10, "{error}");
    }
    let (_, long) = server.post("/v1/completions", &json!({"prompt": "a".repeat(2000)}));
    let message = long["error"]["message"].as_str().unwrap();
    assert!(message.contains("2000") && message.contains("1024"), "{message}");
    // What changes nothing is accepted.
    for (field, value) in [
        ("tools", json!([])),
        ("logprobs", json!(false)),
        ("frequency_penalty", json!(0)),
        ("response_format", json!({"type": "text"})),
        ("something_new", json!({"a": 1})),
        ("user", json!("u")),
        ("model", json!("default")),
    ] {
        assert_eq!(server.post("/v1/chat/completions", &with(field, value)).0, 200, "{field}");
    }
    for body in ["", "{", "[]", "null", "{\"messages\": 1}", "{\"messages\": [1]} x", "\u{0}"] {
        let (status, error) = server.post_text("/v1/chat/completions", body);
        assert_eq!((status, &error["error"]["type"]), (400, &json!("invalid_request_error")), "{body:?}");
    }
    assert_eq!(server.get("/v1/nothing").0, 404);
    assert_eq!(server.get("/v1/chat/completions").0, 405);
    let large = json!({"prompt": "a", "user": "u".repeat(17 << 20)});
    assert_eq!(server.post("/v1/completions", &large).0, 413);
}

#[test]
fn a_key_opens_everything_but_health() {
    let server = Server::with(engine(&[]), &ServerOptions::default(), &["one".to_owned(), "two".to_owned()]);
    for path in ["/v1/models", "/metrics", "/openapi.json"] {
        assert_eq!(server.get(path).0, 401, "{path}");
        assert_eq!(server.get_with(path, &[("authorization", "Bearer two")]).0, 200, "{path}");
        assert_eq!(server.get_with(path, &[("authorization", "Bearer on")]).0, 401, "{path}");
        assert_eq!(server.get_with(path, &[("x-api-key", "one")]).0, 200, "{path}");
        assert_eq!(server.get_with(path, &[("x-api-key", "on")]).0, 401, "{path}");
    }
    assert_eq!(server.post("/v1/chat/completions", &ask("a")).0, 401);
    for path in ["/health", "/ready", "/"] {
        assert_eq!(server.get(path).0, 200, "{path}");
    }
}

#[test]
fn only_named_origins_may_read_answers() {
    let options =
        ServerOptions { cors_origins: vec!["https://example.org".to_owned()], ..ServerOptions::default() };
    let server = Server::with(engine(&[]), &options, &[]);
    let allowed = |server: &Server, origin| {
        server
            .headers("/v1/models", &[("origin", origin)])
            .get("access-control-allow-origin")
            .map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(allowed(&server, "https://example.org").as_deref(), Some("https://example.org"));
    assert_eq!(allowed(&server, "https://example.com"), None);
    assert_eq!(allowed(&Server::start(engine(&[])), "https://example.org"), None);
}

#[test]
fn a_full_queue_says_when_to_try_again() {
    let server = Server::start(engine(&[("engine.max_sequences", "1"), ("engine.max_queue", "1")]));
    let long = json!({"prompt": "a", "max_tokens": 1000, "temperature": 0});
    let refused = thread::scope(|scope| {
        let asked: Vec<_> =
            (0..16).map(|_| scope.spawn(|| server.post_response("/v1/completions", &long))).collect();
        asked
            .into_iter()
            .map(|asked| asked.join().unwrap())
            .filter(|response| response.status() == 429)
            .collect::<Vec<_>>()
    });
    assert!(!refused.is_empty());
    assert_eq!(refused[0].headers()["retry-after"], "1");
}

#[test]
fn a_client_that_leaves_cancels_its_request() {
    let engine = engine(&[("engine.max_sequences", "1")]);
    let server = Server::start(engine.clone());
    for stream in [true, false] {
        let mut client = TcpStream::connect(server.address()).unwrap();
        let body =
            json!({"prompt": "a", "max_tokens": 1_000_000, "stream": stream, "ignore_eos": true}).to_string();
        write!(
            client,
            "POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        if stream {
            let mut head = [0; 64];
            client.read_exact(&mut head).unwrap();
            assert!(head.starts_with(b"HTTP/1.1 200"));
        }
        drop(client);
        let start = Instant::now();
        while engine.status().running + engine.status().waiting > 0 {
            assert!(start.elapsed() < Duration::from_secs(60), "it still runs: {:?}", engine.status());
            thread::sleep(Duration::from_millis(1));
        }
    }
    assert_eq!(server.post("/v1/completions", &json!({"prompt": "a"})).0, 200);
}

#[test]
fn metrics_count_what_was_answered() {
    let server = Server::start(engine(&[]));
    server.post("/v1/chat/completions", &ask("abc"));
    let metrics = server.get("/metrics").1;
    for line in [
        "upcycle:num_requests_running 0",
        "upcycle:generation_tokens_total 12",
        "upcycle:request_success_total{finished_reason=\"length\"} 1",
        "upcycle:time_to_first_token_seconds_count 1",
        "upcycle:e2e_request_latency_seconds_count 1",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    assert!(
        metrics.contains("upcycle:spec_decode_num_accepted_tokens_per_source_total{source="),
        "{metrics}"
    );
}

#[test]
fn the_description_names_every_endpoint() {
    let server = Server::start(engine(&[]));
    let openapi: Value = serde_json::from_str(&server.get("/openapi.json").1).unwrap();
    for (path, methods) in openapi["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let status = match method.as_str() {
                "get" => server.get(path).0,
                _ => server.post(path, &json!({})).0,
            };
            assert!(status == 200 || status == 400, "{method} {path}: {status}");
        }
    }
}

#[test]
fn log_probabilities_come_with_their_tokens() {
    let server = Server::start(engine(&[]));
    let mut request = ask("abc");
    request["logprobs"] = true.into();
    request["top_logprobs"] = 3.into();
    let (status, whole) = server.post("/v1/chat/completions", &request);
    assert_eq!(status, 200, "{whole}");
    let choice = &whole["choices"][0];
    let content = choice["logprobs"]["content"].as_array().unwrap();
    let text: String = content.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(text, choice["message"]["content"].as_str().unwrap());
    for token in content {
        assert_eq!(token["bytes"], json!(token["token"].as_str().unwrap().as_bytes()));
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 3);
        // Greedy: the most probable token.
        assert_eq!((&top[0]["token"], &top[0]["logprob"]), (&token["token"], &token["logprob"]));
        assert!(token["logprob"].as_f64().unwrap() < 0.0);
    }

    let plain = Server::start(engine(&[("drafter.name", "none")]));
    assert_eq!(plain.post("/v1/chat/completions", &request).1["choices"], whole["choices"]);
    request["stream"] = true.into();
    let chunks = server.stream("/v1/chat/completions", &request);
    let streamed: Vec<_> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["content"].as_array())
        .flatten()
        .collect();
    assert_eq!(streamed, content.iter().collect::<Vec<_>>());

    let mut request = json!({"prompt": "<abc>", "max_tokens": 12, "temperature": 0, "logprobs": 2});
    let (_, completion) = server.post("/v1/completions", &request);
    let found = &completion["choices"][0]["logprobs"];
    assert_eq!(found["tokens"].as_array().unwrap().len(), 12);
    assert_eq!(found["text_offset"], json!((0..12).collect::<Vec<_>>()));
    let first = found["tokens"][0].as_str().unwrap();
    assert_eq!(found["top_logprobs"][0].as_object().unwrap().len(), 2);
    assert_eq!(found["top_logprobs"][0][first], found["token_logprobs"][0]);
    request["stream"] = true.into();
    let offsets: Vec<_> = server
        .stream("/v1/completions", &request)
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["logprobs"]["text_offset"].as_array().cloned())
        .flatten()
        .collect();
    assert_eq!(json!(offsets), found["text_offset"]);
    assert!(server.post("/v1/chat/completions", &ask("abc")).1["choices"][0]["logprobs"].is_null());
}

#[test]
fn a_bias_forces_and_bans_tokens() {
    let server = Server::start(engine(&[]));
    let mut request = ask("abc");
    // Token 33 is an `A`.
    request["logit_bias"] = json!({"33": 100});
    let (_, forced) = server.post("/v1/chat/completions", &request);
    assert_eq!(forced["choices"][0]["message"]["content"], "A".repeat(12));
    let unbiased = server.post("/v1/chat/completions", &ask("abc")).1;
    let text = unbiased["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let first = text.chars().next().unwrap();
    request["logit_bias"] = json!({(first as u32 - 32).to_string(): -100});
    let banned = server.post("/v1/chat/completions", &request).1;
    assert!(!banned["choices"][0]["message"]["content"].as_str().unwrap().contains(first));
}
