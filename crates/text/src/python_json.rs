//! JSON as Python's `json.dumps` writes it, which chat templates expect.

use std::fmt::Write as _;
use std::io::{self, Write};

use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// The widest indentation allowed, in spaces.
const INDENT_LIMIT: usize = 16;

/// The longest JSON that one `tojson` may write, in bytes. Chained `tojson` filters escape the text again and can double it
/// each time, and minijinja's fuel does not count that.
const LENGTH_LIMIT: usize = 16 << 20;

/// The `tojson` filter of Hugging Face's templates: `json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)`, with
/// `ensure_ascii` false by default.
///
/// The built-in filters of Jinja and minijinja escape `<`, `>`, `&` and `'` for HTML, which models never saw in training.
#[expect(clippy::needless_pass_by_value, reason = "minijinja passes arguments by value")]
pub(crate) fn tojson(value: &Value, arguments: Kwargs) -> Result<String, Error> {
    let wrong = |message| Error::new(ErrorKind::InvalidOperation, message);
    let indent: Option<usize> = arguments.get("indent")?;
    if indent.is_some_and(|indent| indent > INDENT_LIMIT) {
        return Err(wrong(format!("tojson: expected an indent of at most {INDENT_LIMIT}")));
    }
    let ascii = arguments.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    arguments.assert_all_used()?;
    let mut json = Bounded(Vec::new());
    let mut serializer =
        Serializer::with_formatter(&mut json, PythonFormatter { indent, depth: 0, filled: false });
    value.serialize(&mut serializer).map_err(|error| wrong(format!("tojson: {error}")))?;
    let json = String::from_utf8(json.0).map_err(|error| wrong(format!("tojson: {error}")))?;
    Ok(if ascii { escape_non_ascii(&json) } else { json })
}

/// A buffer of at most [`LENGTH_LIMIT`] bytes.
struct Bounded(Vec<u8>);

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LENGTH_LIMIT {
            return Err(io::Error::other(format!("more than {} MB", LENGTH_LIMIT >> 20)));
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same JSON in ASCII. Characters beyond ASCII occur only in strings.
fn escape_non_ascii(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        }
    }
    escaped
}

/// Separates by `", "` and `": "`; with an indent, each value has its own line.
struct PythonFormatter {
    indent: Option<usize>,
    depth: usize,
    /// Whether the current array or object has a value.
    filled: bool,
}

impl PythonFormatter {
    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.filled {
            self.new_line(writer)?;
        }
        writer.write_all(bracket)
    }

    fn separate<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        match (first, self.indent) {
            (true, _) => {}
            (false, None) => writer.write_all(b", ")?,
            (false, Some(_)) => writer.write_all(b",")?,
        }
        self.new_line(writer)
    }

    fn new_line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        let Some(indent) = self.indent else { return Ok(()) };
        writer.write_all(b"\n")?;
        (0..indent * self.depth).try_for_each(|_| writer.write_all(b" "))
    }
}

impl Formatter for PythonFormatter {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.separate(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.separate(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }
}
