//! The layers of a configuration: flags over environment over file over defaults.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Table, Value};

use super::error::{ConfigError, Origin, Problem};
use super::keys::{self, KEYS, Kind, PATHS};
use super::{Config, Preset, Raw, Tree, choices};
use crate::hub::is_on_hub;

/// Variables of the environment that begin like keys but are none: the scripts and the tests read them.
const OTHER_VARIABLES: [&str; 3] = ["UPCYCLE_KERNELS", "UPCYCLE_MODELS", "UPCYCLE_TEST_MODEL"];

/// Collects settings with their origins, then checks them once.
///
/// Precedence, whatever the order of the calls: flags, then `UPCYCLE_*` environment variables, then the file, then
/// defaults. A preset counts as all the keys that it fixes: it overrules them where they stand in a weaker layer and
/// refuses other values beside it or above it. A stronger layer's other `drafter.name` sets the preset aside.
///
/// ```
/// use upcycle::Layers;
///
/// let mut layers = Layers::new();
/// layers.variables([("UPCYCLE_DECODE__SEED".into(), "7".into())])?;
/// layers.assignment("--set", "decode.temperature=0.8")?;
/// let config = layers.load(&["cpu"])?;
/// assert_eq!(config.decode().sampling.config().seed, 7);
///
/// let error = layers.assignment("--set", "decode.sed=1").unwrap_err();
/// assert_eq!(error.to_string(), "--set decode.sed=1: unknown key `decode.sed`; did you mean `seed`?");
/// # Ok::<(), upcycle::ConfigError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Layers {
    file: Layer,
    variables: Layer,
    flags: Layer,
}

type Layer = BTreeMap<&'static str, Setting>;

#[derive(Clone, Debug)]
struct Setting {
    value: Value,
    origin: Origin,
}

impl Layers {
    /// Nothing but the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file. Relative paths in it are relative to the file's folder.
    ///
    /// # Errors
    /// [`ConfigError`] with line and column: not readable, not TOML, an unknown key or a value of the wrong type. The
    /// layers are then as they were.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = fs::read_to_string(path).map_err(|error| {
            ConfigError::new(Origin::WholeFile(path.to_owned()), Problem::Unreadable(error))
        })?;
        self.text(path, &text)
    }

    /// As [`file`](Self::file), with the file's text at hand; `path` is for messages and relative paths.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn text(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let source = Source { path, text };
        let table = DeTable::parse(text).map_err(|error| {
            let origin = source.origin(error.span().map_or(0, |span| span.start));
            ConfigError::new(origin, Problem::Syntax { message: error.message().to_owned() })
        })?;
        let mut layer = Layer::new();
        source.walk("", table.get_ref(), &mut layer)?;
        self.file = layer;
        Ok(())
    }

    /// Takes the `UPCYCLE_*` variables of an environment, such as [`std::env::vars_os`]; two underscores stand
    /// between levels: `UPCYCLE_BACKEND__CPU__WEIGHTS`. A value is read as TOML, else as a string. Relative paths
    /// are relative to the working directory.
    ///
    /// # Errors
    /// [`ConfigError`] for a variable that no key has (but for `UPCYCLE_KERNELS`, `UPCYCLE_MODELS` and `UPCYCLE_TEST_MODEL`, which are
    /// no keys) or a value of the wrong type.
    pub fn variables(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigError> {
        let mut layer = Layer::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with("UPCYCLE_")) else { continue };
            if OTHER_VARIABLES.contains(&name) {
                continue;
            }
            let origin = Origin::Variable(name.to_owned());
            let Some(key) = KEYS.keys().find(|key| keys::variable(key) == name) else {
                return Err(ConfigError::new(origin, Problem::UnknownVariable { hint: variable_hint(name) }));
            };
            let Some(text) = value.to_str() else {
                return Err(ConfigError::new(origin, Problem::NotUnicode { key: key.clone() }));
            };
            insert_text(&mut layer, key, text, Quoting::Toml, origin)?;
        }
        self.variables = layer;
        Ok(())
    }

    /// Sets a key as a flag of its own does: a string is taken as it stands, the rest is read as TOML. `flag` is for
    /// messages. The last one of several counts. Relative paths are relative to the working directory.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown key or a value of the wrong type.
    pub fn flag(&mut self, flag: &str, key: &str, value: &str) -> Result<(), ConfigError> {
        insert_text(&mut self.flags, key, value, Quoting::None, Origin::Flag(flag.to_owned()))
    }

    /// As [`flag`](Self::flag), from `KEY=VALUE`; the value is read as TOML, else as a string.
    ///
    /// # Errors
    /// As [`flag`](Self::flag), or if there is no `=`.
    pub fn assignment(&mut self, flag: &str, assignment: &str) -> Result<(), ConfigError> {
        let flag = format!("{flag} {assignment}");
        match assignment.split_once('=') {
            Some((key, value)) => {
                let origin = Origin::Flag(flag);
                insert_text(&mut self.flags, key.trim(), value.trim(), Quoting::Toml, origin)
            }
            None => Err(ConfigError::new(Origin::Flag(flag), Problem::NotAnAssignment)),
        }
    }

    /// Merges the layers and checks what comes out. `backends` are the names that `backend.name` may have: those of
    /// a [`Registry`](crate::Registry).
    ///
    /// # Errors
    /// [`ConfigError`], with the origin of the setting at fault.
    pub fn load(&self, backends: &[&str]) -> Result<Config, ConfigError> {
        let merged = self.merge();
        let origin = |key: &str| merged.get(key).map_or(Origin::Program, |setting| setting.origin.clone());
        let mut table = Table::new();
        for (key, setting) in &merged {
            let value = match setting.value {
                Value::Table(_) => Value::Table(self.entries(key)),
                _ => setting.value.clone(),
            };
            put(&mut table, key, value);
        }
        let raw = Raw::deserialize(table).map_err(|error| Problem::Syntax { message: error.to_string() })?;
        let config = Config::try_from(raw).map_err(|error| ConfigError {
            origin: error.problem.key().map_or(Origin::Program, origin),
            problem: error.problem,
        })?;
        if let Err(problem) = choices::one_of("backend.name", config.backend().name.as_str(), backends) {
            return Err(ConfigError::new(origin("backend.name"), problem));
        }
        Ok(config)
    }

    /// What the layers have in one of the keys that are tables of the user's own: a stronger layer's entry replaces a weaker
    /// one's of the same name.
    fn entries(&self, key: &str) -> Table {
        let layers = [&self.file, &self.variables, &self.flags];
        let tables = layers.iter().filter_map(|layer| layer.get(key)?.value.as_table());
        tables.flat_map(Table::clone).collect()
    }

    fn merge(&self) -> BTreeMap<&'static str, &Setting> {
        let layers = [&self.file, &self.variables, &self.flags];
        let mut merged: BTreeMap<&'static str, (usize, &Setting)> = BTreeMap::new();
        for (rank, layer) in layers.into_iter().enumerate() {
            merged.extend(layer.iter().map(|(&key, setting)| (key, (rank, setting))));
        }
        if let Some(&(preset_rank, _)) = merged.get("drafter.preset") {
            merged.retain(|key, (rank, _)| *rank >= preset_rank || !Preset::fixes(key));
            let other = merged.get("drafter.name").is_some_and(|(rank, name)| {
                *rank > preset_rank && name.value.as_str() != Some(Preset::DRAFTER)
            });
            if other {
                merged.remove("drafter.preset");
            }
        }
        merged.into_iter().map(|(key, (_, setting))| (key, setting)).collect()
    }
}

/// A file being read.
#[derive(Clone, Copy)]
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn origin(self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File {
            path: self.path.to_owned(),
            line: 1 + before.matches('\n').count(),
            column: 1 + before[line_start..].chars().count(),
        }
    }

    fn walk(self, prefix: &str, table: &DeTable<'_>, layer: &mut Layer) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = keys::join(prefix, name.get_ref());
            if keys::is_table(&key) {
                match value.get_ref() {
                    DeValue::Table(inner) => self.walk(&key, inner, layer)?,
                    _ => {
                        let expected = format!("a table with {}", listed(&keys::names_below(&key)));
                        let found = self.text.get(value.span()).unwrap_or_default().to_owned();
                        let problem = Problem::WrongType { key, expected, found };
                        return Err(ConfigError::new(self.origin(value.span().start), problem));
                    }
                }
                continue;
            }
            let (key, kind) = known(&key, &self.origin(name.span().start))?;
            let origin = self.origin(value.span().start);
            let written = self.text.get(value.span()).unwrap_or_default();
            let value = match value.get_ref() {
                DeValue::Table(_) if kind == Kind::Table => {
                    Value::deserialize(ValueDeserializer::from(value.clone())).map_err(|error| {
                        let problem = Problem::Syntax { message: error.message().to_owned() };
                        ConfigError::new(origin.clone(), problem)
                    })?
                }
                DeValue::Table(_) => Value::Table(Table::new()),
                // The whole file has been parsed, so its part is TOML too.
                _ => written.parse().unwrap_or_else(|_| Value::String(written.to_owned())),
            };
            let mut value = kind.fit(value).map_err(|found| wrong_type(key, kind, &found, &origin))?;
            if PATHS.contains(&key)
                && let Value::String(path) = &mut value
                && !(key == "drafter.tree" && Tree::is_name(path))
                && !(key == "model.path" && is_on_hub(Path::new(path)))
            {
                *path = self.path.parent().unwrap_or(Path::new("")).join(&*path).display().to_string();
            }
            layer.insert(key, Setting { value, origin });
        }
        Ok(())
    }
}

/// The key as the table of keys has it.
fn known(key: &str, origin: &Origin) -> Result<(&'static str, Kind), ConfigError> {
    match KEYS.get_key_value(key) {
        Some((key, &kind)) => Ok((key, kind)),
        None => {
            let hint = key_hint(key);
            Err(ConfigError::new(origin.clone(), Problem::UnknownKey { key: key.to_owned(), hint }))
        }
    }
}

/// The key and the name of an entry in one of the tables of the user's own: `model.template_variables.enable_thinking`.
fn entry(key: &str) -> Option<(&'static str, &str)> {
    let (table, name) = key.rsplit_once('.')?;
    let (table, kind) = KEYS.get_key_value(table)?;
    (*kind == Kind::Table && !name.is_empty()).then_some((table.as_str(), name))
}

/// Whether quotes around a string are part of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoting {
    Toml,
    None,
}

fn insert_text(
    layer: &mut Layer,
    key: &str,
    text: &str,
    quoting: Quoting,
    origin: Origin,
) -> Result<(), ConfigError> {
    let verbatim = || Value::String(text.to_owned());
    if let Some((table, name)) = entry(key) {
        let value = match quoting {
            Quoting::Toml => text.parse().unwrap_or_else(|_| verbatim()),
            Quoting::None => verbatim(),
        };
        let setting = layer
            .entry(table)
            .or_insert_with(|| Setting { value: Value::Table(Table::new()), origin: origin.clone() });
        if let Value::Table(entries) = &mut setting.value {
            entries.insert(name.to_owned(), value);
        }
        setting.origin = origin;
        return Ok(());
    }
    let (key, kind) = known(key, &origin)?;
    let parsed = match (kind, quoting) {
        (Kind::Text, Quoting::None) => verbatim(),
        _ => text.parse().unwrap_or_else(|_| verbatim()),
    };
    let value = match kind.fit(parsed) {
        Ok(value) => value,
        // A string need not be quoted here, not even one that looks like a number.
        Err(_) if kind == Kind::Text => verbatim(),
        Err(found) => return Err(wrong_type(key, kind, &found, &origin)),
    };
    layer.insert(key, Setting { value, origin });
    Ok(())
}

fn wrong_type(key: &str, kind: Kind, found: &Value, origin: &Origin) -> ConfigError {
    let found = match found {
        Value::Table(_) => "a table".to_owned(),
        found => found.to_string(),
    };
    let problem = Problem::WrongType { key: key.to_owned(), expected: kind.to_string(), found };
    ConfigError::new(origin.clone(), problem)
}

fn key_hint(key: &str) -> String {
    if keys::is_table(key) {
        return format!("it is a table: set one of its keys, {}", listed(&keys::names_below(key)));
    }
    if let Some(near) = keys::nearest_key(key) {
        return format!("did you mean `{near}`?");
    }
    // The deepest table above that exists.
    let mut above = key;
    loop {
        above = above.rsplit_once('.').map_or("", |(above, _)| above);
        if above.is_empty() {
            return format!("the tables are {}", listed(&keys::names_below("")));
        }
        if keys::is_table(above) {
            return format!("`{above}` has {}", listed(&keys::names_below(above)));
        }
    }
}

fn variable_hint(name: &str) -> String {
    let variables: Vec<String> = KEYS.keys().map(|key| keys::variable(key)).collect();
    match keys::nearest(name, variables.iter().map(String::as_str)) {
        Some(near) => format!("did you mean {near}?"),
        None => "variables are UPCYCLE_ and a key, with two underscores between levels, \
                 such as UPCYCLE_BACKEND__CPU__WEIGHTS"
            .to_owned(),
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Puts a value at a dotted key. All keys come from one table, so none is above another.
fn put(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((name, rest)) => {
            let inner = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}
