//! The table of all keys, and the nearest name to a wrong one.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use toml::{Table, Value};

use super::raw::Raw;

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Whole,
    Number,
    Texts,
    Size,
    Flag,
    Table,
}

impl Kind {
    /// The value as this kind; whole numbers are numbers.
    pub(crate) fn fit(self, value: Value) -> Result<Value, Value> {
        let fits = match (self, &value) {
            (Kind::Text, Value::String(_)) => true,
            (Kind::Whole, Value::Integer(number)) => *number >= 0,
            (Kind::Number, Value::Float(_)) => true,
            (Kind::Number, &Value::Integer(number)) => return Ok(Value::Float(number as f64)),
            (Kind::Size, Value::Integer(number)) => *number >= 0,
            // Which names there are is checked with the rest.
            (Kind::Size, Value::String(_)) => true,
            (Kind::Flag, Value::Boolean(_)) => true,
            (Kind::Table, Value::Table(_)) => true,
            (Kind::Texts, Value::Array(entries)) => entries.iter().all(Value::is_str),
            _ => false,
        };
        if fits { Ok(value) } else { Err(value) }
    }

    fn of(specimen: &Value) -> Self {
        match specimen {
            Value::Integer(_) => Kind::Whole,
            Value::Float(_) => Kind::Number,
            Value::Boolean(_) => Kind::Flag,
            Value::Array(_) => Kind::Texts,
            Value::Table(_) => Kind::Table,
            _ => Kind::Text,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Text => "a string",
            Kind::Whole => "a whole number, 0 or more",
            Kind::Number => "a number",
            Kind::Texts => "a list of strings",
            Kind::Flag => "true or false",
            Kind::Table => "a table, such as { enable_thinking = false }",
            Kind::Size => "a whole number, 0 or more, or \"auto\"",
        })
    }
}

/// Every key, dotted, and what it holds.
pub(crate) static KEYS: LazyLock<BTreeMap<String, Kind>> = LazyLock::new(|| {
    let mut keys = BTreeMap::new();
    let table = Table::try_from(Raw::specimen()).expect("the specimen holds nothing that TOML lacks");
    collect(&table, "", &mut keys);
    keys
});

fn collect(table: &Table, prefix: &str, keys: &mut BTreeMap<String, Kind>) {
    for (name, value) in table {
        let key = join(prefix, name);
        match value {
            Value::Table(inner) if !inner.is_empty() => collect(inner, &key, keys),
            value => {
                let kind = if SIZES.contains(&&*key) { Kind::Size } else { Kind::of(value) };
                keys.insert(key, kind);
            }
        }
    }
}

/// The keys whose values are a number or a name that stands for one.
const SIZES: [&str; 2] = ["drafter.budget", "drafter.prompt_rows"];

/// The keys whose values are paths: relative ones in a file are relative to the file's folder.
pub(crate) const PATHS: [&str; 10] = [
    "model.path",
    "model.tokenizer",
    "model.template",
    "backend.ort.library",
    "backend.ort.profiling",
    "backend.llama-cpp.lora.path",
    "drafter.tree",
    "drafter.costs",
    "drafter.snapshot",
    "drafter.texts",
];

/// `prefix.name`, or `name` alone at the top.
pub(crate) fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

/// Whether keys lie below this one.
pub(crate) fn is_table(key: &str) -> bool {
    KEYS.keys().any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

/// The names that may stand right below `prefix` (all tables and keys at the top, for an empty one).
pub(crate) fn names_below(prefix: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = KEYS
        .keys()
        .filter_map(|key| {
            if prefix.is_empty() { Some(&**key) } else { key.strip_prefix(prefix)?.strip_prefix('.') }
        })
        .map(|rest| rest.split('.').next().unwrap_or(rest))
        .collect();
    names.dedup();
    names
}

/// What an unknown key may have been meant to be: a name beside it, else a key of that name in another table.
pub(crate) fn nearest_key(key: &str) -> Option<String> {
    let (prefix, name) = key.rsplit_once('.').unwrap_or(("", key));
    if let Some(near) = nearest(name, names_below(prefix)) {
        return Some(near.to_owned());
    }
    let elsewhere = nearest(name, KEYS.keys().map(|known| known.rsplit('.').next().unwrap_or(known)))?;
    KEYS.keys().find(|known| known.rsplit('.').next() == Some(elsewhere)).cloned()
}

/// The candidate with the fewest edits to `name`, if that is few enough to be a slip: a third of its letters.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = name.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&written, &candidate.to_lowercase()), candidate))
        .filter(|&(edits, candidate)| {
            let letters = candidate.chars().count();
            edits <= letters.div_ceil(3) && edits < letters
        })
        .min_by_key(|&(edits, _)| edits)
        .map(|(_, candidate)| candidate)
}

/// The environment variable that sets a key: `backend.llama-cpp.threads` is `UPCYCLE_BACKEND__LLAMA_CPP__THREADS`.
pub(crate) fn variable(key: &str) -> String {
    format!("UPCYCLE_{}", key.replace('.', "__").replace('-', "_").to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        let mut variables: Vec<String> = KEYS.keys().map(|key| variable(key)).collect();
        variables.sort();
        variables.dedup();
        assert_eq!(variables.len(), KEYS.len());
        assert!(variables.contains(&"UPCYCLE_BACKEND__CANDLE__WEIGHTS".to_owned()));
        assert!(variables.contains(&"UPCYCLE_BACKEND__LLAMA_CPP__THREADS".to_owned()));
    }

    #[test]
    fn every_path_is_a_key() {
        for path in PATHS {
            assert_eq!(KEYS.get(path), Some(&Kind::Text), "{path}");
        }
    }

    #[test]
    fn a_slip_finds_its_key_and_nonsense_finds_none() {
        let near = |key| nearest_key(key);
        assert_eq!(near("backend.candle.weigths").as_deref(), Some("weights"));
        assert_eq!(near("modle").as_deref(), Some("model"));
        assert_eq!(near("decode.Seed").as_deref(), Some("seed"));
        assert_eq!(near("drafter.temperature").as_deref(), Some("decode.temperature"));
        assert_eq!(near("weights").as_deref(), Some("backend.candle.weights"));
        assert_eq!(near("decode.xyzzy"), None);
        assert_eq!(near(""), None);
    }

    #[test]
    fn the_key_names_come_by_table() {
        assert_eq!(names_below(""), ["backend", "decode", "drafter", "log", "model"]);
        assert_eq!(names_below("backend"), ["candle", "cpu", "llama-cpp", "name", "ort"]);
        assert!(is_table("backend.candle") && !is_table("backend.can") && !is_table("log.level"));
    }
}
