//! Filters, tests and functions of Jinja that minijinja lacks, or has with other arguments or results.

use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, escape_formatter};

use crate::arguments::{Arguments, wrong};
use crate::namespaces;
use crate::python_json::python_float;
use crate::python_methods::{self, lines};

/// Makes an environment like Jinja's.
pub(crate) fn add_to(environment: &mut Environment<'_>) {
    environment.set_unknown_method_callback(python_methods::call);
    // These indent nested values, which takes time quadratic in the depth that fuel does not count.
    environment.remove_filter("pprint");
    environment.remove_global("debug");
    environment.add_filter("indent", indent);
    environment.add_filter("center", center);
    environment.add_filter("truncate", truncate);
    environment.add_filter("wordcount", wordcount);
    environment.add_filter("int", int);
    environment.add_filter("escape", escape);
    environment.add_filter("e", escape);
    environment.add_filter("forceescape", escape);
    environment.add_filter("striptags", minijinja_contrib::filters::striptags);
    environment.add_filter("filesizeformat", minijinja_contrib::filters::filesizeformat);
    environment
        .add_function("cycler", |items: Rest<Value>| minijinja_contrib::globals::cycler(items.to_vec()));
    environment.add_filter("urlencode", urlencode);
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    environment.add_function("dict", dict);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_test("callable", is_callable);
    environment.set_formatter(|output, state, value| match f64::try_from(value.clone()) {
        Ok(float) if value.is_number() && !value.is_integer() && float.is_finite() => {
            output.write_str(&python_float(float)).map_err(Error::from)
        }
        _ => escape_formatter(output, state, value),
    });
}

/// `indent(text, width=4, first=False, blank=False)`, where the width may be a string.
fn indent(state: &mut State<'_, '_>, text: String, given: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let given = given.into_values();
    let arguments = Arguments::new(&given, 3)?;
    let width = arguments.get(0, "width")?;
    let width = match width.as_ref().and_then(Value::as_str) {
        Some(indentation) => indentation.to_owned(),
        None => {
            let spaces = usize::try_from(arguments.integer(0, "width")?.unwrap_or(4)).unwrap_or(0);
            state.consume_fuel((spaces / 64) as u64)?;
            " ".repeat(spaces)
        }
    };
    let (first, blank) = (arguments.truth(1, "first")?, arguments.truth(2, "blank")?);
    arguments.finish()?;
    // The line after a final line end counts, too.
    let text = text + "\n";
    let lines = lines(&text, false);
    state.consume_fuel((lines.len().saturating_mul(width.len()) / 64) as u64)?;
    let mut indented = String::with_capacity(text.len() + lines.len() * width.len());
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            indented.push('\n');
        }
        if if at == 0 { first } else { blank || !line.is_empty() } {
            indented.push_str(&width);
        }
        indented.push_str(line);
    }
    Ok(indented)
}

fn center(state: &mut State<'_, '_>, text: String, width: Option<i64>) -> Result<Value, Error> {
    python_methods::call(state, &Value::from(text), "center", &[Value::from(width.unwrap_or(80))])
}

/// `truncate(text, length=255, killwords=False, end='...', leeway=5)`.
fn truncate(text: String, given: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let given = given.into_values();
    let arguments = Arguments::new(&given, 4)?;
    let size =
        |given: Option<i64>, default| given.map_or(default, |given| usize::try_from(given).unwrap_or(0));
    let length = size(arguments.integer(0, "length")?, 255);
    let kill_words = arguments.truth(1, "killwords")?;
    let end = arguments.text(2, "end")?.unwrap_or_else(|| "...".to_owned());
    let leeway = size(arguments.integer(3, "leeway")?, 5);
    arguments.finish()?;
    let end_length = end.chars().count();
    if length < end_length {
        return Err(wrong(format!("truncate: expected a length of at least {end_length}, found {length}")));
    }
    if text.chars().count() <= length.saturating_add(leeway) {
        return Ok(text);
    }
    let cut: String = text.chars().take(length - end_length).collect();
    let kept = if kill_words { &cut } else { cut.rsplit_once(' ').map_or(cut.as_str(), |(kept, _)| kept) };
    Ok(format!("{kept}{end}"))
}

fn wordcount(text: &str) -> usize {
    let between = |character: char| !(character.is_alphanumeric() || character == '_');
    text.split(between).filter(|word| !word.is_empty()).count()
}

/// `int(value, default=0, base=10)`: the default for what is no number.
fn int(value: Value, given: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let given = given.into_values();
    let arguments = Arguments::new(&given, 2)?;
    let default = arguments.get(0, "default")?.unwrap_or_else(|| Value::from(0));
    let base = arguments.integer(1, "base")?.unwrap_or(10);
    arguments.finish()?;
    let Some(text) = value.as_str() else {
        return Ok(match value.kind() {
            ValueKind::Bool => Value::from(i64::from(value.is_true())),
            ValueKind::Number if value.is_integer() => value,
            ValueKind::Number => whole(f64::try_from(value)?).unwrap_or(default),
            _ => default,
        });
    };
    let text = text.trim().replace('_', "").to_lowercase();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(&text)),
    };
    let prefix = match base {
        2 => "0b",
        8 => "0o",
        16 => "0x",
        _ => "",
    };
    let digits = digits.strip_prefix(prefix).unwrap_or(digits);
    let base = u32::try_from(base).ok().filter(|base| (2..=36).contains(base));
    let parsed = base
        .filter(|_| !digits.starts_with(['-', '+']))
        .and_then(|base| i128::from_str_radix(digits, base).ok());
    Ok(match parsed {
        Some(number) => Value::from(if negative { -number } else { number }),
        None => text.parse().ok().and_then(whole).unwrap_or(default),
    })
}

/// A number without its fraction, if it has a size.
fn whole(number: f64) -> Option<Value> {
    (number.is_finite() && number.abs() < 1e38).then(|| Value::from(number.trunc() as i128))
}

/// Escapes for HTML as Python's `markupsafe` does.
fn escape(value: Value) -> Value {
    if value.is_safe() {
        return value;
    }
    let text = value.to_string();
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            other => escaped.push(other),
        }
    }
    Value::from_safe_string(escaped)
}

/// Percent-encodes a string, or a mapping as the query of an address.
fn urlencode(value: &Value) -> Result<String, Error> {
    let encode = |value: &Value, safe: &str, space: &str| {
        let mut encoded = String::new();
        for byte in value.to_string().bytes() {
            match char::from(byte) {
                ' ' => encoded.push_str(space),
                plain if plain.is_ascii_alphanumeric() || "-._~".contains(plain) || safe.contains(plain) => {
                    encoded.push(plain);
                }
                _ => encoded.push_str(&format!("%{byte:02X}")),
            }
        }
        encoded
    };
    if value.kind() != ValueKind::Map {
        return Ok(encode(value, "/", "%20"));
    }
    let mut pairs = Vec::new();
    for key in value.try_iter()?.checked() {
        let key = key?;
        pairs.push(format!("{}={}", encode(&key, "", "+"), encode(&value.get_item(&key)?, "", "+")));
    }
    Ok(pairs.join("&"))
}

/// `dict(mapping or pairs, name=value, ...)`.
fn dict(given: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    Ok(Value::from_pairs(namespaces::entries(&given.into_values())?))
}

/// As in Python, `none` is not iterable: templates ask `tools is iterable` to see if there are tools.
fn is_iterable(value: &Value) -> bool {
    value.kind() != ValueKind::None && value.try_iter().is_ok()
}

/// As in Python, strings and mappings are sequences, too.
fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
        || value.kind() == ValueKind::Iterable && value.len().is_some()
}

fn is_callable(value: &Value) -> bool {
    let Some(object) = value.as_object() else { return false };
    let name = object.type_name();
    // minijinja's own types of functions and macros are private.
    ["BoxedFunction", "Macro", "Loop", "Closure"].iter().any(|kind| name.ends_with(kind))
}
