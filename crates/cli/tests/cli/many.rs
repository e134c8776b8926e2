//! `upcycle run --prompts`.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{SIZE, fail, number, numbers, run, stdout, upcycle};

fn lines(file: &Path, more: &[&str]) -> Vec<Value> {
    let text = stdout(run(&["-n", "12", "-s", SIZE, "--prompts", file.to_str().unwrap()]).args(more));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn prompts_are_answered_in_order_with_carried_or_empty_tables() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompts.jsonl");
    let questions = [
        r#"{"question_id": 81, "category": "x", "turns": ["Name three colours.", "And three more."]}"#,
        r#"{"question_id": "b", "turns": ["Name three colours."]}"#,
    ];
    fs::write(&file, questions.join("\n")).unwrap();
    let carried = lines(&file, &[]);
    let ids: Vec<&Value> = carried.iter().map(|line| &line["question_id"]).collect();
    assert_eq!(ids, [&Value::from(81), &Value::from("b")]);
    let empty = lines(&file, &["--empty-tables"]);
    let apart = lines(&file, &["-s", "drafter.share_across_prompts=false"]);
    let plain = lines(&file, &["--drafter", "none"]);
    for other in [&empty, &apart, &plain] {
        for (a, b) in carried.iter().zip(other) {
            assert_eq!(numbers(a, "/tokens"), numbers(b, "/tokens"), "the drafter never changes the text");
        }
    }
    // With empty tables both answers to a repeated prompt take the same steps; with carried tables the second takes fewer.
    let lengths = |line: &Value| numbers(line, "/stats/tokens_by_step");
    assert_eq!(lengths(&empty[0]), lengths(&empty[1]));
    assert_eq!(lengths(&empty[0]), lengths(&carried[0]));
    assert_eq!(apart.iter().map(lengths).collect::<Vec<_>>(), empty.iter().map(lengths).collect::<Vec<_>>());
    assert!(lengths(&carried[1]).len() < lengths(&empty[1]).len(), "{carried:?}");
    assert_eq!(number(&plain[1], "/stats/matrix_rows"), 0.0);
}

#[test]
fn empty_tables_keep_the_users_texts() {
    let folder = tempfile::tempdir().unwrap();
    let (file, texts) = (folder.path().join("prompts.jsonl"), folder.path().join("texts"));
    let question = r#"{"question_id": 1, "turns": ["Name three colours."]}"#;
    fs::write(&file, [question, question].join("\n")).unwrap();
    let empty = |more: &[&str]| lines(&file, &[&["--empty-tables", "--drafter", "mixed"], more].concat());
    let lengths = |line: &Value| numbers(line, "/stats/tokens_by_step");
    let without = empty(&[]);
    fs::create_dir(&texts).unwrap();
    fs::write(texts.join("answer.txt"), without[0]["text"].as_str().unwrap()).unwrap();
    let with = empty(&["-s", &format!("drafter.corpus_dir={}", texts.display())]);
    assert_eq!(numbers(&with[1], "/tokens"), numbers(&without[1], "/tokens"));
    assert!(lengths(&with[1]).len() < lengths(&without[1]).len(), "{with:?}");
    assert_eq!(lengths(&with[0]), lengths(&with[1]), "and nothing else");
}

#[test]
fn a_broken_line_fails_before_anything_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompts.jsonl");
    let good = r#"{"question_id": 1, "turns": ["Hi"]}"#;
    let long = format!(r#"{{"question_id": 1, "turns": ["{}"]}}"#, "word ".repeat(10_000));
    for (line, reason) in [
        (r#"{"question_id": 2, "turns": "Hi"}"#, "expected a sequence"),
        (r#"{"question_id": 2, "turns": []}"#, "must begin with a text"),
        ("{", "column 1"),
        (long.as_str(), "the context holds 8192"),
    ] {
        fs::write(&file, format!("{good}\n\n{line}\n{good}\n")).unwrap();
        let error = fail(&mut run(&["-n", "1", "--prompts", file.to_str().unwrap()]), 2);
        assert!(error.contains("prompts.jsonl:3: ") && error.contains(reason), "{error}");
    }
    fs::write(&file, "").unwrap();
    assert!(fail(&mut run(&["--prompts", file.to_str().unwrap()]), 2).contains("has no prompts"));
    assert!(fail(&mut run(&["--prompts", "no-such.jsonl"]), 2).contains("no-such.jsonl"));
}

#[test]
fn empty_tables_need_prompts_and_no_snapshot() {
    assert!(fail(&mut run(&["--empty-tables", "--prompt", "x"]), 2).contains("--empty-tables"));
    assert!(fail(&mut run(&["--empty-tables"]), 2).contains("--prompts"));
    let folder = tempfile::tempdir().unwrap();
    let snapshot = format!("drafter.snapshot={}", folder.path().join("m").display());
    for empty in [&["--empty-tables"][..], &["-s", "drafter.share_across_prompts=false"]] {
        let error = fail(run(&["--prompts", "x", "-s", &snapshot]).args(empty), 2);
        assert!(error.contains("drafter.snapshot"), "{error}");
    }
    let warm = ["warm", "--prompts", "x", "--out", "m", "-s", "drafter.share_across_prompts=false"];
    let error = fail(upcycle().args(warm), 2);
    assert!(error.contains("`drafter.share_across_prompts` is false") && error.contains("`warm`"), "{error}");
}
