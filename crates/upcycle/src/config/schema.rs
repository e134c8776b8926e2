//! The table of all keys, with their types and meanings, from the JSON schemas of the configuration's types.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value as Json;
use toml::Value;

use super::error::Problem;
use super::path::PathRule;
use super::sections::Config;
use crate::options::{OptionsType, schema};
use crate::registry::Registry;
use crate::suggest::{expected, listed, nearest};

/// The type of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    String,
    Integer,
    Number,
    StringList,
    /// A whole number, or a name that stands for one.
    IntegerOrName,
    Boolean,
    /// A free-form table: the user chooses the names of its entries.
    Table,
    /// Any value that its type accepts.
    Any,
}

/// A key: its type, range, default and meaning.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) kind: Kind,
    /// The names that it accepts, with their meanings. If empty, any text is accepted.
    pub(crate) names: Vec<(String, String)>,
    /// The least and the greatest number.
    pub(crate) range: (Option<f64>, Option<f64>),
    pub(crate) path: Option<PathRule>,
    pub(crate) default: Option<Value>,
    pub(crate) doc: String,
}

/// A table whose options belong to a backend, drafter or source.
#[derive(Clone, Debug)]
pub(crate) struct ComponentTable {
    /// `backend`, `drafter` or `drafter.source`.
    pub(crate) section: &'static str,
    pub(crate) name: String,
    /// `None` if it is not compiled in. Its keys are then not known, and its settings are ignored.
    pub(crate) options: Option<OptionsType>,
}

impl ComponentTable {
    /// The key of the table.
    pub(crate) fn key(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }
}

/// Every key.
#[derive(Clone, Debug)]
pub(crate) struct KeyTable {
    pub(crate) keys: BTreeMap<String, Key>,
    pub(crate) component_tables: Vec<ComponentTable>,
}

impl KeyTable {
    pub(crate) fn new(registry: &Registry) -> Self {
        let mut keys = BTreeMap::new();
        collect(schema::<Config>().as_value(), "", &mut keys);
        let mut component_tables = Vec::new();
        for (section, name, options) in registry.tables() {
            if let Some(options) = options {
                collect(options.schema.as_value(), &format!("{section}.{name}"), &mut keys);
            }
            component_tables.push(ComponentTable {
                section,
                name: name.to_owned(),
                options: options.cloned(),
            });
        }
        for (key, names) in registry.names_by_key() {
            if let Some(key) = keys.get_mut(key) {
                key.names = names;
            }
        }
        Self { keys, component_tables }
    }

    /// The key, if it is one.
    pub(crate) fn get(&self, key: &str) -> Option<&Key> {
        self.keys.get(key)
    }

    /// Whether this is a key of a backend, drafter or source that is not compiled in.
    pub(crate) fn is_not_compiled(&self, key: &str) -> bool {
        let mut left_out = self.component_tables.iter().filter(|table| table.options.is_none());
        left_out.any(|table| {
            let rest = key.strip_prefix(&table.key());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// Whether this variable sets a key of a backend, drafter or source that is not compiled in.
    pub(crate) fn is_not_compiled_variable(&self, name: &str) -> bool {
        let mut left_out = self.component_tables.iter().filter(|table| table.options.is_none());
        left_out.any(|table| name.starts_with(&format!("{}__", variable(&table.key()))))
    }

    /// The table and the name of an entry in a free-form table: `model.template_variables.enable_thinking`.
    pub(crate) fn entry<'a>(&self, key: &'a str) -> Option<(&'a str, &'a str)> {
        let (table, name) = key.rsplit_once('.')?;
        (self.get(table)?.kind == Kind::Table && !name.is_empty()).then_some((table, name))
    }

    /// Whether this is a table of other keys.
    pub(crate) fn is_table(&self, key: &str) -> bool {
        self.keys.keys().any(|known| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
    }

    /// The names directly below `prefix`; all sections if it is empty.
    pub(crate) fn names_below(&self, prefix: &str) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .keys
            .keys()
            .filter_map(|key| match prefix {
                "" => Some(key.as_str()),
                prefix => key.strip_prefix(prefix)?.strip_prefix('.'),
            })
            .map(|rest| rest.split('.').next().unwrap_or(rest))
            .collect();
        names.dedup();
        names
    }

    /// A hint for an unknown key.
    pub(crate) fn hint(&self, key: &str) -> String {
        if self.is_table(key) {
            return format!("it is a table: set one of its keys, {}", listed(self.names_below(key)));
        }
        if let Some(near) = self.nearest(key) {
            return format!("did you mean `{near}`?");
        }
        // The nearest table that contains the key and exists.
        let mut table = key;
        while let Some((parent, _)) = table.rsplit_once('.') {
            table = parent;
            if self.is_table(table) {
                return format!("`{table}` has {}", listed(self.names_below(table)));
            }
        }
        format!("the tables are {}", listed(self.names_below("")))
    }

    /// The key that was probably meant: a similar name in the same table, otherwise a similar name in another table.
    fn nearest(&self, key: &str) -> Option<String> {
        let (prefix, name) = key.rsplit_once('.').unwrap_or(("", key));
        if let Some(near) = nearest(name, self.names_below(prefix)) {
            return Some(near.to_owned());
        }
        let last = |known: &'_ str| known.rsplit('.').next().unwrap_or_default().to_owned();
        let all: Vec<String> = self.keys.keys().map(|known| last(known)).collect();
        let near = nearest(name, all.iter().map(String::as_str))?;
        self.keys.keys().find(|known| last(known) == near).cloned()
    }

    /// Checks a value against the range, names and path rule of its key.
    pub(crate) fn check(&self, name: &str, value: &Value) -> Result<(), Problem> {
        let Some(key) = self.get(name) else { return Ok(()) };
        let number = match value {
            Value::Integer(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        };
        if let Some(number) = number
            && !(number >= key.range.0.unwrap_or(f64::MIN) && number <= key.range.1.unwrap_or(f64::MAX))
        {
            return Err(Problem::out_of_range(name, value, &key.range_text()));
        }
        let texts: Vec<&str> = match value {
            Value::String(text) => vec![text],
            Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        for text in texts {
            if !key.names.is_empty() && !key.names.iter().any(|(name, _)| name == text) {
                let mut hint = match key.kind {
                    Kind::IntegerOrName => key.range_text(),
                    _ => expected(text, key.names.iter().map(|(name, _)| name.as_str())),
                };
                if let Some(register) = Registry::how_to_register(name) {
                    hint = format!("{hint}; a program adds its own with `{register}`");
                }
                return Err(Problem::UnknownName { key: name.to_owned(), found: text.to_owned(), hint });
            }
            if let Some(rule) = key.path {
                rule.check(name, text)?;
            }
        }
        Ok(())
    }
}

/// The environment variable that sets a key: `backend.llama-cpp.threads` is `UPCYCLE_BACKEND__LLAMA_CPP__THREADS`.
pub(crate) fn variable(key: &str) -> String {
    format!("UPCYCLE_{}", key.replace('.', "__").replace('-', "_").to_uppercase())
}

impl Key {
    fn read(schema: &Json) -> Self {
        let (mut names, mut whole) = (Vec::new(), None);
        branches(schema, &mut |branch| {
            let doc = text(branch, "description");
            let values = branch.get("enum").and_then(Json::as_array).into_iter().flatten();
            let values = branch.get("const").into_iter().chain(values).filter_map(Json::as_str);
            names.extend(values.map(|name| (name.to_owned(), doc.clone())));
            if type_of(branch) == Some("integer") {
                whole = Some(branch);
            }
        });
        if let Some(items) = schema.get("items") {
            names = Self::read(items).names;
        }
        let kind = match (type_of(schema), whole, names.is_empty()) {
            (Some("integer"), ..) => Kind::Integer,
            (Some("number"), ..) => Kind::Number,
            (Some("boolean"), ..) => Kind::Boolean,
            (Some("array"), ..) => Kind::StringList,
            (Some("object"), ..) => Kind::Table,
            (_, Some(_), _) => Kind::IntegerOrName,
            (Some("string"), ..) | (None, None, false) => Kind::String,
            _ => Kind::Any,
        };
        let number =
            |name| whole.unwrap_or(schema).get(name).or_else(|| schema.get(name)).and_then(Json::as_f64);
        Self {
            kind,
            names,
            range: (number("minimum"), number("maximum")),
            path: schema.get("path").and_then(Json::as_str).and_then(PathRule::parse),
            default: schema.get("default").and_then(|value| Value::try_from(value).ok()),
            doc: text(schema, "description"),
        }
    }

    /// The numbers and names that it accepts, in words.
    pub(crate) fn range_text(&self) -> String {
        let numbers = match self.range {
            (Some(least), Some(most)) => format!("{least} to {most}"),
            (Some(least), None) => format!("a whole number from {least}"),
            (None, Some(most)) => format!("at most {most}"),
            (None, None) => "a number".to_owned(),
        };
        match self.kind {
            Kind::IntegerOrName => {
                let names: Vec<String> = self.names.iter().map(|(name, _)| format!("`{name}`")).collect();
                format!("{}, or {numbers}", names.join(", "))
            }
            _ => numbers,
        }
    }

    /// Converts a value to this kind; a whole number is a number too.
    pub(crate) fn fit(&self, value: Value) -> Result<Value, Value> {
        let fits = match (self.kind, &value) {
            (Kind::Number, &Value::Integer(number)) => return Ok(Value::Float(number as f64)),
            (Kind::Integer | Kind::IntegerOrName, Value::Integer(number)) => *number >= 0,
            (Kind::StringList, Value::Array(entries)) => entries.iter().all(Value::is_str),
            // `check` compares the names and ranges.
            (Kind::String | Kind::IntegerOrName, Value::String(_))
            | (Kind::Number, Value::Float(_))
            | (Kind::Boolean, Value::Boolean(_))
            | (Kind::Table, Value::Table(_))
            | (Kind::Any, _) => true,
            _ => false,
        };
        if fits { Ok(value) } else { Err(value) }
    }
}

impl fmt::Display for Key {
    /// The type, as messages and the reference page name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::String => f.write_str("a string"),
            Kind::Integer => f.write_str("a whole number, 0 or more"),
            Kind::Number => f.write_str("a number"),
            Kind::StringList => f.write_str("a list of strings"),
            Kind::Boolean => f.write_str("true or false"),
            Kind::Table => f.write_str("a table, such as { enable_thinking = false }"),
            Kind::IntegerOrName => {
                let names: Vec<String> = self.names.iter().map(|(name, _)| format!("{name:?}")).collect();
                write!(f, "a whole number, 0 or more, or {}", names.join(", "))
            }
            Kind::Any => f.write_str("a value"),
        }
    }
}

fn collect(schema: &Json, prefix: &str, keys: &mut BTreeMap<String, Key>) {
    let fields = |schema: &Json| schema.get("properties").and_then(Json::as_object).cloned();
    // `Option<Struct>` is a struct or null.
    let optional = schema.get("anyOf").and_then(Json::as_array);
    let fields = fields(schema).or_else(|| optional?.iter().find_map(fields));
    match fields {
        Some(fields) => {
            for (name, field) in &fields {
                let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                collect(field, &key, keys);
            }
        }
        // A type without fields has no keys.
        None if text(schema, "type") == "object"
            && schema.get("additionalProperties") == Some(&Json::Bool(false)) => {}
        None => drop(keys.insert(prefix.to_owned(), Key::read(schema))),
    }
}

/// Visits a schema and its alternatives.
fn branches<'a>(schema: &'a Json, visit: &mut dyn FnMut(&'a Json)) {
    visit(schema);
    for name in ["oneOf", "anyOf"] {
        for branch in schema.get(name).and_then(Json::as_array).into_iter().flatten() {
            branches(branch, visit);
        }
    }
}

/// The type of a schema; `Option` adds null, which does not count.
fn type_of(schema: &Json) -> Option<&str> {
    match schema.get("type")? {
        Json::String(name) => Some(name),
        Json::Array(names) => names.iter().filter_map(Json::as_str).find(|name| *name != "null"),
        _ => None,
    }
}

/// A text of a schema, in one line.
fn text(schema: &Json, name: &str) -> String {
    schema
        .get(name)
        .and_then(Json::as_str)
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
