//! The page to chat, in a real browser.

mod support;

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Server, engine};
use upcycle_tests::browser::{self, Browser, keys};

/// Waits until a script returns `true`.
fn until(browser: &mut Browser, script: &str) {
    let start = Instant::now();
    while browser.run(&format!("return {script}"), &[]).unwrap() != true {
        assert!(start.elapsed() < Duration::from_secs(30), "{script}: {:?}", browser.text("body"));
        thread::sleep(Duration::from_millis(10));
    }
}

fn open(browser: &mut Browser, server: &Server) {
    browser.open(&format!("http://{}/", server.address())).unwrap();
    until(browser, "document.getElementById('model').textContent === 'naive'");
}

fn send(browser: &mut Browser, prompt: &str) {
    browser.type_into("#prompt", &format!("{prompt}{}", keys::ENTER)).unwrap();
}

/// Console errors, and requests to anywhere but the two endpoints that the page needs.
fn faults(browser: &mut Browser, server: &Server) -> Vec<String> {
    let expected = ["/v1/models", "/v1/chat/completions"]
        .map(|path| format!("request: http://{}{path}", server.address()));
    let faults = browser.faults().unwrap().into_iter();
    faults.filter(|fault| !expected.contains(fault)).collect()
}

#[test]
fn an_answer_is_streamed_with_its_drafts_shaded() {
    let server = Server::start(engine(&[]));
    browser::with(|browser| {
        open(browser, &server);
        browser.type_into("#temperature", "0").unwrap();
        // The vocabulary has what a page must not read as HTML.
        send(browser, "<b>&amp;\"");
        until(
            browser,
            "document.getElementById('send').textContent === 'Send' && document.getElementById('speed').textContent !== ''",
        );

        let ask = json!({"messages": [{"role": "user", "content": "<b>&amp;\""}], "temperature": 0});
        let (_, answer) = server.post("/v1/chat/completions", &ask);
        assert_eq!(browser.text(".user").unwrap(), "<b>&amp;\"");
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert_eq!(browser.text(".assistant").unwrap(), text);
        let script = "return [...document.querySelectorAll('.assistant span')].map(span => [span.className, span.textContent.length])";
        let spans = browser.run(script, &[]).unwrap();
        let drafted = spans.as_array().unwrap().iter().filter(|span| span[0] == "drafted");
        let drafted: u64 = drafted.map(|span| span[1].as_u64().unwrap()).sum();
        // A token of this model is one character.
        let usage = &answer["usage"];
        let speed = browser.text("#speed").unwrap();
        let (tokens, accepted) = (usage["completion_tokens"].as_u64().unwrap(), drafted);
        assert!(
            drafted > 0 && speed.ends_with(&format!("{tokens} tokens, {accepted} of them drafted")),
            "{speed}"
        );
        assert!(speed.contains(" tokens/s, "), "{speed}");

        // Shading can be turned off.
        let shade = "getComputedStyle(document.querySelector('.drafted')).backgroundColor";
        assert_ne!(browser.run(&format!("return {shade}"), &[]).unwrap(), "rgba(0, 0, 0, 0)");
        browser.click("#shade").unwrap();
        assert_eq!(browser.run(&format!("return {shade}"), &[]).unwrap(), "rgba(0, 0, 0, 0)");

        for (width, height) in [(1280, 900), (400, 800)] {
            browser.resize(width, height).unwrap();
            let overflow = "return document.documentElement.scrollWidth - innerWidth";
            assert_eq!(browser.run(overflow, &[]).unwrap(), 0, "{width} pixels");
        }
        assert_eq!(faults(browser, &server), [""; 0]);
    });
}

#[test]
fn a_conversation_goes_on_and_begins_again() {
    let server = Server::start(engine(&[("decode.stop", "[\"T\"]")]));
    browser::with(|browser| {
        open(browser, &server);
        for turn in ["a", "b"] {
            send(browser, turn);
            until(browser, "document.getElementById('send').textContent === 'Send'");
        }
        let messages =
            "return [...document.querySelectorAll('.message')].map(message => message.classList[1])";
        assert_eq!(browser.run(messages, &[]).unwrap(), json!(["user", "assistant", "user", "assistant"]));
        browser.click("#clear").unwrap();
        assert_eq!(browser.run(messages, &[]).unwrap(), json!([]));
        assert_eq!(faults(browser, &server), [""; 0]);
    });
}

#[test]
fn an_error_is_shown_in_its_place() {
    let server = Server::with(engine(&[]), &upcycle::ServerOptions::default(), &["secret".to_owned()]);
    browser::with(|browser| {
        browser.open(&format!("http://{}/", server.address())).unwrap();
        send(browser, "a");
        until(browser, "document.querySelector('.error') !== null");
        assert!(browser.text(".error").unwrap().contains("API key"), "{:?}", browser.text(".error"));
        browser.type_into("#key", "secret").unwrap();
        send(browser, "a");
        until(browser, "document.getElementById('speed').textContent !== ''");
        let answers: Value =
            browser.run("return document.querySelectorAll('.assistant span').length", &[]).unwrap();
        assert!(answers.as_u64().unwrap() > 0);
    });
}
