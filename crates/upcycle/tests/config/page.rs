//! `docs/configuration.md` says what the types say.
#![cfg(all(feature = "cpu", feature = "candle", feature = "ort", feature = "llama-cpp"))]

use std::path::Path;

use upcycle::{Registry, configuration_page};

#[test]
fn the_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let page = configuration_page(&Registry::builtin());
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap();
    assert!(found == page, "docs/configuration.md is out of date; UPDATE_PAGES=1 writes it");
}

#[test]
fn every_key_has_a_type_a_meaning_and_a_variable_of_its_own() {
    let page = configuration_page(&Registry::builtin());
    let mut variables = Vec::new();
    for row in page.lines().filter(|line| {
        line.starts_with("| `") && line.contains("`UPCYCLE_") && line.matches(" | ").count() == 4
    }) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [key, kind, default, meaning, variable] = cells[..] else { panic!("{row}") };
        assert!(!default.is_empty() && meaning.len() > 5 && kind != "value", "{key}");
        variables.push(variable.to_owned());
    }
    assert!(variables.len() > 55, "{} keys", variables.len());
    assert!(variables.contains(&"`UPCYCLE_BACKEND__LLAMA_CPP__THREADS`".to_owned()));
    let all = variables.len();
    variables.sort();
    variables.dedup();
    assert_eq!(variables.len(), all);
}
