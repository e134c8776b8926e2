//! `upcycle run` with one prompt.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

use crate::harness::{SIZE, fail, json, model, number, numbers, run, stdout, succeed, upcycle};

const FRANCE: [&str; 2] = ["--prompt", "What is the capital of France?"];

/// In f32: which words a model of this size gets right hangs on the last bits of 8-bit arithmetic.
fn france(arguments: &[&str]) -> Command {
    let mut command = run(&FRANCE);
    command.args(["-s", "backend.cpu.weights=f32"]);
    command.args(arguments);
    command
}

#[test]
fn a_prompt_is_answered() {
    let output = succeed(&mut france(&["-n", "12"]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Paris") && text.ends_with('\n') && !text.contains("<|"), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "no progress bar in a pipe");
}

#[test]
fn the_report_is_whole_and_adds_up() {
    let report = json(&mut france(&["-n", "12", "--json"]));
    let keys = |pointer: &str| -> Vec<String> {
        report.pointer(pointer).unwrap().as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(
        keys(""),
        ["text", "tokens", "prompt_tokens", "finish", "backend", "drafter", "stats"].map(str::to_owned)
    );
    let stats = [
        "steps",
        "drafted",
        "accepted",
        "drafted_per_step",
        "tokens_per_step",
        "tokens_by_step",
        "drafted_by_step",
        "sources",
        "tokens_per_second",
        "prefill_tokens_per_second",
        "time",
        "matrix_bytes",
        "matrix_rows",
        "budget",
    ];
    assert_eq!(keys("/stats"), stats.map(str::to_owned));
    let times = ["prefill", "draft", "forward", "accept", "commit", "observe"];
    assert_eq!(keys("/stats/time"), times.map(str::to_owned));

    assert_eq!((&report["backend"], &report["drafter"]), (&"cpu".into(), &"mixed".into()));
    let tokens = numbers(&report, "/tokens");
    let lengths = numbers(&report, "/stats/tokens_by_step");
    let emitted: u64 = lengths.iter().sum();
    assert_eq!(emitted as usize + 1, tokens.len(), "the prompt gives the first token, the steps the others");
    assert_eq!(number(&report, "/stats/steps") as usize, lengths.len());
    assert_eq!(
        numbers(&report, "/stats/drafted_by_step").iter().sum::<u64>() as f64,
        number(&report, "/stats/drafted")
    );
    let mean = emitted as f64 / lengths.len() as f64;
    assert!((number(&report, "/stats/tokens_per_step") - mean).abs() < 1e-9);
    for positive in
        ["/prompt_tokens", "/stats/tokens_per_second", "/stats/time/forward", "/stats/matrix_rows"]
    {
        assert!(number(&report, positive) > 0.0, "{positive}: {report}");
    }
}

#[test]
fn every_drafter_gives_the_same_text() {
    let story = ["--raw", "--json", "--prompt", "one two three one two three one two", "-n", "24"];
    for decode in [&[][..], &["-s", "decode.temperature=0.8", "-s", "decode.seed=7"]] {
        let tokens = |more: &[&str]| {
            let report = json(run(&story).args(decode).args(more));
            (numbers(&report, "/tokens"), number(&report, "/stats/steps"), number(&report, "/stats/drafted"))
        };
        let (plain, steps, drafted) = tokens(&["--drafter", "none"]);
        assert_eq!((steps, drafted), (plain.len() as f64 - 1.0, 0.0));
        assert_eq!(tokens(&["-s", "drafter.budget=0"]).0, plain);
        let mixed = ["--drafter", "mixed", "-s", "drafter.budget=12"];
        let lookup = ["--drafter", "prompt-lookup", "-s", "drafter.budget=2"];
        let recycling = ["--drafter", "recycling", "-s", "drafter.budget=2"];
        for other in [&mixed[..], &lookup, &["-s", "drafter.preset=paper"], &recycling] {
            let (text, _, drafted) = tokens(other);
            assert_eq!(text, plain, "{other:?}");
            assert!(drafted > 0.0, "{other:?} was to draft something, or this shows nothing");
        }
        for drafter in ["recycling", "mixed", "prompt-lookup"] {
            assert_eq!(tokens(&["--drafter", drafter, "-s", "drafter.budget=auto"]).0, plain, "{drafter}");
        }
    }
}

#[test]
fn saved_costs_fix_the_sizes_of_drafts() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let rows = ["--rows", "1,2,4,8", "--contexts", "16", "--rounds", "1", "--out", out];
    stdout(upcycle().args(["bench", "cost", "--model", model().to_str().unwrap()]).args(rows));
    let file = folder.path().join("default.cost.toml");
    let costs = format!("drafter.cost_file={}", file.display());
    let story =
        ["--raw", "--prompt", "one two three one two three one two", "-n", "24", "--drafter", "mixed"];
    let deterministic = ["-s", "drafter.deterministic=true", "-s", &costs];
    let sizes = || numbers(&json(run(&story).arg("--json").args(deterministic)), "/stats/drafted_by_step");
    assert_eq!(sizes(), sizes());

    let stats = |arguments: &[&str]| {
        let output = succeed(run(&story).args(["--stats", "-s", "log.level=warn"]).args(arguments));
        String::from_utf8(output.stderr).unwrap()
    };
    let good = stats(&deterministic);
    assert!(good.contains("rates ") && good.contains("sources ") && !good.contains("costs of"), "{good}");
    // Of another machine: said, and timed anew.
    let text = fs::read_to_string(&file).unwrap().replacen("key = \"", "key = \"another ", 1);
    fs::write(&file, text).unwrap();
    assert!(stats(&deterministic).contains("this cost file was measured for something else"));
    fs::write(&file, "nonsense").unwrap();
    let error = fail(run(&story).args(["-s", &costs]), 1);
    assert!(error.contains("not a cost curve"), "{error}");
}

#[test]
fn another_seed_gives_another_text() {
    let tokens = |seed: &str| {
        let seed = format!("decode.seed={seed}");
        numbers(
            &json(&mut france(&["-n", "16", "--json", "-s", "decode.temperature=1.5", "-s", &seed])),
            "/tokens",
        )
    };
    assert_ne!(tokens("1"), tokens("2"));
}

#[test]
fn a_prompt_may_come_from_a_file_or_from_standard_input() {
    let expected = numbers(&json(run(&FRANCE).args(["-n", "4", "--json"])), "/tokens");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prompt.txt");
    fs::write(&file, format!("{}\n", FRANCE[1])).unwrap();
    let arguments = ["-n", "4", "--json", "--prompt-file", file.to_str().unwrap()];
    assert_eq!(numbers(&json(&mut run(&arguments)), "/tokens"), expected);
    let input = fs::File::open(&file).unwrap();
    assert_eq!(numbers(&json(run(&["-n", "4", "--json"]).stdin(input)), "/tokens"), expected);
}

#[test]
fn files_with_a_byte_order_mark_are_texts() {
    let folder = tempfile::tempdir().unwrap();
    let expected = numbers(&json(run(&FRANCE).args(["-n", "4", "--json"])), "/tokens");
    let utf_16: Vec<u8> =
        format!("\u{feff}{}\r\n", FRANCE[1]).encode_utf16().flat_map(u16::to_le_bytes).collect();
    for bytes in [format!("\u{feff}{}\r\n", FRANCE[1]).into_bytes(), utf_16] {
        let file = folder.path().join("prompt.txt");
        fs::write(&file, bytes).unwrap();
        for name in [file.to_str().unwrap(), "-"] {
            let input = fs::File::open(&file).unwrap();
            let found = json(run(&["-n", "4", "--json", "--prompt-file", name]).stdin(input));
            assert_eq!(numbers(&found, "/tokens"), expected, "{name}");
        }
    }
    let line = "\u{feff}{\"question_id\": 1, \"turns\": [\"What is the capital of France?\"]}\r\n";
    let file = folder.path().join("prompts.jsonl");
    fs::write(&file, line.repeat(2)).unwrap();
    for name in [file.to_str().unwrap(), "-"] {
        let text = stdout(run(&["-n", "4", "--prompts", name]).stdin(fs::File::open(&file).unwrap()));
        for line in text.lines() {
            assert_eq!(numbers(&serde_json::from_str(line).unwrap(), "/tokens"), expected);
        }
        assert_eq!(text.lines().count(), 2);
    }
}

#[test]
fn a_value_may_begin_with_a_dash_and_the_last_flag_counts() {
    let prompt = |arguments: &[&str]| {
        number(&json(run(&["--raw", "--json", "-n", "1"]).args(arguments)), "/prompt_tokens")
    };
    let expected = prompt(&["--prompt=- buy milk"]);
    for arguments in
        [&["-p", "- buy milk"][..], &["--prompt", "- buy milk"], &["-p", "--json", "-p", "- buy milk"]]
    {
        assert_eq!(prompt(arguments), expected, "{arguments:?}");
    }
    assert_eq!(prompt(&["-p", "--help me"]), prompt(&["--prompt=--help me"]));
    let chat = |arguments: &[&str]| {
        number(&json(run(&["--json", "-n", "1", "-p", "Hi"]).args(arguments)), "/prompt_tokens")
    };
    assert_ne!(chat(&["--system", "- be brief, and always answer in rhymes"]), chat(&[]));
    assert!(fail(&mut run(&["--raw", "--system", "x", "-p", "x"]), 2).contains("cannot be used with"));
}

#[test]
fn raw_text_is_continued_as_it_stands() {
    let report = json(&mut run(&["--raw", "--json", "-n", "3", "--prompt", "Hello"]));
    assert_eq!(number(&report, "/prompt_tokens"), 1.0, "no template around it");
}

#[test]
fn statistics_go_to_standard_error() {
    let output = succeed(&mut france(&["-n", "6", "--stats"]));
    let (text, stats) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(stats.contains("tokens a step") && stats.contains("forward"), "{stats}");
    assert!(!text.contains("tokens a step"), "{text}");
}

#[test]
fn a_stop_string_ends_the_text_and_is_not_shown() {
    let report = json(&mut france(&["--json", "-s", "decode.stop=[\"Par\"]", "-n", "1000000000000000000"]));
    assert_eq!(report["finish"], "stop-string");
    let text = report["text"].as_str().unwrap();
    assert!(!text.is_empty() && !text.contains("Par"), "{text:?}");
}

#[test]
fn zero_tokens_give_an_empty_answer() {
    let report = json(&mut france(&["--json", "-n", "0"]));
    assert_eq!((&report["text"], &report["finish"]), (&"".into(), &"max-tokens".into()));
}

#[test]
fn an_empty_prompt_is_a_usage_error() {
    for mut command in [run(&["--prompt", ""]), run(&["--raw", "--prompt", ""]), run(&[])] {
        assert!(fail(command.stdin(Stdio::null()), 2).contains("the prompt is empty"));
    }
}

#[test]
fn a_comparison_shows_both_answers_and_that_they_are_equal() {
    let text = stdout(&mut france(&["-n", "16", "--compare"]));
    let lines: Vec<&str> = text.lines().collect();
    let [.., head, plain, mixed, same] = lines[..] else { panic!("{text}") };
    assert_eq!(same, "same text: yes");
    assert!(head.contains("tokens/s") && head.contains("tokens a step") && head.contains("steps"), "{text}");
    assert!(plain.starts_with("none ") && mixed.starts_with("mixed "), "{text}");
    assert!(text.contains("Paris"), "{text}");
    assert!(fail(&mut france(&["--compare", "--drafter", "none"]), 2).contains("plain decoding"));
}

#[test]
fn a_snapshot_is_loaded_by_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("matrix.snapshot");
    let snapshot = format!("drafter.snapshot={}", file.display());
    let arguments = ["-n", "12", "--json", "-s", &snapshot, "-s", SIZE];
    let (first, second) = (json(&mut france(&arguments)), json(&mut france(&arguments)));
    assert_eq!(first["tokens"], second["tokens"]);
    let steps = |report| number(report, "/stats/steps");
    assert!(steps(&second) < steps(&first), "the second run knows what the first has seen");

    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert!(fail(&mut france(&arguments), 1).contains("snapshot"));
    assert_eq!(fs::read(&file).unwrap().len(), bytes.len() / 2, "what cannot be read is not overwritten");
}

#[test]
fn a_warm_drafter_needs_fewer_steps_for_the_same_text() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = folder.path().join("prompts.jsonl");
    fs::write(&prompts, "{\"question_id\": 1, \"turns\": [\"What is the capital of France?\"]}\n").unwrap();
    for drafter in ["mixed", "recycling"] {
        let file = folder.path().join(drafter);
        let warm = |more: &[&str]| {
            let mut command = upcycle();
            command.args(["warm", "-n", "12", "--drafter", drafter, "-s", SIZE]);
            command.args(["-s", "backend.cpu.weights=f32", "--model"]).arg(model());
            command.arg("--prompts").arg(&prompts).arg("--out").arg(&file).args(more);
            command
        };
        let said = stdout(&mut warm(&[]));
        assert!(said.contains(" rows, after "), "{said}");
        let snapshot = format!("drafter.snapshot={}", file.display());
        let arguments = ["-n", "12", "--json", "--drafter", drafter, "-s", SIZE];
        let empty = json(&mut france(&arguments));
        let started = json(france(&arguments).args(["-s", &snapshot]));
        assert_eq!(empty["tokens"], started["tokens"]);
        let steps = |report| number(report, "/stats/steps");
        assert!(steps(&started) < steps(&empty), "{drafter}: {} of {}", steps(&started), steps(&empty));
        // Carried on, it knows the answer already.
        let again = stdout(&mut warm(&[]));
        assert_ne!(said, again, "fewer steps");
    }
    let mut none = upcycle();
    none.args(["warm", "--drafter", "none", "--model"]).arg(model());
    let error = fail(none.arg("--prompts").arg(&prompts).args(["--out", "m"]), 2);
    assert!(error.contains("has no tables to save"), "{error}");
}

#[test]
fn a_matrix_from_the_vocabulary_drafts_in_the_first_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("matrix");
    let warm = |more: &[&str]| {
        let mut command = upcycle();
        command.args(["warm", "--drafter", "recycling", "--model"]).arg(model());
        command.args(["--backend", "cpu", "--out"]).arg(&file).args(more);
        command
    };
    let said = stdout(&mut warm(&["--vocabulary"]));
    assert!(said.contains(": 49152 rows, 49152 of them from single tokens of the vocabulary"), "{said}");
    let first = fs::read(&file).unwrap();
    let said = stdout(&mut warm(&["--vocabulary", "--raw"]));
    assert!(said.contains(": 49152 rows, 0 of them"), "what is known is not asked for: {said}");
    assert_eq!(first, fs::read(&file).unwrap());

    let snapshot = format!("drafter.snapshot={}", file.display());
    let story = |more: &[&str]| {
        json(
            run(&["--prompt", "Why is the sky blue?", "-n", "48", "--json", "-s", "drafter.budget=4"])
                .args(["--drafter", "recycling"])
                .args(more),
        )
    };
    let (empty, started) = (story(&[]), story(&["-s", &snapshot]));
    assert_eq!(empty["tokens"], started["tokens"]);
    let steps = |report| number(report, "/stats/steps");
    assert!(steps(&started) < steps(&empty), "{} of {}", steps(&started), steps(&empty));

    let error = fail(&mut warm(&[]), 2);
    assert!(error.contains("--prompts <FILE>|--vocabulary"), "{error}");
}

#[test]
fn an_answer_that_is_in_the_users_texts_takes_fewer_steps() {
    let folder = tempfile::tempdir().unwrap();
    let texts = format!("drafter.corpus_dir={}", folder.path().display());
    let story =
        ["--raw", "--prompt", "Once upon a time", "-n", "48", "--json", "--drafter", "mixed", "-s", SIZE];
    let without = json(&mut run(&story));
    fs::write(folder.path().join("answer.md"), without["text"].as_str().unwrap()).unwrap();
    fs::write(folder.path().join("image.png"), b"\x89PNG\0").unwrap();
    let output = succeed(run(&story).args(["-s", &texts]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("image.png is skipped"), "{said}");
    let with: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(with["tokens"], without["tokens"]);
    let steps = |report| number(report, "/stats/steps");
    assert!(steps(&with) < steps(&without) / 1.5, "{} of {}", steps(&with), steps(&without));
    let sources = with["stats"]["sources"].as_array().unwrap();
    let source = sources.iter().find(|source| source["name"] == "corpus").unwrap();
    assert!(number(source, "/accepted") > 10.0, "{source}");

    fs::remove_file(folder.path().join("answer.md")).unwrap();
    let error = fail(run(&story).args(["-s", &texts, "--log", "off"]), 1);
    assert!(error.contains("nothing to copy from") && error.contains("found 1"), "{error}");
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    let mut child = run(&["--raw", "--prompt", "Once upon a time", "-n", "200"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut head = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut head).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_failure() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = france(&["-n", "2"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("cannot write to standard output"),
        "{output:?}"
    );
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_the_text_after_the_current_step() {
    let mut child = run(&["--raw", "--prompt", "Once upon a time", "-n", "400"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let mut text = vec![0; 1];
    pipe.read_exact(&mut text).unwrap();
    let kill = Command::new("sh").arg("-c").arg(format!("kill -INT {}", child.id())).status().unwrap();
    assert!(kill.success());
    pipe.read_to_end(&mut text).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(130), ""));
    assert!(String::from_utf8(text).unwrap().ends_with('\n'), "what was there is shown, whole");
}

/// A run that a signal ends, with a snapshot. Returns its output and whether it saved the snapshot.
#[cfg(unix)]
fn ended_by(signals: &[&str], arguments: &[&str]) -> (std::process::Output, bool) {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("s");
    let set = format!("drafter.snapshot={}", snapshot.display());
    let mut command =
        run(&["--raw", "--prompt", "Once upon a time", "-n", "2000", "-s", &set, "--log", "info"]);
    let mut child = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The log says when the answer begins.
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("no snapshot yet") {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "no answer began");
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    for signal in signals {
        let kill =
            Command::new("sh").arg("-c").arg(format!("kill -{signal} {}", child.id())).status().unwrap();
        assert!(kill.success());
    }
    let rest = std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
    let output = child.wait_with_output().unwrap();
    rest.join().unwrap().unwrap();
    (output, snapshot.exists())
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_answer_and_keeps_the_snapshot() {
    // Under `nohup`, SIGHUP is ignored by this test and by what it starts.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let hang_up = ignored.is_some_and(|mask| mask & 1 == 0).then_some(("HUP", 129));
    for (signal, code) in [("INT", 130), ("TERM", 143)].into_iter().chain(hang_up) {
        let (output, saved) = ended_by(&[signal], &["--json"]);
        assert_eq!(output.status.code(), Some(code), "{signal}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["finish"], "cancelled", "{signal}");
        assert!(saved, "{signal}");
    }
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_the_program_at_once() {
    // Both signals wait until the program continues.
    let (output, saved) = ended_by(&["STOP", "TERM", "INT", "CONT"], &["--json"]);
    assert!(matches!(output.status.code(), Some(130 | 143)), "{output:?}");
    assert!(output.stdout.is_empty() && !saved, "{output:?}");
}

#[cfg(unix)]
#[test]
fn a_new_snapshot_is_readable_and_an_existing_one_keeps_its_mode() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let (file, link, usual) = (folder.path().join("m"), folder.path().join("l"), folder.path().join("u"));
    fs::write(&usual, "").unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let answer = |path: &std::path::Path| {
        let set = format!("drafter.snapshot={}", path.display());
        stdout(&mut run(&["-n", "2", "--prompt", "Hi", "-s", &set]));
    };
    answer(&file);
    assert_eq!(mode(&file), mode(&usual), "as any new file");
    symlink("m", &link).unwrap();
    fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    let before = fs::metadata(&file).unwrap().len();
    answer(&link);
    assert_eq!(mode(&file), 0o640);
    assert!(
        fs::symlink_metadata(&link).unwrap().is_symlink() && fs::metadata(&file).unwrap().len() >= before
    );
}

#[test]
fn an_empty_file_is_a_snapshot_to_begin_with() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m");
    fs::write(&file, "").unwrap();
    let set = format!("drafter.snapshot={}", file.display());
    stdout(&mut run(&["-n", "2", "--prompt", "Hi", "-s", &set]));
    assert!(fs::metadata(&file).unwrap().len() > 0);
}

#[cfg(target_os = "linux")]
#[test]
fn closed_streams_and_a_missing_home_stop_nothing() {
    let expected = stdout(&mut run(&["-n", "4", "--prompt", "Hi"]));
    let script = format!(
        "exec {} run -m {} -n 4 -p Hi --log info 2>&- <&-",
        env!("CARGO_BIN_EXE_upcycle"),
        model().display()
    );
    let mut closed = Command::new("sh");
    closed.args(["-c", &script]).env("XDG_CACHE_HOME", env!("CARGO_TARGET_TMPDIR"));
    assert_eq!(stdout(&mut closed), expected);
    let output = succeed(run(&["-n", "4", "--prompt", "Hi"]).env("XDG_CACHE_HOME", "/proc/none"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert!(String::from_utf8_lossy(&output.stderr).matches("WARN").count() <= 1, "{output:?}");
}

#[test]
fn a_snapshot_that_cannot_be_written_is_said_before_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m");
    let set = format!("drafter.snapshot={}", file.display());
    let answer = |more: &[&str]| succeed(run(&["-n", "4", "--prompt", "Hi", "-s", &set]).args(more));
    answer(&[]);
    let before = fs::read(&file).unwrap();
    let only_read = answer(&["-s", "drafter.snapshot_mode=read-only", "--prompt", "Tell me a story."]);
    assert_eq!((only_read.stderr.as_slice(), fs::read(&file).unwrap()), (&b""[..], before));
    // No process may write there, root included.
    #[cfg(target_os = "linux")]
    {
        let set = ["-n", "4", "--prompt", "Hi", "-s", "drafter.snapshot=/proc/m"];
        let said = String::from_utf8(succeed(&mut run(&set)).stderr).unwrap();
        assert!(said.contains("WARN") && said.contains("/proc/m") && said.contains("read-only"), "{said}");
        let mut warm = upcycle();
        warm.args(["warm", "--vocabulary", "--out", "/proc/m", "--model"]).arg(model());
        assert!(fail(&mut warm, 2).contains("/proc/m"));
    }
}

#[test]
fn what_is_no_model_is_a_failure_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.gguf");
    let whole = fs::read(model()).unwrap();
    let mut scribbled = whole[..4096].to_vec();
    scribbled[16..24].fill(0xff);
    let cases: [&[u8]; 6] =
        [&[], b"GG", b"not a model at all", &scribbled, &whole[..100_000], &whole[..whole.len() - 1]];
    for bytes in cases {
        fs::File::create(&file).unwrap().write_all(bytes).unwrap();
        for command in [&["run", "--prompt", "x", "--model"][..], &["inspect"]] {
            let error = fail(upcycle().args(command).arg(&file), 1);
            assert!(error.contains("model.gguf"), "{error}");
        }
    }
}
