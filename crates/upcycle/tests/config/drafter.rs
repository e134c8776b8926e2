//! `[drafter]`.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use upcycle::{
    Budget, ConfigBuilder, DrafterConfig, MixedOptions, PromptRows, RecyclingOptions, Registry, Tree,
};
use upcycle_core::TreeTemplate;
use upcycle_core::mixed::CorpusBuilder;

use super::{load, message};

#[test]
fn a_written_budget_fits_the_tree() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree.toml");
    fs::write(&tree, "name = \"one\"\nnodes = [\"0\"]\n").unwrap();
    let written =
        format!("[drafter]\nname = \"recycling\"\nrecycling.tree = {:?}\n", tree.display().to_string());
    assert_eq!(load(&written).unwrap().drafter().budget(), Budget::default());
    assert_eq!(load(&format!("{written}budget = 1")).unwrap().drafter().budget(), Budget::Nodes(1));
    assert!(message(&format!("{written}budget = 2")).contains("at most 1"));
}

#[test]
fn a_budget_is_a_number_or_auto() {
    let drafter =
        |rest: &str| load(&format!("[drafter]\nname = \"mixed\"\n{rest}")).unwrap().drafter().clone();
    assert_eq!(drafter("").budget(), Budget::default());
    assert_eq!(drafter("budget = \"auto\"").budget(), Budget::default());
    assert_eq!(drafter("budget = 0").budget(), Budget::Nodes(0));
    let deterministic = drafter("deterministic = true");
    assert_eq!((deterministic.budget(), deterministic.deterministic()), (Budget::Auto, true));
    assert_eq!(drafter("deterministic = true\nbudget = 3").budget(), Budget::Nodes(3));
    for wrong in ["-1", "1.5", "true", "[1]"] {
        let error = message(&format!("drafter.budget = {wrong}"));
        assert!(error.contains("`drafter.budget` must be a whole number, 0 or more, or \"auto\""), "{error}");
    }
    assert_eq!(
        message("drafter.budget = \"outo\""),
        "test.toml:1:18: `drafter.budget` is \"outo\"; expected `auto`, or 0 to 512"
    );
    assert!(message("drafter.deterministic = 1").contains("must be true or false"));
    assert!(message("drafter.cost_file = \"/nowhere/costs.toml\"").contains("`drafter.cost_file`"));
}

#[test]
fn an_automatic_budget_needs_no_quotes_outside_files() {
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    builder.text(Path::new("f.toml"), "drafter.budget = 3").unwrap();
    builder.assignment("--set", "drafter.budget=auto").unwrap();
    builder.variables([("UPCYCLE_DRAFTER__DETERMINISTIC".into(), "true".into())]).unwrap();
    let config = builder.build().unwrap();
    assert_eq!((config.drafter().budget(), config.drafter().deterministic()), (Budget::Auto, true));
}

fn sources(config: &DrafterConfig) -> Vec<String> {
    config.options::<MixedOptions>().unwrap().sources.clone()
}

#[test]
fn the_mixed_drafter_has_sources_each_once() {
    let mixed = |rest: &str| format!("[drafter]\nname = \"mixed\"\n{rest}");
    let config = load(&mixed("budget = 200")).unwrap();
    assert_eq!(config.drafter().budget(), Budget::Nodes(200), "the paper's tree does not limit it");
    assert_eq!(sources(config.drafter()), MixedOptions::default().sources);
    let config = load(&mixed("mixed.sources = [\"suffix\", \"top-k-history\"]")).unwrap();
    assert_eq!(sources(config.drafter()), ["suffix", "top-k-history"]);
    assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
    assert!(message(&mixed("mixed.sources = []")).contains("at least one source"));
    assert!(message(&mixed("mixed.sources = [\"suffix\", \"suffix\"]")).contains("each source once"));
    let slip = message(&mixed("mixed.sources = [\"sufix\"]"));
    assert!(slip.contains("did you mean `suffix`?") && slip.contains("Registry::register_source"), "{slip}");
    assert!(message(&mixed("budget = 513")).contains("512"));
}

#[test]
fn trees_are_grown_at_each_step_unless_a_template_is_named() {
    let tree = |rest: &str| {
        let config = load(&format!("[drafter]\nname = \"recycling\"\n{rest}")).unwrap();
        assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
        config.drafter().options::<RecyclingOptions>().unwrap().tree.clone()
    };
    assert_eq!(tree(""), Tree::Auto);
    assert_eq!(tree("recycling.tree = \"auto\"\nbudget = 300"), Tree::Auto, "no tree limits it");
    assert_eq!(tree("recycling.tree = \"paper-80\"").template().map(TreeTemplate::len), Some(80));
    let error = message("drafter = { name = \"recycling\", recycling.k = 9 }");
    assert!(
        error.contains("`drafter.recycling.k`")
            && error.contains("at most 8 where drafter.recycling.tree is `auto`"),
        "{error}"
    );
    assert!(load("[drafter]\nname = \"recycling\"\nrecycling = { k = 9, tree = \"paper-80\" }").is_ok());
    assert!(message("drafter.budget = 513").contains("512"));
}

#[test]
fn prompt_rows_are_a_name_or_a_stride() {
    let rows = |name: &str, rest: &str| {
        let config = load(&format!("[drafter]\nname = \"{name}\"\n{rest}")).unwrap();
        assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
        config.drafter().prompt_rows()
    };
    assert_eq!(rows("mixed", ""), PromptRows::Last);
    assert_eq!(rows("recycling", ""), PromptRows::Last, "as in the paper");
    assert_eq!(rows("recycling", "prompt_rows = \"auto\""), PromptRows::Auto);
    assert_eq!(rows("mixed", "prompt_rows = \"all\""), PromptRows::All);
    assert_eq!(rows("mixed", "prompt_rows = 1").rows(None), PromptRows::All.rows(None));
    assert_eq!(rows("mixed", "prompt_rows = 3"), PromptRows::Every(3.try_into().unwrap()));
    for wrong in ["0", "\"some\""] {
        let error = message(&format!("drafter.prompt_rows = {wrong}"));
        assert!(
            error.contains("`drafter.prompt_rows`") && error.contains("`auto`, or a whole number from 1"),
            "{error}"
        );
    }
}

#[test]
fn tables_and_snapshots_of_the_mixed_drafter_are_checked() {
    let mixed = |rest: &str| format!("[drafter]\nname = \"mixed\"\n{rest}");
    let folder = tempfile::tempdir().unwrap();
    let snapshot = format!("snapshot = {:?}\n", folder.path().join("m.snapshot").display().to_string());
    let config = load(&mixed(&format!("{snapshot}mixed.table_mib = 8"))).unwrap();
    assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
    assert!(config.drafter().snapshot().is_some_and(|path| path.ends_with("m.snapshot")));
    for wrong in ["0", "1025"] {
        assert!(message(&mixed(&format!("mixed.table_mib = {wrong}"))).contains("1 to 1024"));
    }
    let error = message(&mixed(&format!("{snapshot}mixed.sources = [\"suffix\"]")));
    assert!(error.contains("`adjacency` among them"), "{error}");
}

#[test]
fn a_folder_of_texts_adds_the_source_that_copies_from_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("in/a")).unwrap();
    fs::write(folder.path().join("in/a/text.txt"), "").unwrap();
    let path = folder.path().join("in");
    let corpus = Arc::new(CorpusBuilder::new(10, 10).build());
    let mixed = |rest: &str| format!("[drafter]\nname = \"mixed\"\ncorpus_dir = {path:?}\n{rest}");
    let sources = |rest: &str| {
        let config = load(&mixed(rest)).unwrap();
        assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
        assert_eq!(config.drafter().corpus_dir(), Some(&*path));
        config.drafter().build(&Registry::builtin(), 10, None, Some(&corpus)).unwrap().sources()
    };
    assert_eq!(sources(""), ["adjacency", "last-2", "last-3", "suffix", "frequent", "corpus"]);
    assert_eq!(sources("mixed.sources = [\"suffix\"]"), ["suffix", "corpus"]);
    let written = sources("mixed.sources = [\"corpus\", \"suffix\"]");
    assert_eq!(written, ["corpus", "suffix"], "where it is written");

    let error = message("[drafter]\nname = \"mixed\"\nmixed.sources = [\"corpus\"]");
    assert!(
        error.starts_with("test.toml:3:17: ") && error.contains("expected drafter.corpus_dir with"),
        "{error}"
    );
    assert_eq!(load("drafter.name = \"mixed\"").unwrap().drafter().corpus_dir(), None);
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
        let error = |path: &str| message(&format!("[drafter]\nname = {name:?}\ncorpus_dir = {:?}", at(path)));
        for (path, found) in [
            ("gone", "is not there; expected a folder of texts"),
            ("file.txt", "is a file; expected a folder of texts: name the folder that holds it"),
            ("empty", "has no files; expected texts in it or in its subfolders"),
        ] {
            let error = error(path);
            assert!(error.starts_with("test.toml:3:14: `drafter.corpus_dir`: "), "{error}");
            assert!(error.contains(&at(path)) && error.contains(found), "{error}");
        }
    }
}

#[test]
fn prompts_share_what_is_learned_unless_they_are_told_not_to() {
    let shared = |text: &str| {
        let config = load(text).unwrap();
        assert_eq!(load(&config.to_toml().unwrap()).unwrap(), config);
        config.drafter().share_across_prompts()
    };
    assert!(shared("") && shared("drafter.share_across_prompts = true"));
    for name in ["recycling", "mixed", "prompt-lookup", "none"] {
        assert!(!shared(&format!("drafter = {{ name = {name:?}, share_across_prompts = false }}")), "{name}");
    }
    assert!(!shared("drafter = { preset = \"paper\", share_across_prompts = false }"));
    assert!(message("drafter.share_across_prompts = \"no\"").contains("must be true or false"));

    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("m.snapshot");
    for name in ["recycling", "mixed"] {
        let both = |shared: bool| {
            format!("[drafter]\nname = {name:?}\nsnapshot = {snapshot:?}\nshare_across_prompts = {shared}")
        };
        let error = message(&both(false));
        assert!(
            error.starts_with("test.toml:4:24: `drafter.share_across_prompts` is false; expected true with"),
            "{error}"
        );
        assert!(shared(&both(true)));
    }
}

#[test]
fn the_paper_preset_fixes_its_keys() {
    let paper = "[drafter]\npreset = \"paper\"\n";
    let config = load(paper).unwrap();
    let recycling: &RecyclingOptions = config.drafter().options().unwrap();
    assert_eq!(
        (recycling.k, config.drafter().budget(), recycling.tree.template().unwrap().name()),
        (8, Budget::Nodes(80), "paper-80")
    );
    let same =
        format!("{paper}recycling.k = 8\nbudget = 80\nrecycling.tree = \"paper-80\"\nname = \"recycling\"\n");
    assert_eq!(load(&same).unwrap(), config, "what the preset says may be said again");
    for (key, value) in [
        ("recycling.k", "4"),
        ("budget", "8"),
        ("budget", "\"auto\""),
        ("prompt_rows", "\"all\""),
        ("name", "\"none\""),
        ("recycling.tree", "\"x.toml\""),
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
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    builder.text(Path::new("f.toml"), "[drafter]\npreset = \"paper\"\n").unwrap();
    let mut plain = builder.clone();
    plain.flag("--drafter", "drafter.name", "none").unwrap();
    assert!(plain.build().unwrap().drafter().is_plain_decoding());
    builder.assignment("--set", "drafter.budget=8").unwrap();
    assert!(builder.build().unwrap_err().to_string().starts_with("--set drafter.budget=8: "));
}

#[test]
fn a_preset_on_a_flag_overrules_the_file() {
    let mut builder = ConfigBuilder::new(&Registry::builtin());
    builder.text(Path::new("f.toml"), "[drafter]\nname = \"none\"\nbudget = 8\n").unwrap();
    builder.assignment("--set", "drafter.preset=paper").unwrap();
    assert_eq!(builder.build().unwrap().drafter().budget(), Budget::Nodes(80));
}
