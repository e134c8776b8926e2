//! Where settings come from, and what is said of wrong ones.

use std::fs;
use std::path::Path;

use crate::harness::{fail, json, model, numbers, stdout, upcycle};

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
    let mut command = upcycle();
    command.args(["run", "--prompt", "x"]).env("UPCYCLE_MODEL_PATH", "x");
    assert!(fail(&mut command, 2).contains("did you mean UPCYCLE_MODEL__PATH?"));
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
    assert!(log("info").contains("matrix"));
    assert_eq!(log("warn"), "");
}
