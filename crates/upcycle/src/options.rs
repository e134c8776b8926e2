//! Options of backends, drafters and sources: each reads the table of its name into its own type.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// A type of options: a struct with `#[serde(default)]` whose fields are numbers, strings, flags, lists of strings, enums of
/// names, or further structs of these.
///
/// Every type with the derives of this example implements it. [`JsonSchema`] gives the names for error messages, environment
/// variables and the reference page. `range` bounds a number.
///
/// ```
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
/// #[serde(default, deny_unknown_fields)]
/// struct MyOptions {
///     /// Threads of a pass.
///     #[schemars(range(min = 1, max = 1024))]
///     threads: Option<usize>,
/// }
///
/// fn is_options<O: upcycle::Options>() {}
/// is_options::<MyOptions>();
/// ```
pub trait Options: Serialize + DeserializeOwned + Default + JsonSchema + Send + Sync + 'static {}

impl<O: Serialize + DeserializeOwned + Default + JsonSchema + Send + Sync + 'static> Options for O {}

/// For a backend, drafter or source without options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NoOptions {}

/// Checked options of any type.
#[derive(Clone)]
pub struct AnyOptions {
    /// With all defaults.
    table: Table,
    value: Arc<dyn Any + Send + Sync>,
}

impl AnyOptions {
    /// Reads a table. An error is the path of the wrong value within the table, and what is wrong with it.
    pub(crate) fn parse<O: Options>(table: Table) -> Result<Self, (String, String)> {
        let value: O = serde_path_to_error::deserialize(table)
            .map_err(|error| (error.path().to_string(), error.inner().message().to_owned()))?;
        let table = Table::try_from(&value).map_err(|error| (String::new(), error.to_string()))?;
        Ok(Self { table: shortest(table), value: Arc::new(value) })
    }

    /// The options, if they are of this type.
    #[must_use]
    pub fn get<O: Options>(&self) -> Option<&O> {
        self.value.downcast_ref()
    }

    /// The table, with every default written out.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }
}

impl PartialEq for AnyOptions {
    fn eq(&self, other: &Self) -> bool {
        self.table == other.table
    }
}

impl fmt::Debug for AnyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.table.fmt(f)
    }
}

/// A type of options that is known only at run time.
#[derive(Clone, Debug)]
pub(crate) struct OptionsType {
    pub(crate) schema: Schema,
    pub(crate) parse: fn(Table) -> Result<AnyOptions, (String, String)>,
}

impl OptionsType {
    pub(crate) fn new<O: Options>() -> Self {
        Self { schema: schema::<O>(), parse: AnyOptions::parse::<O> }
    }
}

/// The schema of a type, with the schemas of its fields in place.
pub(crate) fn schema<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>()
}

/// Writes each 32-bit float as its shortest decimal: 0.1, not 0.10000000149011612. TOML would write it as a 64-bit float.
pub(crate) fn shortest(table: Table) -> Table {
    fn value(value: Value) -> Value {
        match value {
            Value::Float(number) if f64::from(number as f32) == number => {
                Value::Float((number as f32).to_string().parse().unwrap_or(number))
            }
            Value::Table(table) => Value::Table(shortest(table)),
            other => other,
        }
    }
    table.into_iter().map(|(name, inner)| (name, value(inner))).collect()
}
