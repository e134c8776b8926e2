//! JSON as Python's `json.dumps` writes it, which chat templates expect.

use std::fmt::Write;

use minijinja::Error;
use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};

use crate::arguments::{Arguments, wrong};

/// The longest JSON that one `tojson` may write, in bytes. Chained `tojson` filters escape the text again and can double it
/// each time, and minijinja's fuel does not count that.
const LENGTH_LIMIT: usize = 16 << 20;

/// The `tojson` filter of Hugging Face's templates:
/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)` is `json.dumps` with the same arguments.
///
/// The built-in filters of Jinja and minijinja escape `<`, `>`, `&` and `'` for HTML, which models never saw in training.
pub(crate) fn tojson(value: &Value, given: Rest<ValueOrKwargs>) -> Result<String, Error> {
    let mut json =
        Json { text: String::new(), style: Style::new(Arguments::new(&given.into_values(), 4)?)?, depth: 0 };
    json.value(value)?;
    Ok(json.text)
}

/// How to write JSON.
struct Style {
    ensure_ascii: bool,
    /// One level of indentation; without it, all is on one line.
    indent: Option<String>,
    /// Stand after a value, and after a key.
    separators: (String, String),
    sort_keys: bool,
}

impl Style {
    fn new(arguments: Arguments<'_>) -> Result<Self, Error> {
        let ensure_ascii = arguments.truth(0, "ensure_ascii")?;
        let indent = match arguments.get(1, "indent")? {
            None => None,
            Some(text) if text.as_str().is_some() => text.as_str().map(str::to_owned),
            Some(flag) if flag.kind() == ValueKind::Bool => Some(" ".repeat(usize::from(flag.is_true()))),
            Some(_) => {
                let spaces = arguments.integer(1, "indent")?.unwrap_or(0);
                let spaces = usize::try_from(spaces).unwrap_or(0);
                // A longer indent cannot be written anyway.
                Some(" ".repeat(spaces.min(LENGTH_LIMIT + 1)))
            }
        };
        let separators = match arguments.get(2, "separators")? {
            None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
            None => (", ".to_owned(), ": ".to_owned()),
            Some(given) => {
                let parts: Vec<Value> = given.try_iter()?.collect();
                match parts.iter().map(Value::as_str).collect::<Vec<_>>()[..] {
                    [Some(between), Some(after_key)] => (between.to_owned(), after_key.to_owned()),
                    _ => {
                        return Err(wrong(format!(
                            "tojson: expected two strings as `separators`, found {given}"
                        )));
                    }
                }
            }
        };
        let sort_keys = arguments.truth(3, "sort_keys")?;
        arguments.finish()?;
        Ok(Self { ensure_ascii, indent, separators, sort_keys })
    }
}

/// JSON being written.
struct Json {
    text: String,
    style: Style,
    depth: usize,
}

impl Json {
    fn push(&mut self, text: &str) -> Result<(), Error> {
        if self.text.len() + text.len() > LENGTH_LIMIT {
            return Err(wrong(format!("tojson: more than {} MB", LENGTH_LIMIT >> 20)));
        }
        self.text.push_str(text);
        Ok(())
    }

    fn value(&mut self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::Undefined | ValueKind::None => self.push("null"),
            ValueKind::Bool => self.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.push(&number(value)),
            ValueKind::Seq | ValueKind::Iterable => {
                self.open("[")?;
                let mut first = true;
                for item in value.try_iter()?.checked() {
                    self.separate(&mut first)?;
                    self.value(&item?)?;
                }
                self.close("]", first)
            }
            ValueKind::Map => {
                let mut keys = value.try_iter()?.checked().collect::<Result<Vec<Value>, Error>>()?;
                if self.style.sort_keys {
                    keys.sort();
                }
                self.open("{")?;
                let mut first = true;
                for key in keys {
                    self.separate(&mut first)?;
                    self.key(&key)?;
                    let after = self.style.separators.1.clone();
                    self.push(&after)?;
                    self.value(&value.get_item(&key)?)?;
                }
                self.close("}", first)
            }
            _ => match value.as_str() {
                Some(text) => self.string(text),
                None => self.string(&value.to_string()),
            },
        }
    }

    /// Keys are strings: Python writes other simple values as they look in JSON.
    fn key(&mut self, key: &Value) -> Result<(), Error> {
        match (key.kind(), key.as_str()) {
            (_, Some(text)) => self.string(text),
            (ValueKind::Bool, _) => self.string(if key.is_true() { "true" } else { "false" }),
            (ValueKind::None, _) => self.string("null"),
            (ValueKind::Number, _) => self.string(&number(key)),
            (kind, _) => Err(wrong(format!("tojson: expected strings or numbers as keys, found {kind}"))),
        }
    }

    fn open(&mut self, bracket: &str) -> Result<(), Error> {
        self.depth += 1;
        self.push(bracket)
    }

    fn separate(&mut self, first: &mut bool) -> Result<(), Error> {
        if !std::mem::take(first) {
            let between = self.style.separators.0.clone();
            self.push(&between)?;
        }
        self.new_line()
    }

    fn close(&mut self, bracket: &str, empty: bool) -> Result<(), Error> {
        self.depth -= 1;
        if !empty {
            self.new_line()?;
        }
        self.push(bracket)
    }

    fn new_line(&mut self) -> Result<(), Error> {
        let Some(indent) = self.style.indent.clone() else { return Ok(()) };
        self.push("\n")?;
        if indent.is_empty() { Ok(()) } else { (0..self.depth).try_for_each(|_| self.push(&indent)) }
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        let mut written = String::with_capacity(text.len() + 2);
        written.push('"');
        for character in text.chars() {
            match character {
                '"' => written.push_str("\\\""),
                '\\' => written.push_str("\\\\"),
                '\n' => written.push_str("\\n"),
                '\r' => written.push_str("\\r"),
                '\t' => written.push_str("\\t"),
                '\u{8}' => written.push_str("\\b"),
                '\u{c}' => written.push_str("\\f"),
                '\0'..='\x1f' => escape(character, &mut written),
                // This includes the delete character.
                '\x7f'.. if self.style.ensure_ascii => escape(character, &mut written),
                other => written.push(other),
            }
        }
        written.push('"');
        self.push(&written)
    }
}

/// Writes a character as `\uXXXX`, in two parts if it is beyond the first plane.
fn escape(character: char, written: &mut String) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        // Writing to a string cannot fail.
        let _ = write!(written, "\\u{unit:04x}");
    }
}

/// A number as Python writes it.
fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => python_float(float),
        _ => value.to_string(),
    }
}

/// The shortest digits that give the number back, with an exponent outside of 1e-4 to 1e16.
pub(crate) fn python_float(float: f64) -> String {
    if float.is_nan() {
        return "NaN".to_owned();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let size = float.abs();
    if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    // `Debug` keeps the `.0` of whole numbers.
    format!("{float:?}")
}
