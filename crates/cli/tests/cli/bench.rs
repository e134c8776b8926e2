//! `upcycle bench`, as a person would use it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{fail, model, stdout, succeed, upcycle};

/// One round of something small, into a folder of its own.
fn bench(folder: &TempDir, arguments: &[&str]) -> Command {
    rounds(1, folder, arguments)
}

fn rounds(rounds: usize, folder: &TempDir, arguments: &[&str]) -> Command {
    let mut command = upcycle();
    command.arg("bench").arg("--model").arg(model()).args(["--wait", "0", "-n", "8"]);
    command.arg("--rounds").arg(rounds.to_string());
    command.arg("--prompts").arg(prompts(folder, &["Say one.", "Say two."])).args(arguments);
    command.arg("--out").arg(folder.path().join("run"));
    command
}

fn prompts(folder: &TempDir, texts: &[&str]) -> PathBuf {
    let path = folder.path().join("prompts.jsonl");
    let lines: Vec<String> = texts
        .iter()
        .enumerate()
        .map(|(id, text)| json!({"question_id": id, "group": format!("g{id}"), "turns": [text]}).to_string())
        .collect();
    fs::write(&path, lines.join("\n")).unwrap();
    path
}

fn results(folder: &TempDir) -> Value {
    serde_json::from_slice(&fs::read(folder.path().join("run/results.json")).unwrap()).unwrap()
}

fn arm<'a>(results: &'a Value, name: &str) -> &'a Value {
    let arms = results["arms"].as_array().unwrap();
    arms.iter().find(|arm| arm["name"] == name).unwrap_or_else(|| panic!("no {name} among {arms:#?}"))
}

#[test]
fn a_run_writes_results_and_a_page_and_names_the_absent_peer() {
    let folder = tempfile::tempdir().unwrap();
    let table = stdout(&mut bench(&folder, &["--arms", "recycling:2,prompt-lookup:2,llama.cpp"]));
    assert!(table.contains("recycling:2") && table.contains("exact"), "{table}");
    let results = results(&folder);
    assert_eq!(results["schema"], 1);
    assert_eq!(results["complete"], true);
    assert_eq!(results["settings"]["groups"], json!(["g0", "g1"]));
    // Plain decoding is measured though nobody named it; the absent peer has no records.
    assert_eq!(arm(&results, "default plain")["kind"], "plain");
    let absent = results["arms"].as_array().unwrap().iter().find(|arm| arm["kind"] == "peer-plain").unwrap();
    assert_eq!(absent["state"]["state"], "absent");
    assert!(absent["state"]["reason"].as_str().unwrap().contains("scripts/get-peers.sh"), "{absent}");
    assert!(table.contains("get-peers.sh"), "an absent peer is a line, not a gap: {table}");
    let records = results["records"].as_array().unwrap();
    assert_eq!(records.len(), 3 * 2);
    assert!(records.iter().all(|record| record["equality"]["verdict"] == "exact"), "{records:#?}");
    for figure in ["cpu", "memory", "processors"] {
        assert!(!results["machine"][figure].is_null(), "{figure}");
    }
    assert_eq!(results["summaries"].as_array().unwrap().len(), 3 * 3, "three arms, overall and by group");
    assert!(fs::read_to_string(folder.path().join("run/report.html")).unwrap().contains("<svg"));

    // The report is made anew from the results alone.
    fs::remove_file(folder.path().join("run/report.html")).unwrap();
    let run = folder.path().join("run");
    assert_eq!(stdout(upcycle().args(["bench", "report"]).arg(&run)), table);
    assert!(run.join("report.html").is_file());
    assert_eq!(stdout(upcycle().args(["bench", "report"]).arg(run.join("results.json"))), table);

    // And a folder with a run is not written over.
    let error = fail(&mut bench(&folder, &["--arms", "plain"]), 2);
    assert!(error.contains("--resume"), "{error}");
}

#[test]
fn a_run_without_arms_reports_that_the_peer_is_absent() {
    let folder = tempfile::tempdir().unwrap();
    let table = stdout(&mut bench(&folder, &[]));
    assert!(table.contains("get-peers.sh"), "{table}");
    let results = results(&folder);
    let states: Vec<&str> = results["arms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arm| arm["state"]["state"].as_str().unwrap())
        .collect();
    assert_eq!(
        states,
        ["measured", "measured", "measured", "absent"],
        "plain, configured, prompt lookup, the peer"
    );
}

#[test]
fn sampled_answers_are_exact_too() {
    let folder = tempfile::tempdir().unwrap();
    succeed(&mut bench(&folder, &["--arms", "mixed:3", "--sampling", "--tables", "carried"]));
    let results = results(&folder);
    assert!((results["settings"]["temperature"].as_f64().unwrap() - 0.7).abs() < 1e-6);
    assert_eq!(results["settings"]["tables"], "carried");
    assert!(
        results["records"].as_array().unwrap().iter().all(|record| record["equality"]["verdict"] == "exact")
    );
}

#[test]
fn errors_are_reported_before_anything_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.jsonl");
    fs::write(&broken, "{\"question_id\": 1, \"turns\": [\"a\"]}\n{\"question_id\": 2}\n").unwrap();
    let mut command = upcycle();
    command.arg("bench").arg("--model").arg(model()).arg("--prompts").arg(&broken).arg("--out");
    let error = fail(command.arg(folder.path().join("run")), 2);
    assert!(error.contains("broken.jsonl:2") && error.contains("turns"), "{error}");
    assert!(!folder.path().join("run").exists(), "nothing is run, and nothing is left");

    let error = fail(&mut bench(&folder, &["--arms", "recyling:2"]), 2);
    assert!(error.contains("recyling:2") && error.contains("recycling"), "{error}");
    let error = fail(&mut bench(&folder, &["--arms", "recycling:9999"]), 2);
    assert!(error.contains("--arms recycling:9999") && error.contains("512"), "{error}");
    let error = fail(&mut bench(&folder, &["--arms", "plain,mixed:2", "--tables", "snapshot"]), 2);
    assert!(error.contains("needs drafter.snapshot for arm default mixed:2"), "{error}");
    let error = fail(&mut rounds(0, &folder, &[]), 2);
    assert!(error.contains("at least 1"), "{error}");
    let error = fail(&mut bench(&folder, &["--arms", "plain", "--llama-server", "x"]), 2);
    assert!(error.contains("need a peer in --arms"), "{error}");

    let mut command = upcycle();
    command.arg("bench").arg("--model").arg(model()).args(["--out", "/dev/null/run"]);
    let error = fail(&mut command, 1);
    assert!(error.contains("cannot create /dev/null/run"), "{error}");
    let error = fail(upcycle().args(["bench", "--resume"]).arg(folder.path()), 1);
    assert!(error.contains("run.json"), "{error}");
}

#[test]
fn a_prompt_longer_than_the_context_is_skipped_counted_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let long = "one two three four ".repeat(3000);
    let path = prompts(&folder, &["Say one.", &long]);
    let mut command = upcycle();
    command.arg("bench").arg("--model").arg(model()).args(["--wait", "0", "--rounds", "1", "-n", "4"]);
    command.args(["--arms", "plain"]).arg("--prompts").arg(path).arg("--out").arg(folder.path().join("run"));
    let table = stdout(&mut command);
    let results = results(&folder);
    assert_eq!(results["settings"]["prompts_count"], 1);
    assert_eq!(results["skipped"][0]["question"], "1");
    assert!(results["skipped"][0]["reason"].as_str().unwrap().contains("8192"), "{results}");
    assert!(table.contains("Skipped prompts"), "{table}");
}

#[test]
fn results_of_another_version_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results.json");
    fs::write(&file, "{\"schema\": 99}").unwrap();
    let error = fail(upcycle().args(["bench", "report"]).arg(folder.path()), 2);
    assert!(error.contains("version 99") && error.contains("version 1"), "{error}");
    fs::write(&file, "[]").unwrap();
    let error = fail(upcycle().args(["bench", "report"]).arg(folder.path()), 2);
    assert!(error.contains("not a file of a run"), "{error}");
}

#[test]
#[cfg(unix)]
fn ctrl_c_keeps_measurements_and_resume_continues() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut command = rounds(2, &folder, &["--arms", "plain,recycling:2"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_line(&run.join("measurements.jsonl"), "answers", &mut child);
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    let stopped = results(&folder);
    assert_eq!(stopped["complete"], false);
    assert!(!stopped["records"].as_array().unwrap().is_empty());

    succeed(upcycle().args(["bench", "--resume"]).arg(&run));
    let whole = results(&folder);
    assert_eq!(whole["complete"], true);
    let (before, after) = (stopped["records"].as_array().unwrap(), whole["records"].as_array().unwrap());
    assert_eq!(after.len(), 2 * 2 * 2);
    assert!(before.iter().all(|record| after.contains(record)), "what was measured is not measured again");
}

/// Waits until a file holds a line with `word`, as long as the child lives.
fn wait_for_line(path: &Path, word: &str, child: &mut std::process::Child) {
    loop {
        if let Ok(file) = fs::File::open(path)
            && BufReader::new(file).lines().map_while(Result::ok).any(|line| line.contains(word))
        {
            return;
        }
        assert!(child.try_wait().unwrap().is_none(), "it ended before it measured anything");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
#[cfg(unix)]
fn a_full_disk_still_prints_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let command = bench(&folder, &["--arms", "plain,recycling:2"]);
    let arguments: Vec<String> =
        command.get_args().map(|argument| format!("'{}'", argument.to_str().unwrap())).collect();
    // No file may pass 8 KB: the journal fits, the report does not.
    let script = format!(
        "trap '' XFSZ; ulimit -f 16; exec '{}' {}",
        env!("CARGO_BIN_EXE_upcycle"),
        arguments.join(" ")
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let (table, error) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(table.contains("recycling:2") && table.contains("exact"), "{table}");
    assert!(error.contains("cannot write"), "{error}");
}

#[test]
fn costs_are_timed_written_and_charted() {
    let folder = tempfile::tempdir().unwrap();
    let command = || {
        let mut command = upcycle();
        command.args(["bench", "cost", "--model"]).arg(model()).arg("--out").arg(folder.path());
        command.args(["--contexts", "16,64", "--rows", "1,4,9", "--rounds", "1"]);
        command
    };
    let table = stdout(&mut command());
    assert!(table.contains("t(n)/t(1)") && table.contains("kernels"), "{table}");
    let curve = fs::read_to_string(folder.path().join("default.cost.toml")).unwrap();
    let curve: toml::Table = curve.parse().unwrap();
    assert_eq!(curve["context"].as_array().unwrap().len(), 2);
    assert!(fs::read_to_string(folder.path().join("default.cost.svg")).unwrap().contains("<svg"));
    let json: Value = serde_json::from_str(&stdout(command().arg("--json"))).unwrap();
    assert_eq!(json["setups"][0]["contexts"][1]["rows"], json!([1, 4, 9]));
    assert!(json["machine"]["flags"].is_array());
    assert_eq!(json["setups"][0]["prompt_tokens"], 512);
}

#[test]
fn another_program_is_timed_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let command = |peer: &str| {
        let mut command = upcycle();
        command.args(["bench", "cost", "--model"]).arg(model()).arg("--out").arg(folder.path());
        command.args(["--contexts", "16", "--rows", "1,2", "--rounds", "2", "--peer-command", peer]);
        command
    };
    let table = stdout(&mut command("echo '1 1000'; echo '4 2000'"));
    assert!(table.contains("before: ") && table.contains("of memory's rate"), "{table}");
    assert!(table.contains("the peer command") && table.contains("1000.000"), "{table}");
    let json: Value = serde_json::from_str(&stdout(command("echo 1 1000").arg("--json"))).unwrap();
    assert_eq!(json["peer"], json!({"1": 1.0}));
    assert!(json["limits"][1]["memory_bandwidth"].as_f64().unwrap() > 0.0);
    let failed = command("exit 3").output().unwrap();
    assert!(String::from_utf8_lossy(&failed.stderr).contains("`exit 3` failed"), "{failed:?}");
}

#[test]
fn costs_of_several_configurations_are_compared_with_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = upcycle();
    command.args(["bench", "cost", "--model"]).arg(model()).arg("--out").arg(folder.path());
    command.args(["--contexts", "16", "--rows", "1,3", "--rounds", "2"]);
    for name in ["one", "two"] {
        let path = folder.path().join(format!("{name}.toml"));
        fs::write(&path, "").unwrap();
        command.arg("--config").arg(path);
    }
    let table = stdout(&mut command);
    let (one, two) = table.split_once("\ntwo: ").unwrap();
    assert!(one.contains("\none: ") && !one.contains("over t(1) of"), "{table}");
    assert!(two.contains("over t(1) of one") && two.contains("times that of one"), "{table}");
    assert!(folder.path().join("two.cost.toml").exists());
}

/// A server that answers once and then dies, in the words of llama.cpp's.
const MORTAL: &str = r#"#!/usr/bin/env python3
import http.server, json, os, sys

if "--version" in sys.argv:
    print("version: 0 (fake)", file=sys.stderr)
    sys.exit(0)

class Handler(http.server.BaseHTTPRequestHandler):
    answers = 0
    def reply(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.reply({"status": "ok"})
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Handler.answers += 1
        if Handler.answers > 2:
            print("ggml: my last words", file=sys.stderr, flush=True)
            os._exit(3)
        self.reply({"tokens": [1, 2, 3], "content": "", "stop": True, "timings": {
            "prompt_n": len(asked["prompt"]), "prompt_ms": 10.0, "predicted_n": 3, "predicted_ms": 30.0,
            "draft_n": 0, "draft_n_accepted": 0}})
    def log_message(self, *arguments):
        pass

server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(f"listening on http://127.0.0.1:{server.server_port}", file=sys.stderr, flush=True)
server.serve_forever()
"#;

#[test]
#[cfg(unix)]
fn a_failing_peer_is_marked_and_the_other_arms_continue() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let server = folder.path().join("llama-server");
    fs::write(&server, MORTAL).unwrap();
    fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).unwrap();
    let server = server.to_str().unwrap();
    let arms = ["--arms", "plain,recycling:2,llama.cpp", "--llama-server", server];
    let table = stdout(&mut bench(&folder, &arms));
    let results = results(&folder);
    let peer = results["arms"].as_array().unwrap().iter().find(|arm| arm["kind"] == "peer-plain").unwrap();
    assert_eq!(peer["state"]["state"], "failed", "{peer}");
    assert!(peer["state"]["reason"].as_str().unwrap().contains("my last words"), "{peer}");
    assert!(table.contains("failed"), "{table}");
    let ours = results["records"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|record| record["equality"]["verdict"] == "exact");
    assert_eq!(ours.count(), 2 * 2 + 1, "all of ours, and the peer's one answer, which is its own baseline");
}
