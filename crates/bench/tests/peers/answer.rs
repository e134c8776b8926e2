//! What is asked, and what becomes of good and bad answers.

use serde_json::json;
use upcycle_bench::peers::{LlamaServer, PeerAnswer, PeerError};
use upcycle_core::{Sampling, SamplingConfig};

use crate::fake::{Http, Reply, Script, sound};

const PROMPT: [u32; 3] = [11, 12, 13];

/// A server that answers with `replies`, and what must live as long as it.
fn server(replies: Vec<Reply>) -> (LlamaServer, Http, Script) {
    let http = Http::new(200, replies);
    let script = Script::listening(http.port);
    (script.start().unwrap(), http, script)
}

/// What one question comes to.
fn ask(server: &mut LlamaServer) -> Result<PeerAnswer, PeerError> {
    server.answer(&PROMPT, 16)
}

#[test]
fn a_good_answer_is_its_tokens_and_the_servers_timings() {
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
fn a_greedy_question_asks_for_the_highest_logit_of_a_prompt_read_anew() {
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
fn a_sampling_question_carries_its_settings() {
    let (mut server, http, _script) = server(vec![sound(3, &[4])]);
    let config = SamplingConfig {
        temperature: 0.5,
        top_k: 40,
        top_p: 0.75,
        min_p: 0.25,
        repeat_penalty: 1.5,
        seed: (1 << 32) + 6,
        stream: 0,
    };
    server.sample(&PROMPT, usize::MAX, Sampling::new(config).unwrap()).unwrap();
    let asked = &http.asked()[0];
    for (field, value) in [
        ("n_predict", json!(i32::MAX)),
        ("samplers", json!(["penalties", "temperature", "top_k", "top_p", "min_p"])),
        ("temperature", json!(0.5)),
        ("top_k", json!(40)),
        ("top_p", json!(0.75)),
        ("min_p", json!(0.25)),
        ("repeat_penalty", json!(1.5)),
        ("repeat_last_n", json!(64)),
        // 2^32 - 1 stands for a random seed, so that seeds are taken modulo it.
        ("seed", json!(7)),
    ] {
        assert_eq!(asked[field], value, "{field}");
    }
}

#[test]
fn nonsense_is_told_as_such_with_what_was_answered_and_the_server_goes_on() {
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
            Err(error @ PeerError::Nonsense { .. }) => {
                assert!(error.to_string().contains(shown), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ask(&mut server).unwrap().tokens, [4]);
}

#[test]
fn a_status_is_told_with_the_servers_words() {
    let refusal = r#"{"error":{"code":500,"message":"no slot is free","type":"server_error"}}"#;
    let (mut server, _http, _script) =
        server(vec![Reply::With(500, refusal.to_owned()), Reply::With(404, "gone".to_owned())]);
    for (expected, words) in [(500, "no slot is free"), (404, "gone")] {
        match ask(&mut server) {
            Err(PeerError::Status { status, message }) => assert_eq!((status, &*message), (expected, words)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_connection_that_is_cut_is_told_apart_from_a_death() {
    let (mut server, _http, _script) = server(vec![Reply::Cut, sound(3, &[4])]);
    let cut = ask(&mut server);
    assert!(matches!(cut, Err(PeerError::Connection { .. })), "{cut:?}");
    assert_eq!(ask(&mut server).unwrap().tokens, [4]);
}

#[test]
fn a_death_in_the_middle_is_told_with_its_last_words_and_again_at_each_question() {
    let folder = tempfile::tempdir().unwrap();
    let die = folder.path().join("die");
    let http = Http::new(200, vec![Reply::Die(die.clone()), sound(3, &[4])]);
    let script = Script::mortal("", http.port, &die);
    let mut server = script.start().unwrap();
    // The port still answers the second time, as it may where another program has taken it.
    for _ in 0..2 {
        match ask(&mut server) {
            Err(PeerError::Died { status, words }) => {
                assert_eq!(status.code(), Some(9));
                assert!(words.ends_with("out of memory"), "{words}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn nothing_is_not_asked() {
    let (mut server, http, _script) = server(Vec::new());
    for (prompt, max_tokens) in [(&PROMPT[..0], 16), (&PROMPT[..], 0)] {
        let nothing = server.answer(prompt, max_tokens);
        assert!(matches!(nothing, Err(PeerError::NothingAsked { .. })), "{nothing:?}");
    }
    assert!(http.asked().is_empty());
}
