//! Which peer a text names.

use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use upcycle_bench::peers::{PeerDrafter, PeerSpec, PeerSpecError};

/// Every text that names a peer, with few of the sizes.
fn texts() -> impl Strategy<Value = String> {
    let sized = prop::sample::select(vec!["ngram-map-k", "ngram-map-k4v", "ngram-mod"]);
    prop_oneof![
        Just("llama.cpp".to_owned()),
        prop::sample::select(PeerDrafter::ALL.to_vec()).prop_map(|drafter| format!("llama.cpp:{drafter}")),
        (sized, 1..=1024, 1..=1024)
            .prop_map(|(name, ngram, draft)| format!("llama.cpp:{name}:{ngram}:{draft}")),
        (1..=1024, 0..=1023).prop_map(|(ngram, more)| {
            format!("llama.cpp:ngram-simple:{ngram}:{}", 1024.min(ngram + more))
        }),
    ]
}

fn command(text: &str) -> String {
    let spec = PeerSpec::parse(text).unwrap();
    spec.command_line(Path::new("llama-server"), Path::new("model.gguf"), 2, 512)
}

proptest! {
    #[test]
    fn what_is_parsed_is_written_as_it_was(text in texts()) {
        prop_assert_eq!(PeerSpec::parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn different_texts_are_different_commands_and_different_drafters(one in texts(), other in texts()) {
        let drafter = |text| PeerSpec::parse(text).unwrap().drafter();
        prop_assert_eq!(command(&one) == command(&other), one == other);
        prop_assert_eq!(drafter(&one) == drafter(&other), one == other);
    }

    #[test]
    fn any_text_parses_without_panic_and_round_trips(
        text in prop_oneof!["\\PC{0,30}", "llama\\.cpp(:[a-z0-9-]{0,14}){0,3}(:[+0-9]{0,6}){0,3}"],
    ) {
        if let Ok(spec) = PeerSpec::parse(&text) {
            prop_assert_eq!(PeerSpec::parse(&spec.to_string()), Ok(spec));
        }
    }

    #[test]
    fn a_command_line_is_quoted_for_a_shell(path in "[ -~äß\n]{1,20}") {
        let spec = PeerSpec::parse("llama.cpp:ngram-mod:3:4").unwrap();
        let line = spec.command_line(Path::new("echo log_tail"), Path::new(&path), 2, 512);
        let script = format!("set -- {line}; printf '%s|' \"$1\" \"$3\" \"$4\"");
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("echo log_tail|{path}|--host|"));
    }
}

#[test]
fn an_unknown_drafter_error_lists_all_drafters() {
    let error = PeerSpec::parse("llama.cpp:ngram-magic:3:4").unwrap_err();
    assert_eq!(error, PeerSpecError::UnknownDrafter { found: "ngram-magic".to_owned() });
    for drafter in PeerDrafter::ALL {
        assert!(error.to_string().contains(&format!("`{drafter}`")), "{error}");
    }
}

#[test]
fn another_engine_is_refused() {
    for text in ["", "llama", "llama.cpp ", "Llama.cpp", ":llama.cpp", "vllm:ngram-simple"] {
        let found = text.to_owned();
        assert_eq!(PeerSpec::parse(text), Err(PeerSpecError::OtherEngine { found }));
    }
}

#[test]
fn sizes_are_two_numbers_that_llama_server_takes() {
    for found in
        ["", "3", "3:", ":4", "3:4:5", "0:4", "3:0", "3:1025", "1025:3", "-3:4", "+3:4", "3:4 ", "a:b"]
    {
        let error = PeerSpec::parse(&format!("llama.cpp:ngram-mod:{found}")).unwrap_err();
        let (drafter, found) = (PeerDrafter::NgramMod, found.to_owned());
        assert_eq!(error, PeerSpecError::Sizes { drafter, found });
    }
}

#[test]
fn sizes_without_effect_are_refused() {
    let error = PeerSpec::parse("llama.cpp:ngram-cache:3:4").unwrap_err();
    assert!(matches!(error, PeerSpecError::FixedSizes { .. }), "{error}");
    let error = PeerSpec::parse("llama.cpp:ngram-simple:3:2").unwrap_err();
    assert!(matches!(error, PeerSpecError::DraftTooShort { ngram: 3, draft: 2, .. }), "{error}");
    PeerSpec::parse("llama.cpp:ngram-simple:3:3").unwrap();
}

#[test]
fn what_a_peer_drafts_is_known_where_it_was_given() {
    for (text, drafter, draft_tokens) in [
        ("llama.cpp", "none", None),
        ("llama.cpp:ngram-mod", "ngram-mod", None),
        ("llama.cpp:ngram-simple:3:4", "ngram-simple:3:4", Some(4)),
    ] {
        let spec = PeerSpec::parse(text).unwrap();
        assert_eq!((&*spec.drafter(), spec.draft_tokens()), (drafter, draft_tokens));
        assert_eq!(spec.is_plain(), drafter == "none");
    }
    assert_eq!(PeerSpec::parse("llama.cpp"), Ok(PeerSpec::plain()));
    let carries_over = |text| PeerSpec::parse(text).unwrap().carries_over();
    assert!(!carries_over("llama.cpp") && !carries_over("llama.cpp:ngram-simple"));
    assert!(carries_over("llama.cpp:ngram-mod") && carries_over("llama.cpp:ngram-map-k:3:4"));
}

#[test]
fn each_drafter_has_its_own_options_for_its_sizes() {
    assert!(!command("llama.cpp").contains("--spec"));
    for (text, options) in [
        ("ngram-cache", "--spec-type ngram-cache"),
        ("ngram-simple", "--spec-type ngram-simple"),
        (
            "ngram-simple:3:4",
            "--spec-type ngram-simple --spec-ngram-simple-size-n 3 --spec-ngram-simple-size-m 4",
        ),
        (
            "ngram-map-k:3:4",
            "--spec-type ngram-map-k --spec-ngram-map-k-size-n 3 --spec-ngram-map-k-size-m 4",
        ),
        (
            "ngram-map-k4v:3:4",
            "--spec-type ngram-map-k4v --spec-ngram-map-k4v-size-n 3 --spec-ngram-map-k4v-size-m 4",
        ),
        (
            "ngram-mod:16:8",
            "--spec-type ngram-mod --spec-ngram-mod-n-match 16 --spec-ngram-mod-n-min 0 --spec-ngram-mod-n-max 8",
        ),
    ] {
        let command = command(&format!("llama.cpp:{text}"));
        let plain = self::command("llama.cpp");
        assert_eq!(command, format!("{plain} {options}"));
    }
}
