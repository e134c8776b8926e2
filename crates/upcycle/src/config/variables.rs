//! `model.template_variables`: what a chat template is told besides the conversation.

use serde_json::{Map, Value as Json};
use toml::{Table, Value};
use upcycle_text::RESERVED;

use super::choices::out_of_range;
use super::error::Problem;

pub(super) const KEY: &str = "model.template_variables";

/// The variables as a template sees them.
pub(super) fn check(table: Table) -> Result<Map<String, Json>, Problem> {
    table
        .into_iter()
        .map(|(name, value)| {
            if RESERVED.contains(&&*name) {
                let expected = format!("other names than {}", RESERVED.join(", "));
                return Err(out_of_range(KEY, &name, &expected));
            }
            Ok((name, json(value)?))
        })
        .collect()
}

/// The variables as they are written. O(values).
pub(super) fn written(variables: Map<String, Json>) -> Option<Table> {
    let table: Table = variables.into_iter().filter_map(|(name, value)| Some((name, toml(value)?))).collect();
    (!table.is_empty()).then_some(table)
}

fn json(value: Value) -> Result<Json, Problem> {
    let refused = |found: String| Problem::WrongType {
        key: KEY.to_owned(),
        expected: "a table of strings, finite numbers, true or false, lists and tables".to_owned(),
        found,
    };
    Ok(match value {
        Value::String(text) => text.into(),
        Value::Integer(number) => number.into(),
        Value::Float(number) => {
            serde_json::Number::from_f64(number).ok_or_else(|| refused(number.to_string()))?.into()
        }
        Value::Boolean(flag) => flag.into(),
        // Templates know no times.
        Value::Datetime(time) => time.to_string().into(),
        Value::Array(entries) => Json::Array(entries.into_iter().map(json).collect::<Result<_, _>>()?),
        Value::Table(table) => Json::Object(
            table
                .into_iter()
                .map(|(name, value)| Ok((name, json(value)?)))
                .collect::<Result<_, Problem>>()?,
        ),
    })
}

/// None for what TOML lacks, which a checked configuration does not hold.
fn toml(value: Json) -> Option<Value> {
    Some(match value {
        Json::Null => return None,
        Json::Bool(flag) => flag.into(),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64()?.into(),
        },
        Json::String(text) => text.into(),
        Json::Array(entries) => Value::Array(entries.into_iter().filter_map(toml).collect()),
        Json::Object(entries) => {
            Value::Table(entries.into_iter().filter_map(|(name, value)| Some((name, toml(value)?))).collect())
        }
    })
}
