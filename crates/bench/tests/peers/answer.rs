//! What is asked, and what becomes of good and bad answers.

use serde_json::json;
use upcycle_bench::peers::{LlamaServer, PeerAnswer, PeerError};

use crate::fake::{Http, Reply, Script, sound};

const PROMPT: [u32; 3] = [11, 12, 13];

/// A server that answers with `replies`, and the values that must outlive it.
fn server(replies: Vec<Reply>) -> (LlamaServer, Http, Script) {
    let http = Http::new(200, replies);
    let script = Script::listening(http.port);
    (script.start().unwrap(), http, script)
}

/// Sends one request.
fn ask(server: &mut LlamaServer) -> Result<PeerAnswer, PeerError> {
    server.answer(&PROMPT, 16)
}

#[test]
fn an_answer_has_its_tokens_and_the_times_of_the_server() {
    let (mut server, _http, _script) = server(vec![sound(3, &[4, 5, 6]), sound(3, &[7])]);
    assert_eq!(
        ask(&mut server).unwrap(),
        PeerAnswer {
            tokens: vec![4, 5, 6],
            prompt_tokens: 3,
            prompt_seconds: 0.02,
            decode_tokens: 2,
            decode_seconds: 0.03,
            drafted: 8,
            accepted: 1,
        }
    );
    assert_eq!(ask(&mut server).unwrap().tokens, [7]);
    assert_eq!(server.version(), "7 (fake)");
    assert!(server.command_line().contains("tests/peers/llama-server.sh -m "), "{}", server.command_line());
}

#[test]
fn a_greedy_request_reads_the_whole_prompt_and_takes_the_highest_logit() {
    let (mut server, http, _script) = server(vec![sound(3, &[4])]);
    ask(&mut server).unwrap();
    let asked = &http.asked()[0];
    for (field, value) in [
        ("prompt", json!([11, 12, 13])),
        ("n_predict", json!(16)),
        ("cache_prompt", json!(false)),
        ("return_tokens", json!(true)),
        ("stream", json!(false)),
        ("samplers", json!(["top_k"])),
        ("top_k", json!(1)),
        ("temperature", json!(0.0)),
        ("repeat_penalty", json!(1.0)),
    ] {
        assert_eq!(asked[field], value, "{field}");
    }
}

#[test]
fn an_invalid_answer_is_shown_and_the_server_continues() {
    let bad = |text: &str| Reply::With(200, text.to_owned());
    let (mut server, _http, _script) = server(vec![
        bad("{\"tokens\": [1, 2"),
        bad("<html>hello</html>"),
        bad(r#"{"tokens": "1 2 3", "timings": {}}"#),
        bad(r#"{"content": "text"}"#),
        // As if only two of the three tokens of the prompt had been read.
        sound(2, &[4]),
        sound(3, &[4]),
    ]);
    for shown in ["{\"tokens\": [1, 2", "<html>", "1 2 3", "content", "prompt_n"] {
        match ask(&mut server) {
            Err(error @ PeerError::InvalidAnswer { .. }) => {
                assert!(error.to_string().contains(shown), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ask(&mut server).unwrap().tokens, [4]);
}

#[test]
fn an_error_status_shows_the_message_of_the_server() {
    let refusal = r#"{"error":{"code":500,"message":"no slot is free","type":"server_error"}}"#;
    let (mut server, _http, _script) =
        server(vec![Reply::With(500, refusal.to_owned()), Reply::With(404, "gone".to_owned())]);
    for (expected, log_tail) in [(500, "no slot is free"), (404, "gone")] {
        match ask(&mut server) {
            Err(PeerError::Status { status, message }) => {
                assert_eq!((status, &*message), (expected, log_tail));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_cut_connection_differs_from_an_ended_server() {
    let (mut server, _http, _script) = server(vec![Reply::Cut, sound(3, &[4])]);
    let cut = ask(&mut server);
    assert!(matches!(cut, Err(PeerError::Connection { .. })), "{cut:?}");
    assert_eq!(ask(&mut server).unwrap().tokens, [4]);
}

#[test]
fn an_unexpected_end_shows_the_log_at_every_request() {
    let folder = tempfile::tempdir().unwrap();
    let die = folder.path().join("die");
    let http = Http::new(200, vec![Reply::Die(die.clone()), sound(3, &[4])]);
    let script = Script::mortal("", http.port, &die);
    let mut server = script.start().unwrap();
    // The port still answers the second time, as it may where another program has taken it.
    for _ in 0..2 {
        match ask(&mut server) {
            Err(PeerError::Died { status, log_tail }) => {
                assert_eq!(status.code(), Some(9));
                assert!(log_tail.ends_with("out of memory"), "{log_tail}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn empty_requests_are_refused() {
    let (mut server, http, _script) = server(Vec::new());
    for (prompt, max_tokens) in [(&PROMPT[..0], 16), (&PROMPT[..], 0)] {
        let nothing = server.answer(prompt, max_tokens);
        assert!(matches!(nothing, Err(PeerError::EmptyRequest { .. })), "{nothing:?}");
    }
    assert!(http.asked().is_empty());
}
