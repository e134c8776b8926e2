//! `upcycle trace`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{SIZE, fail, json, model, numbers, run, stdout, upcycle};

const STORY: [&str; 3] = ["--raw", "--prompt", "one two three one two three one two"];

/// `upcycle trace` on the real model, with these arguments.
fn trace(arguments: &[&str]) -> Command {
    let mut command = upcycle();
    command.arg("trace").arg("--model").arg(model()).args(arguments);
    command
}

/// The trace in a page.
fn trace_in(file: &Path) -> Value {
    let page = fs::read_to_string(file).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    let (_, rest) = page.split_once("id=\"trace\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

/// The ids of the answer.
fn output(trace: &Value) -> Vec<u64> {
    let mut tokens = vec![trace["prompt"]["sampled"].as_u64().unwrap()];
    for step in trace["steps"].as_array().unwrap() {
        let emitted = step["emitted"].as_u64().unwrap() as usize;
        tokens.extend(&numbers(step, "/sampled")[..emitted]);
    }
    tokens
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_page_shows_the_steps_of_the_text_that_run_gives() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    let out = file.to_str().unwrap();
    for drafter in ["recycling", "mixed", "prompt-lookup", "none"] {
        let settings = ["-n", "16", "--drafter", drafter, "-s", SIZE];
        let expected = json(run(&STORY).args(settings).arg("--json"));
        // The second to the fourth replace the page before them.
        assert_eq!(stdout(trace(&STORY).args(settings).args(["--out", out])), format!("{out}\n"));
        let trace = trace_in(&file);
        assert_eq!(output(&trace), numbers(&expected, "/tokens"), "{drafter}");
        assert_eq!(
            trace["steps"].as_array().unwrap().len(),
            numbers(&expected, "/stats/tokens_by_step").len()
        );
        assert_eq!(trace["about"]["drafter"], drafter);
        assert_eq!(names(folder.path()), ["page.html"]);
    }
}

#[test]
fn a_page_is_named_trace_html_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let model = fs::canonicalize(model()).unwrap();
    let mut command = upcycle();
    command.current_dir(folder.path()).args(["trace", "-n", "1", "--prompt", "Hi", "--model"]).arg(model);
    assert_eq!(stdout(&mut command), "trace.html\n");
    assert_eq!(trace_in(&folder.path().join("trace.html"))["about"]["backend"], "cpu");
}

#[test]
fn a_snapshot_is_read_but_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("matrix.snapshot");
    let out = folder.path().join("page.html");
    let snapshot = format!("drafter.snapshot={}", file.display());
    let settings = ["-n", "12", "--drafter", "recycling", "-s", &snapshot, "-s", SIZE];
    let page = |settings: &[&str]| {
        stdout(trace(&STORY).args(settings).arg("--out").arg(&out));
        trace_in(&out)["steps"].as_array().unwrap().len()
    };
    let empty = page(&settings);
    assert!(!file.exists());
    json(run(&STORY).args(settings).arg("--json"));
    let kept = fs::read(&file).unwrap();
    assert!(page(&settings) < empty, "what the run learned is known to the trace");
    assert_eq!(fs::read(&file).unwrap(), kept);
}

#[test]
fn where_no_page_can_be_written_nothing_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("model.gguf");
    fs::write(&broken, "no model").unwrap();
    let error = |out: &str| {
        let mut command = upcycle();
        command.current_dir(folder.path()).args(["trace", "--prompt", "x", "--model", "model.gguf"]);
        fail(command.args(["--out", out]), 2)
    };
    assert!(error("no-such-folder/page.html").contains("a folder that exists"));
    for no_file in [".", "..", "no-such/..", folder.path().to_str().unwrap()] {
        assert!(error(no_file).contains("is not a file name"), "{no_file}");
    }
    assert_eq!(names(folder.path()), ["model.gguf"], "and nothing is left behind");
}

#[test]
fn a_page_goes_to_standard_output_and_into_a_pipe() {
    for out in ["-", "/dev/stdout"].into_iter().take(if cfg!(unix) { 2 } else { 1 }) {
        let page = stdout(trace(&STORY).args(["-n", "1", "--out", out]));
        assert!(page.trim_start().starts_with("<!") && page.trim_end().ends_with("</html>"), "{out}");
    }
}

#[test]
fn an_existing_page_stays_if_nothing_is_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    fs::write(&page, "before").unwrap();
    let out = ["--out", page.to_str().unwrap()];
    let long = "word ".repeat(10_000);
    for arguments in [&["--prompt", ""][..], &["--raw", "--prompt", &long], &["--prompt", "x", "-f", "y"]] {
        fail(trace(arguments).args(out).stdin(Stdio::null()), 2);
    }
    assert_eq!(fs::read_to_string(&page).unwrap(), "before");
    assert_eq!(names(folder.path()), ["page.html"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_pages_are_readable_by_all() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let (page, link) = (folder.path().join("page.html"), folder.path().join("link.html"));
    fs::write(&page, "before").unwrap();
    symlink(&page, &link).unwrap();
    let usual = fs::metadata(&page).unwrap().permissions().mode();
    stdout(trace(&["-n", "1", "--prompt", "Hi", "--out"]).arg(&link));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(trace_in(&page)["finish"], "max-tokens");
    assert_eq!(fs::metadata(&page).unwrap().permissions().mode(), usual);
}

#[cfg(unix)]
#[test]
fn ctrl_c_writes_the_page_of_the_steps_so_far() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    // It listens once the model is loaded; the log says when it decodes.
    let mut child = trace(&["--raw", "--prompt", "Once upon a time", "-n", "100000", "--log", "debug"])
        .arg("--out")
        .arg(&page)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("tracing a prompt") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "it ended before it decoded");
    }
    let kill = Command::new("sh").arg("-c").arg(format!("kill -INT {}", child.id())).status().unwrap();
    assert!(kill.success());
    std::io::copy(&mut log, &mut std::io::sink()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}\n", page.display()));
    assert_eq!(trace_in(&page)["finish"], "cancelled");
}
