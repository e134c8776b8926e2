//! The layers of a configuration: flags over environment over file over defaults.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use toml::de::{DeTable, DeValue, ValueDeserializer};
use toml::{Table, Value};

use super::drafter::Preset;
use super::error::{ConfigError, ConfigWarning, Origin, Problem};
use super::schema::{Key, KeyTable, Kind, variable};
use super::sections::Config;
use super::service;
use crate::options::AnyOptions;
use crate::registry::Registry;
use crate::suggest::{listed, nearest};
use crate::text_file;

/// The beginning of the names of variables.
const PREFIX: &str = "UPCYCLE_";

/// Beginnings of variables that are not keys: scripts and tests read them.
const OTHER_VARIABLES: [&str; 5] =
    ["UPCYCLE_KERNELS", "UPCYCLE_MODELS", "UPCYCLE_TEST_", "UPCYCLE_ORT", "UPCYCLE_FUZZ_TARGET"];

/// Collects settings with their origins, then checks them once.
///
/// The layers, from the strongest to the weakest, are flags, `UPCYCLE_*` environment variables, the file and defaults. The order
/// of the calls does not matter.
///
/// A preset sets several keys. It overrides their values in weaker layers. Other values in the same layer or a stronger one are
/// an error. But if a stronger layer sets `drafter.name` to another drafter, the preset is ignored.
///
/// ```
/// use upcycle::{ConfigBuilder, Registry};
///
/// let mut builder = ConfigBuilder::new(&Registry::builtin());
/// builder.variables([("UPCYCLE_DECODE__SEED".into(), "7".into())])?;
/// builder.assignment("--set", "decode.temperature=0.8")?;
/// let config = builder.build()?;
/// assert_eq!(config.decode().sampling.config().seed, 7);
///
/// let error = builder.assignment("--set", "decode.sed=1").unwrap_err();
/// assert_eq!(error.to_string(), "--set decode.sed=1: unknown key `decode.sed`; did you mean `seed`?");
/// # Ok::<(), upcycle::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ConfigBuilder {
    keys: Arc<KeyTable>,
    file: Layer,
    variables: Layer,
    flags: Layer,
    warnings: Vec<ConfigWarning>,
}

type Layer = BTreeMap<String, Setting>;

#[derive(Clone, Debug)]
struct Setting {
    value: Value,
    origin: Origin,
}

impl ConfigBuilder {
    /// A builder with only the defaults, and the backends, drafters and sources of `registry`.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let keys = Arc::new(KeyTable::new(registry));
        Self { keys, file: Layer::new(), variables: Layer::new(), flags: Layer::new(), warnings: Vec::new() }
    }

    /// Reads a file of UTF-8, or of UTF-16 with a byte order mark. Relative paths in it are relative to the file's folder.
    ///
    /// # Errors
    /// [`ConfigError`] with line and column: not readable, not TOML, an unknown key or a value of the wrong type. The
    /// builder is then unchanged.
    pub fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let read = fs::read(path).and_then(|bytes| {
            String::from_utf8(text_file::utf8(bytes))
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        });
        let text = read.map_err(|error| {
            ConfigError::new(Origin::WholeFile(path.to_owned()), Problem::Unreadable(error))
        })?;
        self.text(path, &text)
    }

    /// As [`file`](Self::file), from the file's text. `path` is used for messages and relative paths.
    ///
    /// # Errors
    /// As [`file`](Self::file).
    pub fn text(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let file = ConfigFile { keys: &self.keys, path, text };
        let table = DeTable::parse(text).map_err(|error| {
            let origin = file.origin(error.span().map_or(0, |span| span.start));
            ConfigError::new(origin, Problem::Syntax { message: error.message().to_owned() })
        })?;
        let mut layer = Layer::new();
        file.read("", table.get_ref(), &mut layer)?;
        self.file = layer;
        Ok(())
    }

    /// Reads the `UPCYCLE_*` variables of an environment, such as [`std::env::vars_os`]. Two underscores separate levels:
    /// `UPCYCLE_BACKEND__CPU__WEIGHTS`. A value is read as TOML, or as a string if it is not TOML. Relative paths are relative
    /// to the working directory.
    ///
    /// An empty variable counts as unset. A variable that belongs to no key is ignored with a [warning](Self::warnings), since
    /// other programs may have set it. `UPCYCLE_KERNELS`, `UPCYCLE_MODELS` and `UPCYCLE_TEST_*` are ignored without one, and so
    /// are the variables that Kubernetes sets for a service whose name begins with `upcycle`.
    ///
    /// # Errors
    /// [`ConfigError`] for a value of the wrong type.
    pub fn variables(
        &mut self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(), ConfigError> {
        let (mut layer, mut warnings) = (Layer::new(), Vec::new());
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            let text = value.to_str();
            if text.is_some_and(|text| text.trim().is_empty())
                || OTHER_VARIABLES.iter().any(|other| name.starts_with(other))
                || self.keys.is_not_compiled_variable(name)
            {
                continue;
            }
            let Some(key) = self.keys.key_for_variable(name) else {
                if !service::is_variable(name, text.unwrap_or_default()) {
                    warnings.push(self.keys.unknown_variable(name));
                }
                continue;
            };
            let origin = Origin::Variable(name.to_owned());
            let Some(text) = text else {
                return Err(ConfigError::new(origin, Problem::NotUnicode { key: key.to_owned() }));
            };
            self.keys.insert(&mut layer, key, text, Quoting::Toml, origin)?;
        }
        // The order of an environment means nothing.
        warnings.sort_by(|a, b| a.variable.cmp(&b.variable));
        (self.variables, self.warnings) = (layer, warnings);
        Ok(())
    }

    /// What was ignored, for the log.
    #[must_use]
    pub fn warnings(&self) -> &[ConfigWarning] {
        &self.warnings
    }

    /// Sets a key from the flag `flag`, which messages name. A string is used verbatim; other values are read as TOML. The last
    /// call for a key counts. Relative paths are relative to the working directory.
    ///
    /// # Errors
    /// [`ConfigError`] for an unknown key or a value of the wrong type.
    pub fn flag(&mut self, flag: &str, key: &str, value: &str) -> Result<(), ConfigError> {
        self.keys.insert(&mut self.flags, key, value, Quoting::None, Origin::Flag(flag.to_owned()))
    }

    /// As [`flag`](Self::flag), for a key that takes a list of strings.
    ///
    /// # Errors
    /// As [`flag`](Self::flag).
    pub fn flag_texts(&mut self, flag: &str, key: &str, values: &[String]) -> Result<(), ConfigError> {
        let origin = Origin::Flag(flag.to_owned());
        let known = self.keys.known(key, &origin)?;
        let value = fit(key, known, values.to_vec().into(), &origin)?;
        self.flags.insert(key.to_owned(), Setting { value, origin });
        Ok(())
    }

    /// As [`flag`](Self::flag), from `KEY=VALUE`. The value is read as TOML, or as a string if it is not TOML.
    ///
    /// # Errors
    /// As [`flag`](Self::flag), or if there is no `=`.
    pub fn assignment(&mut self, flag: &str, assignment: &str) -> Result<(), ConfigError> {
        let origin = Origin::Flag(format!("{flag} {assignment}"));
        match assignment.split_once('=') {
            Some((key, value)) => {
                self.keys.insert(&mut self.flags, key.trim(), value.trim(), Quoting::Toml, origin)
            }
            None => Err(ConfigError::new(origin, Problem::NotAnAssignment)),
        }
    }

    /// Merges the layers and checks the result.
    ///
    /// # Errors
    /// [`ConfigError`], with the origin of the setting at fault.
    pub fn build(&self) -> Result<Config, ConfigError> {
        let merged = self.merge()?;
        let at = |problem: Problem| {
            // An error within a free-form table or a list is reported where its key is set.
            let setting = problem.key().and_then(|key| {
                std::iter::successors(Some(key), |key| key.rsplit_once('.').map(|(parent, _)| parent))
                    .find_map(|key| merged.get(key))
            });
            let origin = setting.map_or(Origin::Default, |setting| setting.origin.clone());
            ConfigError::new(origin, problem)
        };
        let mut table = Table::new();
        for (key, setting) in &merged {
            self.keys.check(key, &setting.value).map_err(at)?;
            put(&mut table, key, setting.value.clone());
        }
        self.read(table).map_err(at)
    }

    /// Reads the merged settings. The tables of backends, drafters and sources are read by their own types, the rest as a
    /// [`Config`].
    fn read(&self, mut table: Table) -> Result<Config, Problem> {
        let mut options: Vec<(&str, &str, AnyOptions)> = Vec::new();
        for owned in &self.keys.component_tables {
            let Some(kind) = &owned.options else { continue };
            let prefix = owned.key();
            let parsed = (kind.parse)(take(&mut table, &prefix)).map_err(|(path, message)| {
                let path = path.split('[').next().unwrap_or_default();
                let key = if path == "." || path.is_empty() { prefix } else { format!("{prefix}.{path}") };
                Problem::Invalid { key, message }
            })?;
            options.push((owned.section, &owned.name, parsed));
        }
        take(&mut table, "drafter.source");
        let mut config: Config = serde_path_to_error::deserialize(table).map_err(|error| {
            Problem::Invalid { key: error.path().to_string(), message: error.inner().message().to_owned() }
        })?;
        for (section, name, options) in options {
            let tables = match section {
                "backend" => &mut config.backend.options,
                "drafter" => &mut config.drafter.options,
                _ => &mut config.drafter.sources,
            };
            tables.insert(name.to_owned(), options);
        }
        config.check()?;
        Ok(config)
    }

    /// The merged settings. In a free-form table, an entry of a stronger layer replaces the entry of the same name in a weaker
    /// one.
    fn merge(&self) -> Result<Layer, ConfigError> {
        let mut merged: BTreeMap<&str, (usize, Setting)> = BTreeMap::new();
        for (rank, layer) in [&self.file, &self.variables, &self.flags].into_iter().enumerate() {
            for (key, setting) in layer {
                let mut setting = setting.clone();
                if let Value::Table(entries) = &mut setting.value
                    && let Some((_, Setting { value: Value::Table(weaker), .. })) = merged.get(key.as_str())
                {
                    let stronger = std::mem::replace(entries, weaker.clone());
                    entries.extend(stronger);
                }
                merged.insert(key, (rank, setting));
            }
        }
        if let Some((preset_rank, preset)) = merged.get("drafter.preset").cloned() {
            let other = merged.get("drafter.name").is_some_and(|(rank, name)| {
                *rank > preset_rank && name.value.as_str() != Some(Preset::DRAFTER)
            });
            if other {
                merged.remove("drafter.preset");
                merged.retain(|key, (rank, _)| {
                    *rank >= preset_rank || Preset::values().iter().all(|(fixed, _)| fixed != key)
                });
            } else if preset.value.as_str() == Some(Preset::Paper.name()) {
                for (key, value) in Preset::values() {
                    if let Some((rank, written)) = merged.get(key)
                        && *rank >= preset_rank
                        && written.value != value
                    {
                        let (key, found) = (key.to_owned(), written.value.to_string());
                        let problem =
                            Problem::FixedByPreset { key, found, preset: "paper", fixed: value.to_string() };
                        return Err(ConfigError::new(written.origin.clone(), problem));
                    }
                    merged.insert(key, (preset_rank, Setting { value, origin: preset.origin.clone() }));
                }
            }
        }
        Ok(merged.into_iter().map(|(key, (_, setting))| (key.to_owned(), setting)).collect())
    }
}

/// A file being read.
#[derive(Clone, Copy)]
struct ConfigFile<'a> {
    keys: &'a KeyTable,
    path: &'a Path,
    text: &'a str,
}

impl ConfigFile<'_> {
    fn origin(self, offset: usize) -> Origin {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Origin::File {
            path: self.path.to_owned(),
            line: 1 + before.matches('\n').count(),
            column: 1 + before[line_start..].chars().count(),
        }
    }

    fn read(self, prefix: &str, table: &DeTable<'_>, layer: &mut Layer) -> Result<(), ConfigError> {
        for (name, value) in table {
            let name_origin = self.origin(name.span().start);
            let key = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            if self.keys.is_not_compiled(&key) {
                continue;
            }
            let origin = self.origin(value.span().start);
            let written = self.text.get(value.span()).unwrap_or_default();
            if self.keys.is_table(&key) {
                let DeValue::Table(inner) = value.get_ref() else {
                    let expected = format!("a table with {}", listed(self.keys.names_below(&key)));
                    let problem = Problem::WrongType { key, expected, found: written.to_owned() };
                    return Err(ConfigError::new(origin, problem));
                };
                self.read(&key, inner, layer)?;
                continue;
            }
            let known = self.keys.known(&key, &name_origin)?;
            let value = Value::deserialize(ValueDeserializer::from(value.clone())).map_err(|error| {
                ConfigError::new(origin.clone(), Problem::Syntax { message: error.message().to_owned() })
            })?;
            let mut value = fit(&key, known, value, &origin)?;
            if let (Some(rule), Value::String(path)) = (known.path, &mut value) {
                *path = rule.resolve(self.path.parent().unwrap_or(Path::new("")), path);
            }
            layer.insert(key, Setting { value, origin });
        }
        Ok(())
    }
}

/// Whether quotes around a string belong to it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quoting {
    Toml,
    None,
}

impl KeyTable {
    /// The key that a variable sets.
    fn key_for_variable<'a>(&'a self, name: &str) -> Option<&'a str> {
        self.keys.keys().map(String::as_str).find(|key| variable(key) == name)
    }

    /// The warning for a variable that belongs to no key.
    fn unknown_variable(&self, name: &str) -> ConfigWarning {
        let all: Vec<String> = self.keys.keys().map(|key| variable(key)).collect();
        let hint = match nearest(name, all.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None => "a variable is UPCYCLE_ and a key, with two underscores between levels, such as \
                     UPCYCLE_BACKEND__CPU__WEIGHTS"
                .to_owned(),
        };
        ConfigWarning { variable: name.to_owned(), hint }
    }

    fn known(&self, key: &str, origin: &Origin) -> Result<&Key, ConfigError> {
        self.get(key).ok_or_else(|| {
            let problem = Problem::UnknownKey { key: key.to_owned(), hint: self.hint(key) };
            ConfigError::new(origin.clone(), problem)
        })
    }

    /// Parses the text of a value and adds it to a layer.
    fn insert(
        &self,
        layer: &mut Layer,
        key: &str,
        text: &str,
        quoting: Quoting,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        if self.is_not_compiled(key) {
            return Ok(());
        }
        let verbatim = || Value::String(text.to_owned());
        let parsed = |kind| match (kind, quoting) {
            (Kind::String, Quoting::None) => verbatim(),
            _ => text.parse().unwrap_or_else(|_| verbatim()),
        };
        if let Some((table, name)) = self.entry(key) {
            let value = fit(
                table,
                self.known(table, &origin)?,
                Value::Table(Table::from_iter([(name.to_owned(), parsed(Kind::Any))])),
                &origin,
            )?;
            let empty = || Setting { value: Value::Table(Table::new()), origin: origin.clone() };
            let setting = layer.entry(table.to_owned()).or_insert_with(empty);
            if let (Value::Table(entries), Value::Table(entry)) = (&mut setting.value, value) {
                entries.extend(entry);
            }
            setting.origin = origin;
            return Ok(());
        }
        let known = self.known(key, &origin)?;
        let value = match parsed(known.kind) {
            // A string needs no quotes here, even if it looks like a number.
            value if known.kind == Kind::String && !value.is_str() => verbatim(),
            value => fit(key, known, value, &origin)?,
        };
        layer.insert(key.to_owned(), Setting { value, origin });
        Ok(())
    }
}

/// Converts a value to the kind of its key.
fn fit(name: &str, key: &Key, value: Value, origin: &Origin) -> Result<Value, ConfigError> {
    let refused = |expected: String, found: &Value| {
        let found = match found {
            Value::Table(_) => "a table".to_owned(),
            found => found.to_string(),
        };
        ConfigError::new(origin.clone(), Problem::WrongType { key: name.to_owned(), expected, found })
    };
    match key.fit(value) {
        Ok(value) if key.kind == Kind::Table => plain(value).map_err(|found| {
            refused("a table of strings, finite numbers, true or false, lists and tables".to_owned(), &found)
        }),
        Ok(value) => Ok(value),
        Err(found) => Err(refused(key.to_string(), &found)),
    }
}

/// A value as JSON can hold it: times become strings, and a number that is not finite is an error.
fn plain(value: Value) -> Result<Value, Value> {
    Ok(match value {
        Value::Datetime(time) => Value::String(time.to_string()),
        Value::Float(number) if !number.is_finite() => return Err(value),
        Value::Array(values) => Value::Array(values.into_iter().map(plain).collect::<Result<_, _>>()?),
        Value::Table(entries) => Value::Table(
            entries
                .into_iter()
                .map(|(name, value)| Ok((name, plain(value)?)))
                .collect::<Result<_, Value>>()?,
        ),
        value => value,
    })
}

/// Puts a value at a dotted key. The key must not be a table of other keys.
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

/// Removes and returns the table at a dotted key; an empty one if there is none.
fn take(table: &mut Table, key: &str) -> Table {
    match key.split_once('.') {
        Some((name, rest)) => match table.get_mut(name) {
            Some(Value::Table(inner)) => take(inner, rest),
            _ => Table::new(),
        },
        None => match table.remove(key) {
            Some(Value::Table(inner)) => inner,
            _ => Table::new(),
        },
    }
}
