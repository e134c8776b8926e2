//! `docs/configuration.md` says of every key what the type says.

use std::collections::BTreeMap;

use super::keys::{KEYS, Kind};
use super::{ConfigError, Problem};
use crate::Layers;

const PAGE: &str = include_str!("../../../../docs/configuration.md");

/// Key, default and meaning of every line of the page's tables.
fn documented() -> BTreeMap<String, (String, String)> {
    let mut keys = BTreeMap::new();
    for line in PAGE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if let [key, default, meaning] = cells[..] {
            assert!(!meaning.is_empty(), "{line}");
            let (key, default) = (key.trim_matches('`').to_owned(), default.trim_matches('`').to_owned());
            let before = keys.insert(key.clone(), (default, meaning.to_owned()));
            assert_eq!(before, None, "{key} is there twice");
        }
    }
    keys
}

/// Every key that has a value where nothing is set, as TOML writes it.
fn defaults(drafter: &str) -> BTreeMap<String, String> {
    let mut layers = Layers::new();
    layers.flag("--drafter", "drafter.name", drafter).unwrap();
    let text = layers.load(&["cpu"]).unwrap().to_toml().unwrap();
    let mut keys = BTreeMap::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            name.clone_into(&mut table);
        } else if let Some((key, value)) = line.split_once(" = ") {
            keys.insert(format!("{table}.{key}"), value.to_owned());
        }
    }
    keys
}

#[test]
fn every_key_is_documented_with_its_default() {
    let documented = documented();
    let known: Vec<&String> = KEYS.keys().collect();
    assert_eq!(documented.keys().collect::<Vec<_>>(), known);
    let mut defaults_of = defaults("mixed");
    defaults_of.extend(defaults("recycling"));
    for (key, (found, _)) in &documented {
        let expected = defaults_of.get(key).map_or("-", String::as_str);
        assert_eq!(found, expected, "the default of {key}");
    }
}

/// What a key says of a value that it does not take.
fn refused(key: &str, value: &str) -> Option<Problem> {
    let mut layers = Layers::new();
    layers.flag("--set", key, value).unwrap();
    let load = layers.load(&["cpu", "candle", "ort", "llama-cpp"]);
    load.err().map(|ConfigError { problem, .. }| *problem)
}

#[test]
fn every_name_and_bound_of_a_key_is_documented() {
    let documented = documented();
    let (mut names, mut bounds) = (0, 0);
    for (key, kind) in KEYS.iter() {
        let value = match kind {
            Kind::Text => "no-such-name",
            Kind::Texts => "[\"no-such-name\"]",
            Kind::Whole | Kind::Size => "4000000000",
            Kind::Number | Kind::Flag | Kind::Table => continue,
        };
        let (default, meaning) = &documented[key];
        match refused(key, value) {
            Some(Problem::UnknownName { hint, .. }) => {
                names += 1;
                for name in hint.split('`').skip(1).step_by(2) {
                    let written =
                        meaning.contains(&format!("`{name}`")) || default.contains(&format!("\"{name}\""));
                    assert!(written, "{key} takes `{name}`");
                }
            }
            Some(Problem::OutOfRange { expected, .. }) if *kind != Kind::Texts => {
                let digits = |c: char| !c.is_ascii_digit();
                for bound in expected.split(digits).filter(|bound| !bound.is_empty()) {
                    bounds += 1;
                    assert!(meaning.split(digits).any(|number| number == bound), "{key}: {expected}");
                }
            }
            _ => {}
        }
    }
    assert!(names > 10 && bounds > 10, "{names} keys take names, {bounds} bounds of numbers are known");
}
