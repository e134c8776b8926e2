//! The configuration's promises: precedence, origins, suggestions, and a way back to text.

mod drafter;
mod variables;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use upcycle::{
    Config, ConfigError, DrafterChoice, Layers, LogLevel, Origin, Problem, Raw, RawAmount, Tree, Weights,
};

const BACKENDS: [&str; 4] = ["cpu", "candle", "ort", "llama-cpp"];

fn load(text: &str) -> Result<Config, ConfigError> {
    let mut layers = Layers::new();
    layers.text(Path::new("test.toml"), text)?;
    layers.load(&BACKENDS)
}

fn message(text: &str) -> String {
    load(text).expect_err(text).to_string()
}

#[test]
fn flags_beat_variables_beat_the_file_beats_defaults_in_any_order_of_calls() {
    let keys = [("decode.seed", "UPCYCLE_DECODE__SEED"), ("decode.max_tokens", "UPCYCLE_DECODE__MAX_TOKENS")];
    for subset in 0..8_u32 {
        for (key, variable) in keys {
            let mut layers = Layers::new();
            if subset & 4 != 0 {
                layers.assignment("--set", &format!("{key}=4")).unwrap();
            }
            if subset & 2 != 0 {
                layers.variables([(variable.into(), "2".into())]).unwrap();
            }
            if subset & 1 != 0 {
                layers.text(Path::new("f.toml"), &format!("{key} = 1")).unwrap();
            }
            let config = layers.load(&BACKENDS).unwrap();
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
            assert_eq!(found, expected, "{key}, layers {subset:03b}");
        }
    }
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_key() {
    assert_eq!(
        message("# comment\n[backend.candle]\n  weigths = \"f32\"\n"),
        "test.toml:3:3: unknown key `backend.candle.weigths`; did you mean `weights`?"
    );
    assert_eq!(message("[modle]\npath = \"x\""), "test.toml:1:2: unknown key `modle`; did you mean `model`?");
    assert_eq!(
        message("[drafter]\ntemperature = 1"),
        "test.toml:2:1: unknown key `drafter.temperature`; did you mean `decode.temperature`?"
    );
    assert_eq!(message("[log]\nxyzzy = 1"), "test.toml:2:1: unknown key `log.xyzzy`; `log` has `level`");
    assert_eq!(
        message("[xyzzy]\na = 1"),
        "test.toml:1:2: unknown key `xyzzy`; the tables are `backend`, `decode`, `drafter`, `log`, `model`"
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
        "test.toml:2:8: `backend.name` is \"candel\"; expected one of `cpu`, `candle`, `ort`, `llama-cpp`; did you mean `candle`?"
    );
    assert_eq!(
        message("[drafter]\nname = \"magic\""),
        "test.toml:2:8: `drafter.name` is \"magic\"; expected one of `recycling`, `mixed`, `prompt-lookup`, `none`"
    );
    assert_eq!(message("drafter.k = 33"), "test.toml:1:13: `drafter.k` is 33; expected 1 to 32");
    assert_eq!(
        message("drafter = { tree = \"paper-80\", budget = 81 }"),
        "test.toml:1:41: `drafter.budget` is 81; expected at most 80, the nodes of the tree \"paper-80\""
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
    let mut layers = Layers::new();
    layers.file(&file).unwrap();
    let path = layers.load(&BACKENDS).unwrap().model().path.clone().unwrap();
    assert_eq!(path, folder.path().join("configs").join("../model.gguf"));

    fs::write(&file, "[model]\npath = \"../modle.gguf\"\n").unwrap();
    layers.file(&file).unwrap();
    let error = layers.load(&BACKENDS).unwrap_err();
    let near = folder.path().join("configs/../model.gguf");
    assert_eq!(error.origin, Origin::File { path: file.clone(), line: 2, column: 8 });
    assert!(error.to_string().ends_with(&format!("did you mean {}?", near.display())), "{error}");

    layers.assignment("--set", &format!("model.path={}", near.display())).unwrap();
    assert!(layers.load(&BACKENDS).is_ok(), "only the path that counts must exist");

    layers.assignment("--set", "model.path=no/such/folder/x.gguf").unwrap();
    let error = layers.load(&BACKENDS).unwrap_err().to_string();
    assert!(error.contains("its folder no/such/folder does not exist either"), "{error}");
    layers.assignment("--set", &format!("model.path={}", folder.path().display())).unwrap();
    assert!(layers.load(&BACKENDS).unwrap_err().to_string().contains("that is a folder"));
    for name in ["config.json", "model.onnx"] {
        let model = folder.path().join(name);
        fs::write(&model, "").unwrap();
        assert!(layers.load(&BACKENDS).is_ok(), "a folder with {name} is a model");
        fs::remove_file(model).unwrap();
    }
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let error = Layers::new().file(Path::new("no-such.toml")).unwrap_err();
    assert!(error.to_string().starts_with("no-such.toml: "), "{error}");
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn a_tree_file_is_read_and_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree.toml");
    fs::write(&tree, "name = \"mine\"\nnodes = [\"0\", \"0.0\", \"1\"]\n").unwrap();
    let file = folder.path().join("c.toml");
    fs::write(&file, "[drafter]\ntree = \"tree.toml\"\nbudget = 3\n").unwrap();
    let mut layers = Layers::new();
    layers.file(&file).unwrap();
    let config = layers.load(&BACKENDS).unwrap();
    let DrafterChoice::Recycling(recycling) = config.drafter() else { panic!("{config:?}") };
    let Tree::Template { path, template } = &recycling.tree else { panic!("{recycling:?}") };
    assert_eq!((path.as_ref(), template.len()), (Some(&tree), 3));

    fs::write(&tree, "name = \"mine\"\nnodes = [\"0\",\n\"1.0\"]\n").unwrap();
    let error = layers.load(&BACKENDS).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.starts_with("line 3: "), "{source}");

    fs::remove_file(&tree).unwrap();
    assert!(
        layers
            .load(&BACKENDS)
            .unwrap_err()
            .to_string()
            .ends_with("(`auto` and the built-in tree `paper-80` need none)")
    );
}

#[test]
fn values_outside_files_need_no_quotes() {
    let mut layers = Layers::new();
    for assignment in ["backend.candle.weights=f32", "log.level = \"info\"", "decode.temperature=1"] {
        layers.assignment("--set", assignment).unwrap();
    }
    layers.assignment("--set", "decode.stop=[\"a\", \"b=c\"]").unwrap();
    let config = layers.load(&BACKENDS).unwrap();
    assert_eq!(config.backend().candle.weights, Weights::F32);
    assert_eq!(config.log_level(), LogLevel::Info);
    assert_eq!(config.decode().sampling.config().temperature, 1.0);
    assert_eq!(config.decode().stop, ["a", "b=c"]);
    // A name of digits is a name.
    layers.assignment("--set", "model.path=123").unwrap();
    let error = layers.load(&BACKENDS).unwrap_err();
    assert!(
        matches!(*error.problem, Problem::NoSuchFile { ref path, .. } if path == Path::new("123")),
        "{error}"
    );
}

#[test]
fn faults_outside_files_name_the_flag_or_the_variable() {
    let mut layers = Layers::new();
    let error = |result: Result<(), ConfigError>| result.unwrap_err().to_string();
    assert_eq!(
        error(layers.assignment("--set", "decode.seed")),
        "--set decode.seed: expected KEY=VALUE, such as decode.seed=7"
    );
    assert_eq!(
        error(layers.assignment("--set", "backend.candle.weight=f32")),
        "--set backend.candle.weight=f32: unknown key `backend.candle.weight`; did you mean `weights`?"
    );
    assert_eq!(
        error(layers.assignment("--set", "backend.candle=1")),
        "--set backend.candle=1: unknown key `backend.candle`; \
         it is a table: set one of its keys, `device`, `kernels`, `threads`, `weights`"
    );
    let mut variable = |name: &str, value: &str| layers.variables([(name.into(), value.into())]);
    assert_eq!(
        error(variable("UPCYCLE_DECODE__SEED", "x")),
        "environment variable UPCYCLE_DECODE__SEED: `decode.seed` must be a whole number, 0 or more, found \"x\""
    );
    assert_eq!(
        error(variable("UPCYCLE_MODEL_PATH", "x")),
        "environment variable UPCYCLE_MODEL_PATH: no key has this variable; did you mean UPCYCLE_MODEL__PATH?"
    );
    assert!(error(variable("UPCYCLE_NONSENSE", "x")).contains("two underscores between levels"));
    for other in ["UPCYCLE_MODELS", "UPCYCLE_TEST_MODEL", "PATH", "UPCYCLER"] {
        variable(other, "x").unwrap();
    }
    layers.variables([("UPCYCLE_DECODE__TOP_P".into(), "2".into())]).unwrap();
    let late = layers.load(&BACKENDS).unwrap_err();
    assert_eq!(late.origin, Origin::Variable("UPCYCLE_DECODE__TOP_P".into()), "{late}");
}

#[test]
fn a_fault_leaves_the_layers_as_they_were() {
    let mut layers = Layers::new();
    layers.text(Path::new("f.toml"), "decode.seed = 5").unwrap();
    layers.text(Path::new("g.toml"), "decode.seed = 6\nnonsense = 1").unwrap_err();
    layers.assignment("--set", "decode.seed=x").unwrap_err();
    layers.variables([("UPCYCLE_DECODE__SEED".into(), "x".into())]).unwrap_err();
    assert_eq!(layers.load(&BACKENDS).unwrap().decode().sampling.config().seed, 5);
}

#[test]
fn every_ready_file_is_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut files: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        let mut layers = Layers::new();
        layers.file(&file).unwrap_or_else(|error| panic!("{error}"));
        // The model may not have been fetched; any file does for this test.
        layers.flag("test", "model.path", &file.display().to_string()).unwrap();
        let config = layers.load(&BACKENDS).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(reread(&config), config, "{}", file.display());
    }
}

fn reread(config: &Config) -> Config {
    let text = config.to_toml().unwrap();
    let mut layers = Layers::new();
    layers.text(Path::new(""), &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    layers.load(&BACKENDS).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn raw() -> impl Strategy<Value = Raw> {
    let drafter = (
        proptest::option::of("recycling|prompt-lookup|none"),
        proptest::option::of(1_usize..=32),
        proptest::option::of(prop_oneof![
            (0_usize..=80).prop_map(RawAmount::Number),
            Just(RawAmount::Name("auto".to_owned())),
        ]),
        proptest::option::of(any::<bool>()),
        any::<bool>(),
        proptest::option::of(any::<bool>()),
    );
    let sampling = (0.001_f32..=100.0, 0.01_f32..=1.0, 0.0_f32..=1.0, 0.1_f32..=10.0, 0..=i64::MAX as u64);
    let rest =
        (proptest::collection::vec(".+", 0..3), proptest::option::of(1_usize..=1024), 0_usize..1 << 40);
    (drafter, sampling, rest).prop_map(|(drafter, sampling, (stop, threads, max_tokens))| {
        let mut raw = Raw::default();
        let (name, k, budget, deterministic, paper, shared) = drafter;
        raw.drafter.shared = shared;
        if paper {
            raw.drafter.preset = Some("paper".to_owned());
        } else {
            (raw.drafter.name, raw.drafter.k, raw.drafter.budget) = (name, k, budget);
            raw.drafter.deterministic = deterministic;
            raw.drafter.tree = k.filter(|&k| k > 8).map(|_| "paper-80".to_owned());
        }
        let (temperature, top_p, min_p, penalty, seed) = sampling;
        raw.decode.temperature = Some(temperature);
        raw.decode.top_p = Some(top_p);
        raw.decode.min_p = Some(min_p);
        raw.decode.repeat_penalty = Some(penalty);
        raw.decode.seed = Some(seed);
        raw.decode.stop = Some(stop);
        raw.decode.max_tokens = Some(max_tokens);
        raw.backend.cpu.threads = threads;
        raw
    })
}

proptest! {
    #[test]
    fn a_configuration_written_out_is_the_same_when_read(raw in raw()) {
        let config = Config::try_from(raw).unwrap();
        prop_assert_eq!(reread(&config), config.clone());
        prop_assert_eq!(Config::try_from(Raw::from(&config)).unwrap(), config);
    }

    #[test]
    fn no_text_panics(text in "(\\[[a-z.]{0,8}\\]|[a-z.]{1,8} ?= ?[-0-9a-z\"\\[\\]{}.]{0,8}|\\PC{0,8}|\n){0,8}") {
        match load(&text) {
            Ok(config) => prop_assert_eq!(reread(&config), config),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
        let _ = Layers::new().assignment("--set", &text);
        let _ = Layers::new().variables([(format!("UPCYCLE_{text}").into(), text.into())]);
    }
}

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
    let ort = &config.backend().ort;
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
