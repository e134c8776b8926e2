//! Files of prompts: laws of the reader and of the cut, every refusal, and the project's own set.

use std::collections::HashSet;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};
use upcycle_bench::prompts::{Prompt, PromptSet, PromptsError, UNGROUPED, parse, read};

fn an_id() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ]
}

fn a_prompt() -> impl Strategy<Value = Prompt> {
    let group = prop_oneof![Just("a"), Just("b"), Just("maths"), Just("\u{e9} \"c\"\n"), Just(UNGROUPED)];
    let turns = (".{1,40}", prop::collection::vec(any::<String>(), 0..3));
    (an_id(), group, turns).prop_map(|(id, group, (first, rest))| Prompt {
        id,
        group: group.to_owned(),
        turns: [vec![first], rest].concat(),
        line: 0,
    })
}

/// Prompts with ids that differ, as they were written: a number before each says how many blank lines.
fn a_file() -> impl Strategy<Value = (Vec<Prompt>, Vec<u8>)> {
    prop::collection::vec((a_prompt(), 0_usize..3, any::<bool>()), 1..30).prop_map(|written| {
        let (mut prompts, mut text, mut line) = (Vec::new(), String::new(), 1);
        for (index, (mut prompt, blank, windows)) in written.into_iter().enumerate() {
            let end = if windows { "\r\n" } else { "\n" };
            if let Value::String(id) = &mut prompt.id {
                id.push_str(&format!("#{index}"));
            } else if prompts.iter().any(|other: &Prompt| other.question() == prompt.question()) {
                prompt.id = Value::from(format!("number {index}"));
            }
            text.push_str(&format!(" \t{end}").repeat(blank));
            prompt.line = line + blank;
            line = prompt.line + 1;
            let mut object = json!({ "question_id": prompt.id, "reference": [1, {}], "turns": prompt.turns });
            if prompt.group != UNGROUPED || windows {
                object["group"] = Value::from(prompt.group.clone());
            }
            text.push_str(&format!("{object}{end}"));
            prompts.push(prompt);
        }
        (prompts, text.into_bytes())
    })
}

proptest! {
    #[test]
    fn what_was_written_is_read((prompts, bytes) in a_file()) {
        prop_assert_eq!(&parse("q.jsonl", &bytes).unwrap(), &prompts);
        let set = PromptSet::parse("q.jsonl", &bytes).unwrap();
        prop_assert_eq!(set.prompts(), &prompts);
        prop_assert_eq!(set.name(), "q.jsonl");
    }

    #[test]
    fn the_cut_is_the_head_of_each_group_in_file_order((_, bytes) in a_file(), n in 0_usize..8) {
        let set = PromptSet::parse("q.jsonl", &bytes).unwrap();
        let cut = set.first_of_each_group(n);
        prop_assert!(cut.is_sorted_by(|a, b| a.line < b.line), "file order");
        let of = |group: &str, prompts: &mut dyn Iterator<Item = &Prompt>| -> Vec<usize> {
            prompts.filter(|prompt| prompt.group == group).map(|prompt| prompt.line).collect()
        };
        let mut firsts = Vec::new();
        for group in set.groups() {
            let whole = of(group, &mut set.prompts().iter());
            let head = of(group, &mut cut.iter().copied());
            prop_assert_eq!(&head, &whole[..n.min(whole.len())]);
            firsts.push(whole[0]);
        }
        prop_assert!(firsts.is_sorted_by(|a, b| a < b), "groups come in order of their first prompts");
        prop_assert!(set.prompts().iter().all(|prompt| set.groups().contains(&prompt.group.as_str())));
        prop_assert_eq!(set.first_of_each_group(usize::MAX).len(), set.prompts().len());
    }

    #[test]
    fn no_bytes_panic_and_every_refusal_names_the_file(
        mut bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            a_file().prop_map(|(_, bytes)| bytes),
        ],
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        for (at, byte) in damages {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        match PromptSet::parse("q.jsonl", &bytes) {
            Ok(set) => prop_assert!(!set.prompts().is_empty() && !set.first_of_each_group(1).is_empty()),
            Err(error) => {
                let message = error.to_string();
                let place = message.strip_prefix("q.jsonl").unwrap_or_else(|| panic!("{message}"));
                let lines = bytes.split(|&byte| byte == b'\n').count();
                let line = place.strip_prefix(':').and_then(|place| place.split(':').next()?.parse().ok());
                prop_assert!(line.map_or(place.starts_with(" has no prompts"), |line| (1..=lines).contains(&line)));
            }
        }
    }
}

fn message(text: &str) -> String {
    PromptSet::parse("q.jsonl", text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn an_invalid_line_is_named_with_the_expected_form() {
    let good = r#"{"question_id": 7, "turns": ["a"]}"#;
    for (line, expected) in [
        (r#"{"question_id": 1, "turns": [}"#, "column 30: expected value; expected {\"question_id\": …"),
        (r#"{"question_id": 1, "turns": ["é", }"#, "column 35: expected value"),
        ("{", "column 1: EOF while parsing an object"),
        ("[1, null, [\"a\"]]", "column 1: invalid type: sequence, expected an object; expected {"),
        ("7", "column 1: invalid type: integer `7`, expected an object"),
        (r#"{"question_id": 1}"#, "column 18: missing field `turns`"),
        (r#"{"turns": ["a"]}"#, "column 16: missing field `question_id`"),
        (r#"{"question_id": 1, "turns": "a"}"#, "column 31: invalid type: string \"a\", expected a sequence"),
        (r#"{"question_id": 1, "turns": ["a", 2]}"#, "invalid type: integer `2`, expected a string"),
        (r#"{"question_id": 1, "turns": ["a"], "turns": ["b"]}"#, "duplicate field `turns`"),
        (r#"{"question_id": 1, "turns": ["a"]} x"#, "column 36: trailing characters"),
        (r#"{"question_id": null, "turns": ["a"]}"#, "must be a number or a string, found null"),
        (r#"{"question_id": [1], "turns": ["a"]}"#, "must be a number or a string, found a list"),
        (r#"{"question_id": 1, "turns": []}"#, "`turns` must begin with a text that is not empty"),
        (r#"{"question_id": 1, "turns": ["", "b"]}"#, "`turns` must begin with a text that is not empty"),
        (r#"{"question_id": 1, "group": " ", "turns": ["a"]}"#, "`group` must not be blank"),
        (r#"{"question_id": 1, "group": 3, "turns": ["a"]}"#, "expected a string"),
    ] {
        let found = message(&format!("\n{good}\n{line}\n{good}"));
        assert!(found.starts_with("q.jsonl:3: ") && found.contains(expected), "{line}: {found}");
    }
    let bytes = [good.as_bytes(), b"\n{\"turns\": \"\xff\"}"].concat();
    assert!(matches!(parse("q.jsonl", &bytes), Err(PromptsError::Line { line: 2, .. })));
    assert_eq!(
        message(" \n\n"),
        "q.jsonl has no prompts; expected one JSON object per line: {\"question_id\": …, \"turns\": [\"…\"]}"
    );
}

#[test]
fn duplicate_ids_are_refused_only_in_a_set() {
    let line = |id: &str| format!("{{\"question_id\": {id}, \"turns\": [\"a\"]}}\n");
    for (first, second) in [("7", "7"), ("\"x\"", "\"x\""), ("7", "\"7\"")] {
        let text = [line(first), line("1"), "\n".to_owned(), line(second)].concat();
        let id = first.trim_matches('"');
        assert_eq!(
            message(&text),
            format!("q.jsonl:4: question_id {id} is already used in line 1; use unique ids",)
        );
        assert_eq!(parse("q.jsonl", text.as_bytes()).unwrap().len(), 3);
    }
}

#[test]
fn a_file_is_read_from_its_path_and_named_without_its_folders() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some prompts.jsonl");
    let text = "{\"question_id\": \"q\", \"turns\": [\"abc\"]}\n";
    std::fs::write(&path, text).unwrap();
    let set = PromptSet::read(&path).unwrap();
    assert_eq!(set.name(), "some prompts.jsonl");
    assert_eq!(set.prompts(), read(&path).unwrap());
    assert_eq!((set.prompts()[0].first_turn(), set.groups()), ("abc", vec![UNGROUPED]));
    // As `sha256sum` has it.
    assert_eq!(set.sha256(), "b61ad8acaa2facafa26efccadffbcb5689847326a288c188dd93cb882746e64d");

    std::fs::write(&path, "{}").unwrap();
    let error = PromptSet::read(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{}:1: ", path.display())), "{error}");

    for error in [read(Path::new("no/such.jsonl")).unwrap_err(), PromptSet::read(folder.path()).unwrap_err()]
    {
        assert!(matches!(error, PromptsError::Unreadable { .. }), "{error:?}");
        assert!(std::error::Error::source(&error).is_some() && error.to_string().contains("cannot read"));
    }
}

#[test]
fn the_own_set_has_seven_groups_of_eight() {
    let set = PromptSet::built_in();
    let groups = [
        "multi-turn",
        "translation",
        "summarization",
        "question-answering",
        "mathematics",
        "retrieval-augmented",
        "code",
    ];
    assert_eq!((set.name(), set.groups()), ("built-in", groups.to_vec()));
    let mut texts = HashSet::new();
    for group in groups {
        let prompts: Vec<&Prompt> = set.prompts().iter().filter(|prompt| prompt.group == group).collect();
        assert_eq!(prompts.len(), 8, "{group}");
        for prompt in prompts {
            assert_eq!(prompt.turns.len(), if group == "multi-turn" { 2 } else { 1 }, "{}", prompt.id);
            for turn in &prompt.turns {
                assert!((1..=3000).contains(&turn.chars().count()), "{}", prompt.id);
                assert_eq!(turn.trim(), turn, "{}", prompt.id);
                assert!(texts.insert(turn), "{} stands twice", prompt.id);
            }
        }
    }
    assert_eq!(set.prompts().len(), 56);
}

#[test]
fn the_own_texts_are_as_long_as_in_use() {
    let set = PromptSet::built_in();
    let words = |text: &str| text.split_whitespace().count();
    for prompt in set.prompts() {
        let turn = prompt.first_turn();
        match prompt.group.as_str() {
            "summarization" => {
                let (_, text) = turn.split_once("\n\n").expect("the task, then the text");
                assert!((150..=350).contains(&words(text)), "{}: {} words", prompt.id, words(text));
            }
            "retrieval-augmented" => {
                let passages: Vec<&str> = turn.lines().filter(|line| line.starts_with('[')).collect();
                let all: usize = passages.iter().map(|passage| words(passage) - 1).sum();
                assert!(passages.len() >= 4 && (120..=300).contains(&all), "{}: {all} words", prompt.id);
                assert!(turn.contains("\n\nQuestion: "), "{}", prompt.id);
            }
            _ => {}
        }
    }
}
