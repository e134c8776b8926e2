//! `docs/configuration.md` says of every key what the type says.

use std::collections::BTreeMap;

use super::keys::KEYS;
use crate::Layers;

const PAGE: &str = include_str!("../../../../docs/configuration.md");

/// Key and default of every line of the page's tables.
fn documented() -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    for line in PAGE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        if let [key, default, meaning] = cells[..] {
            assert!(!meaning.is_empty(), "{line}");
            let (key, default) = (key.trim_matches('`').to_owned(), default.trim_matches('`').to_owned());
            assert_eq!(keys.insert(key.clone(), default), None, "{key} is there twice");
        }
    }
    keys
}

/// Every key that has a value where nothing is set, as TOML writes it.
fn defaults(drafter: &str) -> BTreeMap<String, String> {
    let mut layers = Layers::new();
    layers.flag("--drafter", "drafter.name", drafter).unwrap();
    let text = layers.load(&["candle"]).unwrap().to_toml().unwrap();
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
    for (key, found) in &documented {
        let expected = defaults_of.get(key).map_or("-", String::as_str);
        assert_eq!(found, expected, "the default of {key}");
    }
}
