//! The configuration's promises: precedence, origins, suggestions, and a way back to text.

mod drafter;
mod page;
mod variables;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use upcycle::{
    Config, ConfigBuilder, ConfigError, LogLevel, Origin, Problem, RecyclingOptions, Registry, Tree,
};

fn load(text: &str) -> Result<Config, ConfigError> {
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    builder.text(Path::new("test.toml"), text)?;
    builder.build()
}

fn message(text: &str) -> String {
    load(text).expect_err(text).to_string()
}

#[test]
fn flags_beat_variables_beat_the_file_beats_defaults_in_any_order_of_calls() {
    let keys = [("decode.seed", "UPCYCLE_DECODE__SEED"), ("decode.max_tokens", "UPCYCLE_DECODE__MAX_TOKENS")];
    for subset in 0..8_u32 {
        for (key, variable) in keys {
            let mut builder = ConfigBuilder::new(&Registry::builtin());
            if subset & 4 != 0 {
                builder.assignment("--set", &format!("{key}=4")).unwrap();
            }
            if subset & 2 != 0 {
                builder.variables([(variable.into(), "2".into())]).unwrap();
            }
            if subset & 1 != 0 {
                builder.text(Path::new("f.toml"), &format!("{key} = 1")).unwrap();
            }
            let config = builder.build().unwrap();
            let expected = match subset {
                4.. => 4,
                2.. => 2,
                1 => 1,
                _ if key == "decode.seed" => 0,
                _ => 256,
            };
            let found = match key {
                "decode.seed" => config.decode().sampling.config().seed,
                _ => config.decode().max_tokens as u64,
            };
            assert_eq!(found, expected, "{key}, builder {subset:03b}");
        }
    }
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_key() {
    assert_eq!(
        message("# comment\n[backend.cpu]\n  weigths = \"f32\"\n"),
        "test.toml:3:3: unknown key `backend.cpu.weigths`; did you mean `weights`?"
    );
    assert_eq!(message("[modle]\npath = \"x\""), "test.toml:1:2: unknown key `modle`; did you mean `model`?");
    assert_eq!(
        message("[drafter]\ntemperature = 1"),
        "test.toml:2:1: unknown key `drafter.temperature`; did you mean `decode.temperature`?"
    );
    assert_eq!(message("[log]\nxyzzy = 1"), "test.toml:2:1: unknown key `log.xyzzy`; `log` has `level`");
    assert_eq!(
        message("[xyzzy]\na = 1"),
        "test.toml:1:2: unknown key `xyzzy`; the tables are `backend`, `decode`, `drafter`, `engine`, `log`, `model`, `server`"
    );
}

#[test]
fn a_wrong_type_is_named_with_its_place_and_what_was_found() {
    assert_eq!(
        message("[decode]\nseed = \"abc\""),
        "test.toml:2:8: `decode.seed` must be a whole number, 0 or more, found \"abc\""
    );
    assert_eq!(message("decode.seed = -1").split_once(": `").unwrap().0, "test.toml:1:15");
    assert_eq!(message("log = 3"), "test.toml:1:7: `log` must be a table with `level`, found 3");
    assert_eq!(
        message("[decode]\nstop = \"a\""),
        "test.toml:2:8: `decode.stop` must be a list of strings, found \"a\""
    );
    assert_eq!(
        message("[decode.seed]\na = 1"),
        "test.toml:1:1: `decode.seed` must be a whole number, 0 or more, found a table"
    );
    assert_eq!(message("[log]\nlevel = 7"), "test.toml:2:9: `log.level` must be a string, found 7");
}

#[test]
fn text_that_is_not_toml_is_named_with_its_place() {
    assert!(message("[model]\npath = \n").starts_with("test.toml:2:8: not TOML: "));
    let after_an_accent = message("log = { level = \"\u{e9}\", x = 1 }");
    assert!(
        after_an_accent.starts_with("test.toml:1:22: unknown key"),
        "columns count characters: {after_an_accent}"
    );
    assert!(message("a = 1\na = 2").starts_with("test.toml:2:1: not TOML: "));
}

#[test]
fn wrong_values_come_with_their_range_and_place() {
    assert_eq!(
        message("[decode]\ntop_p = 1.5"),
        "test.toml:2:9: `decode.top_p` is 1.5; expected above 0, at most 1 (off)"
    );
    assert_eq!(
        message("[backend]\nname = \"candel\""),
        "test.toml:2:8: `backend.name` is \"candel\"; expected one of `cpu`, `candle`, `ort`, `llama-cpp`; did you mean `candle`?; \
         a program adds its own with `Registry::register_backend`"
    );
    assert_eq!(
        message("[drafter]\nname = \"magic\""),
        "test.toml:2:8: `drafter.name` is \"magic\"; expected one of `recycling`, `mixed`, `prompt-lookup`, `none`; \
         a program adds its own with `Registry::register_drafter`"
    );
    assert_eq!(
        message("drafter.recycling.k = 33"),
        "test.toml:1:23: `drafter.recycling.k` is 33; expected 1 to 32"
    );
    assert_eq!(
        message("drafter = { name = \"recycling\", recycling.tree = \"paper-80\", budget = 81 }"),
        "test.toml:1:71: `drafter.budget` is 81; expected at most 80, the nodes of the tree \"paper-80\""
    );
    assert!(message("backend.cpu.threads = 0").contains("expected 1 to 1024"));
    assert!(message("decode.stop = [\"a\", \"\"]").contains("number 2 is empty"));
    for key in ["temperature", "top_p", "min_p", "repeat_penalty"] {
        for value in ["-1.0", "nan", "inf", "1e300"] {
            let error = message(&format!("decode.{key} = {value}"));
            assert!(
                error.starts_with("test.toml:1:") && error.contains(&format!("`decode.{key}`")),
                "{error}"
            );
        }
    }
}

#[test]
fn paths_in_a_file_are_relative_to_its_folder_and_must_exist() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("configs")).unwrap();
    fs::write(folder.path().join("model.gguf"), "").unwrap();
    let file = folder.path().join("configs/a.toml");
    fs::write(&file, "[model]\npath = \"../model.gguf\"\n").unwrap();
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    builder.file(&file).unwrap();
    let path = builder.build().unwrap().model().path.clone().unwrap();
    assert_eq!(path, folder.path().join("configs").join("../model.gguf"));

    fs::write(&file, "[model]\npath = \"../modle.gguf\"\n").unwrap();
    builder.file(&file).unwrap();
    let error = builder.build().unwrap_err();
    let near = folder.path().join("configs/../model.gguf");
    assert_eq!(error.origin, Origin::File { path: file.clone(), line: 2, column: 8 });
    assert!(error.to_string().ends_with(&format!("did you mean {}?", near.display())), "{error}");

    builder.assignment("--set", &format!("model.path={}", near.display())).unwrap();
    assert!(builder.build().is_ok(), "only the path that counts must exist");

    builder.assignment("--set", "model.path=no/such/folder/x.gguf").unwrap();
    let error = builder.build().unwrap_err().to_string();
    assert!(error.contains("the folder no/such/folder does not exist"), "{error}");
    builder.assignment("--set", &format!("model.path={}", folder.path().display())).unwrap();
    assert!(builder.build().unwrap_err().to_string().contains("that is a folder"));
    for name in ["config.json", "model.onnx"] {
        let model = folder.path().join(name);
        fs::write(&model, "").unwrap();
        assert!(builder.build().is_ok(), "a folder with {name} is a model");
        fs::remove_file(model).unwrap();
    }
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let error = ConfigBuilder::new(&Registry::builtin()).file(Path::new("no-such.toml")).unwrap_err();
    assert!(error.to_string().starts_with("no-such.toml: "), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn a_tree_file_is_read_and_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree.toml");
    fs::write(&tree, "name = \"mine\"\nnodes = [\"0\", \"0.0\", \"1\"]\n").unwrap();
    let file = folder.path().join("c.toml");
    fs::write(&file, "[drafter]\nname = \"recycling\"\nrecycling.tree = \"tree.toml\"\nbudget = 3\n")
        .unwrap();
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    builder.file(&file).unwrap();
    let config = builder.build().unwrap();
    let recycling: &RecyclingOptions = config.drafter().options().unwrap();
    let Tree::Template { path, template } = &recycling.tree else { panic!("{recycling:?}") };
    assert_eq!((path.as_ref(), template.len()), (Some(&tree), 3));

    fs::write(&tree, "name = \"mine\"\nnodes = [\"0\",\n\"1.0\"]\n").unwrap();
    let error = builder.build().unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("line 3: "), "{source}");

    fs::remove_file(&tree).unwrap();
    assert!(
        builder
            .build()
            .unwrap_err()
            .to_string()
            .ends_with("(`auto` and the built-in tree `paper-80` need none)")
    );
}

#[test]
fn values_outside_files_need_no_quotes() {
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    for assignment in ["backend.cpu.weights=f32", "log.level = \"info\"", "decode.temperature=1"] {
        builder.assignment("--set", assignment).unwrap();
    }
    builder.assignment("--set", "decode.stop=[\"a\", \"b=c\"]").unwrap();
    let config = builder.build().unwrap();
    let options = config.backend().options("cpu").unwrap();
    assert_eq!(options.table()["weights"].as_str(), Some("f32"));
    assert_eq!(config.log_level(), LogLevel::Info);
    assert_eq!(config.decode().sampling.config().temperature, 1.0);
    assert_eq!(config.decode().stop, ["a", "b=c"]);
    // A name of digits is a name.
    builder.assignment("--set", "model.path=123").unwrap();
    let error = builder.build().unwrap_err();
    assert!(
        matches!(*error.problem, Problem::NoSuchFile { ref path, .. } if path == Path::new("123")),
        "{error}"
    );
}

#[test]
fn faults_outside_files_name_the_flag_or_the_variable() {
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    let error = |result: Result<(), ConfigError>| result.unwrap_err().to_string();
    assert_eq!(
        error(builder.assignment("--set", "decode.seed")),
        "--set decode.seed: expected KEY=VALUE, such as decode.seed=7"
    );
    assert_eq!(
        error(builder.assignment("--set", "backend.cpu.weight=f32")),
        "--set backend.cpu.weight=f32: unknown key `backend.cpu.weight`; did you mean `weights`?"
    );
    assert_eq!(
        error(builder.assignment("--set", "backend.cpu=1")),
        "--set backend.cpu=1: unknown key `backend.cpu`; \
         it is a table: set one of its keys, `kv_type`, `threads`, `weights`"
    );
    let mut variable = |name: &str, value: &str| builder.variables([(name.into(), value.into())]);
    assert_eq!(
        error(variable("UPCYCLE_DECODE__SEED", "x")),
        "environment variable UPCYCLE_DECODE__SEED: `decode.seed` must be a whole number, 0 or more, found \"x\""
    );
    for other in ["UPCYCLE_MODELS", "UPCYCLE_TEST_MODEL", "PATH", "UPCYCLER"] {
        variable(other, "x").unwrap();
    }
    builder.variables([("UPCYCLE_DECODE__TOP_P".into(), "2".into())]).unwrap();
    let late = builder.build().unwrap_err();
    assert_eq!(late.origin, Origin::Variable("UPCYCLE_DECODE__TOP_P".into()), "{late}");
}

#[test]
fn a_fault_leaves_the_layers_as_they_were() {
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    builder.text(Path::new("f.toml"), "decode.seed = 5").unwrap();
    builder.text(Path::new("g.toml"), "decode.seed = 6\nnonsense = 1").unwrap_err();
    builder.assignment("--set", "decode.seed=x").unwrap_err();
    builder.variables([("UPCYCLE_DECODE__SEED".into(), "x".into())]).unwrap_err();
    assert_eq!(builder.build().unwrap().decode().sampling.config().seed, 5);
}

#[test]
fn every_ready_file_is_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let mut builder = ConfigBuilder::new(&Registry::builtin());
        builder.file(&file).unwrap_or_else(|error| panic!("{error}"));
        // The model may not have been fetched; any file does for this test.
        builder.flag("test", "model.path", &file.display().to_string()).unwrap();
        let config = builder.build().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(reread(&config), config, "{}", file.display());
    }
}

fn reread(config: &Config) -> Config {
    let text = config.to_toml().unwrap();
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    builder.text(Path::new(""), &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    builder.build().unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Settings as `KEY=VALUE`.
fn settings() -> impl Strategy<Value = Vec<String>> {
    fn setting<V: std::fmt::Debug>(
        key: &'static str,
        values: impl Strategy<Value = V>,
    ) -> impl Strategy<Value = Option<String>> {
        proptest::option::of(values.prop_map(move |value| format!("{key}={value:?}")))
    }
    let drafter = prop_oneof![
        Just(vec!["drafter.preset=\"paper\"".to_owned()]),
        (
            setting("drafter.name", "recycling|mixed|prompt-lookup|none"),
            setting("drafter.recycling.k", 1_usize..=8),
            prop_oneof![setting("drafter.budget", 0_usize..=80), setting("drafter.budget", "auto")],
            setting("drafter.deterministic", any::<bool>()),
            setting("drafter.mixed.table_mib", 1_usize..=1024),
        )
            .prop_map(|(a, b, c, d, e)| [a, b, c, d, e].into_iter().flatten().collect()),
    ];
    let decode = (
        setting("decode.temperature", 0.001_f32..=100.0),
        setting("decode.top_p", 0.01_f32..=1.0),
        setting("decode.min_p", 0.0_f32..=1.0),
        setting("decode.repeat_penalty", 0.1_f32..=10.0),
        setting("decode.seed", 0..=i64::MAX as u64),
        setting("decode.max_tokens", 0_usize..1 << 40),
        setting("drafter.share_across_prompts", any::<bool>()),
        setting("backend.cpu.threads", 1_usize..=1024),
    );
    (drafter, decode).prop_map(|(mut settings, (a, b, c, d, e, f, g, h))| {
        settings.extend([a, b, c, d, e, f, g, h].into_iter().flatten());
        settings
    })
}

proptest! {
    #[test]
    fn a_configuration_written_out_is_the_same_when_read(
        settings in settings(),
        stop in proptest::collection::vec(".+", 0..3),
    ) {
        let mut builder = ConfigBuilder::new(&Registry::builtin());
        for setting in settings {
            builder.assignment("--set", &setting).unwrap();
        }
        builder.assignment("--set", &format!("decode.stop={}", toml::Value::from(stop))).unwrap();
        let config = builder.build().unwrap();
        prop_assert_eq!(reread(&config), config);
    }

    #[test]
    fn no_text_panics(text in "(\\[[a-z.]{0,8}\\]|[a-z.]{1,8} ?= ?[-0-9a-z\"\\[\\]{}.]{0,8}|\\PC{0,8}|\n){0,8}") {
        match load(&text) {
            Ok(config) => prop_assert_eq!(reread(&config), config),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
        let _ = ConfigBuilder::new(&Registry::builtin()).assignment("--set", &text);
        let _ = ConfigBuilder::new(&Registry::builtin()).variables([(format!("UPCYCLE_{text}").into(), text.into())]);
    }
}

#[cfg(feature = "ort")]
#[test]
fn options_of_onnx_runtime_are_checked_by_name_and_range() {
    assert_eq!(
        message("[backend.ort]\nproviders = [\"cuda\", \"gpu\"]").split_once("; expected").unwrap().0,
        "test.toml:2:13: `backend.ort.providers` is \"gpu\""
    );
    assert_eq!(
        message("[backend.ort]\nfallback = 1"),
        "test.toml:2:12: `backend.ort.fallback` must be true or false, found 1"
    );
    assert!(message("backend.ort.intra_threads = 0").contains("expected 1 to 1024"));
    assert!(message("backend.ort.graph_optimization = \"al\"").contains("did you mean `all`?"));
    assert!(message("backend.ort.library = \"gone.so\"").contains("there is no file"));
    for wrong in ["cuda", "cuda.device_id", "cuda.=1", "abacus.beads=3"] {
        let text = message(&format!("backend.ort.provider_options = [\"{wrong}\"]"));
        assert!(text.contains("backend.ort.provider_options"), "{text}");
    }
    let text = "[backend.ort]\nproviders = [\"tensorrt\", \"cpu\"]\nprovider_options = [\"tensorrt.a=b=c\"]\narena = false";
    let config = load(text).unwrap();
    let ort: &upcycle_ort::Options = config.backend().options("ort").unwrap().get().unwrap();
    let option = &ort.provider_options[0];
    assert_eq!((option.provider.name(), &*option.key, &*option.value), ("tensorrt", "a", "b=c"));
    assert!(!ort.arena && ort.spinning && !ort.fallback);
    assert_eq!(reread(&config), config);
}

#[test]
fn a_model_may_be_a_folder_with_a_graph_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    assert!(message(&format!("model.path = '{path}'")).contains("that is a folder"));
    fs::write(folder.path().join("model.onnx"), "").unwrap();
    assert_eq!(load(&format!("model.path = '{path}'")).unwrap().model().path.as_deref(), Some(folder.path()));
}
