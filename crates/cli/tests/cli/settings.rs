//! Where settings come from, and what is said of wrong ones.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{fail, json, model, numbers, stdout, succeed, upcycle};

#[test]
fn flags_beat_variables_beat_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    let path = fs::canonicalize(model()).unwrap();
    fs::write(&file, format!("[model]\npath = {path:?}\n[decode]\nmax_tokens = 1\n")).unwrap();
    let tokens = |variable: Option<&str>, flag: Option<&str>| {
        let mut command = upcycle();
        command.args(["run", "--json", "--prompt", "Hi", "--config"]).arg(&file);
        if let Some(value) = variable {
            command.env("UPCYCLE_DECODE__MAX_TOKENS", value);
        }
        if let Some(value) = flag {
            command.args(["--set", &format!("decode.max_tokens={value}")]);
        }
        numbers(&json(&mut command), "/tokens").len()
    };
    assert_eq!(tokens(None, None), 1);
    assert_eq!(tokens(Some("2"), None), 2);
    assert_eq!(tokens(Some("2"), Some("3")), 3);
}

#[test]
fn a_wrong_file_is_named_with_line_and_suggestion() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    for (text, place, hint) in [
        ("[backend.cpu]\nweigths = \"f32\"\n", "c.toml:2:1: ", "did you mean `weights`?"),
        ("[decode]\n\nseed = \"x\"\n", "c.toml:3:8: ", "must be a whole number"),
        ("[backend]\nname = \"candel\"\n", "c.toml:2:8: ", "did you mean `candle`?"),
        ("[model]\npath = \"no-such.gguf\"\n", "c.toml:2:8: ", "there is no file"),
        ("[model\n", "c.toml:1:7: ", "not TOML"),
    ] {
        fs::write(&file, text).unwrap();
        for command in [&["run", "--prompt", "x", "--config"][..], &["config", "check"]] {
            let error = fail(upcycle().args(command).arg(&file), 2);
            assert!(error.contains(place) && error.contains(hint), "{error}");
        }
    }
    assert!(fail(upcycle().args(["run", "--config", "no-such.toml"]), 2).contains("no-such.toml: "));
}

#[test]
fn wrong_flags_and_variables_are_named() {
    let error = |arguments: &[&str]| fail(upcycle().args(["run", "--prompt", "x"]).args(arguments), 2);
    assert!(error(&["--set", "decode.sed=1"]).contains("--set decode.sed=1: unknown key"));
    assert!(error(&["--set", "decode.seed"]).contains("KEY=VALUE"));
    assert!(error(&["--drafter", "magic"]).contains("--drafter: `drafter.name` is \"magic\""));
    assert!(error(&["-n", "many"]).contains("--max-tokens: "));
    assert!(
        error(&["--model", "no-such.gguf"]).contains("--model: `model.path`: there is no file no-such.gguf")
    );
    assert!(error(&[]).contains("--model PATH"), "no model at all");
    assert!(error(&["--no-such-flag"]).contains("--no-such-flag"));
    assert!(error(&["--prompt-file", "y"]).contains("cannot be used with"));
    let model = model().display().to_string();
    for (backend, compiled) in [("ort", cfg!(feature = "ort")), ("llama-cpp", cfg!(feature = "llama-cpp"))] {
        if !compiled {
            let feature = format!("--features {backend}");
            assert!(error(&["--model", &model, "--backend", backend]).contains(&feature));
        }
    }
}

#[test]
fn variables_of_others_stop_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    fs::write(&file, "[decode]\nseed = 7\n").unwrap();
    let run = || {
        let mut command = crate::harness::run(&["-n", "1", "--prompt", "Hi", "--config"]);
        command.arg(&file);
        command
    };
    let check = || {
        let mut command = upcycle();
        command.args(["config", "check"]).arg(&file);
        command
    };
    for mut command in [run(), check()] {
        // A service named `upcycle`, and a file of variables with nothing after `=`.
        for (name, value) in [
            ("UPCYCLE_SERVICE_HOST", "10.0.0.1"),
            ("UPCYCLE_SERVICE_PORT", "80"),
            ("UPCYCLE_SERVICE_PORT_HTTP", "80"),
            ("UPCYCLE_PORT", "tcp://10.0.0.1:80"),
            ("UPCYCLE_PORT_80_TCP", "tcp://10.0.0.1:80"),
            ("UPCYCLE_PORT_80_TCP_ADDR", "10.0.0.1"),
            ("UPCYCLE_DECODE__SEED", ""),
            ("UPCYCLE_DRAFTER__NAME", " "),
            ("UPCYCLE_NONSENSE", ""),
        ] {
            command.env(name, value);
        }
        assert_eq!(String::from_utf8(succeed(&mut command).stderr).unwrap(), "", "{command:?}");
    }
    for mut command in [run(), check()] {
        command.env("UPCYCLE_DECODE_SEED", "9").env("UPCYCLE_PORT", "8080");
        let said = String::from_utf8(succeed(&mut command).stderr).unwrap();
        assert_eq!(said.matches("WARN").count(), 2, "{said}");
        assert!(
            said.contains("UPCYCLE_DECODE_SEED is ignored") && said.contains("UPCYCLE_DECODE__SEED?"),
            "{said}"
        );
        command.env("UPCYCLE_DECODE__SEED", "x");
        assert!(fail(&mut command, 2).contains("UPCYCLE_DECODE__SEED: `decode.seed` must be"), "{command:?}");
    }
    assert!(stdout(check().env("UPCYCLE_DECODE__SEED", "8")).contains("seed = 8"), "as a run has it");
}

#[test]
fn each_short_flag_sets_its_key() {
    let set = |arguments: &[&str]| {
        let mut command = upcycle();
        command.args(["run", "--prompt", "x", "--model"]).arg(model()).args(arguments);
        fail(&mut command, 2)
    };
    for (flag, value, key) in [
        ("--temperature", "-1", "decode.temperature"),
        ("--temp", "hot", "decode.temperature"),
        ("--top-k", "-5", "decode.top_k"),
        ("--top-p", "-0.5", "decode.top_p"),
        ("--min-p", "x", "decode.min_p"),
        ("--seed", "-1", "decode.seed"),
        ("-n", "-1", "decode.max_tokens"),
        ("--n-predict", "-2", "decode.max_tokens"),
    ] {
        let error = set(&[flag, value]);
        assert!(error.contains(key), "{flag}: {error}");
    }
    let shown = |flags: &[&str]| {
        let mut chat = upcycle();
        chat.args(["chat", "--model"]).arg(model()).args(flags);
        let mut child = chat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"/set\n/system\n").unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    };
    let text = shown(&[
        "--temperature",
        "0.1",
        "--temp",
        "0.5",
        "--top-k",
        "40",
        "--top-p",
        "0.9",
        "--min-p",
        "0.05",
        "--seed",
        "7",
        "--seed",
        "8",
        "--stop",
        "-end",
        "--stop",
        "two",
        "--system-prompt",
        "one",
        "--system",
        "--brief",
    ]);
    for line in [
        "temperature = 0.5",
        "top_k = 40",
        "top_p = 0.9",
        "min_p = 0.05",
        "seed = 8",
        "stop = [\"-end\", \"two\"]",
        "--brief",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn a_configuration_comes_from_a_pipe_or_from_standard_input() {
    let text = "\u{feff}[decode]\r\nmax_tokens = 2\r\n";
    let given = |command: &mut Command| {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{command:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(given(upcycle().args(["config", "check", "-"])).contains("max_tokens = 2"));
    let mut run = crate::harness::run(&["--json", "--prompt", "Hi", "--config", "-"]);
    let answer: serde_json::Value = serde_json::from_str(&given(&mut run)).unwrap();
    assert_eq!(numbers(&answer, "/tokens").len(), 2);
    let both = ["--config", "-", "--prompt-file", "-"];
    let error = fail(crate::harness::run(&both).stdin(Stdio::null()), 2);
    assert!(error.contains("--prompt-file reads standard input, but --config has read it"), "{error}");
    let error = fail(upcycle().args(["run", "--prompt", "x", "--model", "-"]), 2);
    assert!(error.contains("cannot be read from standard input"), "{error}");
    #[cfg(unix)]
    {
        let script = format!(
            "{} config check <(printf '[decode]\\nseed = 5\\n') && {} run -m {} -n 1 -f <(echo Hi) -s \
             model.template=<(printf '{{{{ messages[0].content }}}}')",
            env!("CARGO_BIN_EXE_upcycle"),
            env!("CARGO_BIN_EXE_upcycle"),
            model().display()
        );
        let mut bash = Command::new("bash");
        assert!(stdout(bash.args(["-c", &script])).contains("seed = 5"));
    }
}

#[test]
fn every_configuration_file_is_valid() {
    assert!(model().is_file(), "what the ready files name");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut checked = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "toml") {
            let mut check = upcycle();
            check.args(["config", "check"]).arg(&file);
            checked += 1;
            let missing = [
                ("candle", cfg!(feature = "candle")),
                ("ort", cfg!(feature = "ort")),
                ("llama-cpp", cfg!(feature = "llama-cpp")),
            ];
            let name = file.file_name().unwrap().to_string_lossy();
            let backend = missing.iter().find(|(backend, _)| name.starts_with(&format!("{backend}-")));
            if let Some((backend, false)) = backend {
                // The last thing that is looked at: all else in the file is sound.
                let feature = format!("--features {backend}");
                assert!(fail(&mut check, 2).contains(&feature), "{}", file.display());
                continue;
            }
            let text = stdout(&mut check);
            assert!(text.starts_with("# ") && text.parse::<toml::Table>().is_ok(), "{text}");
        }
    }
    assert!(checked >= 4);
}

#[test]
fn logs_go_to_standard_error_and_only_if_asked_for() {
    let mut command = crate::harness::run(&["-n", "1", "--prompt", "Hi", "--log", "info"]);
    command.args(["-s", "drafter.snapshot=/dev/null/no"]);
    assert!(fail(&mut command, 2).contains("create its folder"));
    let folder = tempfile::tempdir().unwrap();
    let snapshot = format!("drafter.snapshot={}", folder.path().join("m").display());
    let log = |level: &str| {
        let mut command =
            crate::harness::run(&["-n", "1", "--prompt", "Hi", "--log", level, "-s", &snapshot]);
        String::from_utf8(command.output().unwrap().stderr).unwrap()
    };
    let info = log("info");
    assert!(info.contains("matrix") && !info.contains('\u{1b}'), "no escape codes in a file: {info:?}");
    assert_eq!(log("warn"), "");
}
