//! `[drafter]`.

use std::fs;
use std::path::Path;

use upcycle::{Budget, DrafterChoice, Layers, Mixed, PromptRows, Recycling, SourceName, Tree};
use upcycle_core::{RowSelection, TreeTemplate};

use super::{BACKENDS, load, message};

#[test]
fn a_written_budget_fits_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree.toml");
    fs::write(&tree, "name = \"one\"\nnodes = [\"0\"]\n").unwrap();
    let written = format!("[drafter]\ntree = {:?}\n", tree.display().to_string());
    assert_eq!(*load(&written).unwrap().drafter().budget(), Budget::default());
    assert_eq!(*load(&format!("{written}budget = 1")).unwrap().drafter().budget(), Budget::Nodes(1));
    assert!(message(&format!("{written}budget = 2")).contains("at most 1"));
}

#[test]
fn a_budget_is_a_number_or_auto() {
    let drafter =
        |rest: &str| load(&format!("[drafter]\nname = \"mixed\"\n{rest}")).unwrap().drafter().clone();
    assert_eq!(*drafter("").budget(), Budget::default());
    assert_eq!(*drafter("budget = \"auto\"").budget(), Budget::default());
    assert_eq!(*drafter("budget = 0").budget(), Budget::Nodes(0));
    assert_eq!(*drafter("deterministic = true").budget(), Budget::Auto { deterministic: true, costs: None });
    assert_eq!(*drafter("deterministic = true\nbudget = 3").budget(), Budget::Nodes(3));
    for wrong in ["-1", "1.5", "true", "[1]"] {
        let error = message(&format!("drafter.budget = {wrong}"));
        assert!(error.contains("`drafter.budget` must be a whole number, 0 or more, or \"auto\""), "{error}");
    }
    assert_eq!(
        message("drafter.budget = \"outo\""),
        "test.toml:1:18: `drafter.budget` is \"outo\"; expected a whole number, or \"auto\""
    );
    assert!(message("drafter.deterministic = 1").contains("must be true or false"));
    assert!(message("drafter.costs = \"/nowhere/costs.toml\"").contains("`drafter.costs`"));
}

#[test]
fn an_automatic_budget_needs_no_quotes_outside_files() {
    let mut layers = Layers::new();
    layers.text(Path::new("f.toml"), "drafter.budget = 3").unwrap();
    layers.assignment("--set", "drafter.budget=auto").unwrap();
    layers.variables([("UPCYCLE_DRAFTER__DETERMINISTIC".into(), "true".into())]).unwrap();
    let config = layers.load(&BACKENDS).unwrap();
    assert_eq!(*config.drafter().budget(), Budget::Auto { deterministic: true, costs: None });
}

#[test]
fn the_mixed_drafter_has_sources_each_once() {
    let mixed = |rest: &str| format!("[drafter]\nname = \"mixed\"\n{rest}");
    let DrafterChoice::Mixed(Mixed { budget, sources, .. }) =
        load(&mixed("budget = 200")).unwrap().drafter().clone()
    else {
        panic!("mixed was asked for")
    };
    assert_eq!(
        (budget, &sources[..]),
        (Budget::Nodes(200), &SourceName::DEFAULT[..]),
        "the paper's tree is no bound for it"
    );
    let config = load(&mixed("sources = [\"suffix\", \"runners-up\"]")).unwrap();
    assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
    assert!(message(&mixed("sources = []")).contains("at least one source"));
    assert!(message(&mixed("sources = [\"suffix\", \"suffix\"]")).contains("each source once"));
    assert!(message(&mixed("sources = [\"sufix\"]")).contains("did you mean `suffix`?"));
    assert!(message(&mixed("budget = 513")).contains("at most 512"));
}

#[test]
fn trees_are_grown_anew_unless_a_template_is_named() {
    let tree = |rest: &str| {
        let config = load(&format!("[drafter]\n{rest}")).unwrap();
        assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
        let DrafterChoice::Recycling(recycling) = config.drafter().clone() else { panic!("{config:?}") };
        recycling.tree
    };
    assert_eq!(tree(""), Tree::Auto);
    assert_eq!(tree("tree = \"auto\"\nbudget = 300"), Tree::Auto, "no tree is a bound");
    assert_eq!(tree("tree = \"paper-80\"").template().map(TreeTemplate::len), Some(80));
    let error = message("drafter.k = 9");
    assert!(
        error.contains("`drafter.k`") && error.contains("at most 8 where drafter.tree is `auto`"),
        "{error}"
    );
    assert!(load("[drafter]\nk = 9\ntree = \"paper-80\"").is_ok());
    assert!(message("drafter.budget = 513").contains("at most 512"));
}

#[test]
fn prompt_rows_are_a_name_or_a_stride() {
    let rows = |name: &str, rest: &str| {
        let config = load(&format!("[drafter]\nname = \"{name}\"\n{rest}")).unwrap();
        assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
        match config.drafter().clone() {
            DrafterChoice::Mixed(Mixed { prompt_rows, .. })
            | DrafterChoice::Recycling(Recycling { prompt_rows, .. }) => prompt_rows,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(rows("mixed", ""), PromptRows::Fixed(RowSelection::Last));
    assert_eq!(rows("recycling", ""), PromptRows::Fixed(RowSelection::Last), "as in the paper");
    assert_eq!(rows("recycling", "prompt_rows = \"auto\""), PromptRows::Auto);
    assert_eq!(rows("mixed", "prompt_rows = \"all\""), PromptRows::Fixed(RowSelection::All));
    assert_eq!(rows("mixed", "prompt_rows = 1"), PromptRows::Fixed(RowSelection::All));
    assert_eq!(rows("mixed", "prompt_rows = 3"), PromptRows::Fixed(RowSelection::Every(3)));
    for wrong in ["0", "\"some\""] {
        let error = message(&format!("drafter.prompt_rows = {wrong}"));
        assert!(error.contains("`drafter.prompt_rows`") && error.contains("every so many-th"), "{error}");
    }
}

#[test]
fn tables_and_snapshots_of_the_mixed_drafter_are_checked() {
    let mixed = |rest: &str| format!("[drafter]\nname = \"mixed\"\n{rest}");
    let folder = tempfile::tempdir().unwrap();
    let snapshot = format!("snapshot = {:?}\n", folder.path().join("m.snapshot").display().to_string());
    let config = load(&mixed(&format!("{snapshot}table_mib = 8"))).unwrap();
    assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
    assert!(config.drafter().snapshot().is_some_and(|path| path.ends_with("m.snapshot")));
    for wrong in ["0", "1025"] {
        assert!(message(&mixed(&format!("table_mib = {wrong}"))).contains("1 to 1024"));
    }
    let error = message(&mixed(&format!("{snapshot}sources = [\"suffix\"]")));
    assert!(error.contains("`recycling` among them"), "{error}");
}

#[test]
fn a_folder_of_texts_adds_the_source_that_copies_from_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("in/a")).unwrap();
    fs::write(folder.path().join("in/a/text.txt"), "").unwrap();
    let path = folder.path().join("in");
    let mixed = |rest: &str| format!("[drafter]\nname = \"mixed\"\ntexts = {path:?}\n{rest}");
    let sources = |rest: &str| {
        let config = load(&mixed(rest)).unwrap();
        assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
        assert_eq!(config.drafter().texts(), Some(&*path));
        let DrafterChoice::Mixed(Mixed { sources, .. }) = config.drafter().clone() else {
            panic!("{config:?}")
        };
        sources
    };
    assert_eq!(sources(""), [&SourceName::DEFAULT[..], &[SourceName::Texts]].concat());
    assert_eq!(sources("sources = [\"suffix\"]"), [SourceName::Suffix, SourceName::Texts]);
    let written = sources("sources = [\"texts\", \"suffix\"]");
    assert_eq!(written, [SourceName::Texts, SourceName::Suffix], "where it is written");

    let error = message("[drafter]\nname = \"mixed\"\nsources = [\"texts\"]");
    assert!(
        error.starts_with("test.toml:3:11: ") && error.contains("expected drafter.texts beside"),
        "{error}"
    );
    assert_eq!(load("drafter.name = \"mixed\"").unwrap().drafter().texts(), None);
}

#[test]
fn a_folder_of_texts_is_a_folder_with_a_file_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::create_dir_all(folder.path().join("empty/.hidden")).unwrap();
    fs::write(folder.path().join("empty/.hidden/a.txt"), "text").unwrap();
    fs::write(folder.path().join("file.txt"), "text").unwrap();
    // Whoever drafts: the drafter may be changed on the command line.
    for name in ["mixed", "none"] {
        let error = |path: &str| message(&format!("[drafter]\nname = {name:?}\ntexts = {:?}", at(path)));
        for (path, found) in [
            ("gone", "is not there; expected a folder of texts"),
            ("file.txt", "is a file; expected a folder of texts: name the one that it lies in"),
            ("empty", "holds no file that is not hidden; expected texts in it or in folders below it"),
        ] {
            let error = error(path);
            assert!(error.starts_with("test.toml:3:9: `drafter.texts`: "), "{error}");
            assert!(error.contains(&at(path)) && error.contains(found), "{error}");
        }
    }
}

#[test]
fn prompts_share_what_is_learned_unless_they_are_told_not_to() {
    let shared = |text: &str| {
        let config = load(text).unwrap();
        assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
        config.shared()
    };
    assert!(shared("") && shared("drafter.shared = true"));
    for name in ["recycling", "mixed", "prompt-lookup", "none"] {
        assert!(!shared(&format!("drafter = {{ name = {name:?}, shared = false }}")), "{name}");
    }
    assert!(!shared("drafter = { preset = \"paper\", shared = false }"));
    assert!(message("drafter.shared = \"no\"").contains("must be true or false"));

    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("m.snapshot");
    for name in ["recycling", "mixed"] {
        let both =
            |shared: bool| format!("[drafter]\nname = {name:?}\nsnapshot = {snapshot:?}\nshared = {shared}");
        let error = message(&both(false));
        assert!(
            error.starts_with("test.toml:4:10: `drafter.shared` is false; expected true beside"),
            "{error}"
        );
        assert!(shared(&both(true)));
    }
}

#[test]
fn the_paper_preset_fixes_its_keys() {
    let paper = "[drafter]\npreset = \"paper\"\n";
    let config = load(paper).unwrap();
    let DrafterChoice::Recycling(recycling) = config.drafter() else { panic!("{config:?}") };
    assert_eq!(
        (recycling.k, &recycling.budget, recycling.tree.template().unwrap().name()),
        (8, &Budget::Nodes(80), "paper-80")
    );
    let same = format!("{paper}k = 8\nbudget = 80\ntree = \"paper-80\"\nname = \"recycling\"\n");
    assert_eq!(load(&same).unwrap(), config, "what the preset says may be said again");
    for (key, value) in [
        ("k", "4"),
        ("budget", "8"),
        ("budget", "\"auto\""),
        ("prompt_rows", "\"all\""),
        ("name", "\"none\""),
        ("tree", "\"x.toml\""),
    ] {
        let error = message(&format!("{paper}{key} = {value}"));
        assert!(error.starts_with("test.toml:3:"), "{error}");
        assert!(
            error.contains(&format!("`drafter.{key}`")) && error.contains("preset = \"paper\""),
            "{error}"
        );
    }
}

#[test]
fn a_preset_yields_to_another_drafter_on_a_flag_but_not_to_another_budget() {
    let mut layers = Layers::new();
    layers.text(Path::new("f.toml"), "[drafter]\npreset = \"paper\"\n").unwrap();
    let mut plain = layers.clone();
    plain.flag("--drafter", "drafter.name", "none").unwrap();
    assert_eq!(plain.load(&BACKENDS).unwrap().drafter(), &DrafterChoice::None);
    layers.assignment("--set", "drafter.budget=8").unwrap();
    assert!(layers.load(&BACKENDS).unwrap_err().to_string().starts_with("--set drafter.budget=8: "));
}

#[test]
fn a_preset_on_a_flag_overrules_the_file() {
    let mut layers = Layers::new();
    layers.text(Path::new("f.toml"), "[drafter]\nname = \"none\"\nbudget = 8\n").unwrap();
    layers.assignment("--set", "drafter.preset=paper").unwrap();
    assert_eq!(*layers.load(&BACKENDS).unwrap().drafter().budget(), Budget::Nodes(80));
}
