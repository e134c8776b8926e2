//! Methods of Python's strings, lists, dictionaries and numbers that `minijinja_contrib::pycompat` lacks, or has with fewer
//! arguments.

use minijinja::value::{Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

use crate::arguments::{Arguments, wrong};

/// Calls a method that minijinja does not know.
pub(crate) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    given: &[Value],
) -> Result<Value, Error> {
    let own = match (value.kind(), value.as_str()) {
        (ValueKind::String, Some(text)) => string_method(state, text, method, given)?,
        (ValueKind::Seq | ValueKind::Iterable, _) => list_method(value, method, given)?,
        (ValueKind::Map, _) if method == "copy" && given.is_empty() => Some(value.clone()),
        (ValueKind::Number, _) => number_method(value, method, given)?,
        _ => None,
    };
    match own {
        Some(result) => Ok(result),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, given),
    }
}

fn number_method(value: &Value, method: &str, given: &[Value]) -> Result<Option<Value>, Error> {
    Arguments::new(given, 0)?.finish()?;
    Ok(match (method, value.as_i64(), f64::try_from(value.clone())) {
        ("bit_length", Some(number), _) if value.is_integer() => {
            Some(Value::from(u64::BITS - number.unsigned_abs().leading_zeros()))
        }
        ("is_integer", _, Ok(number)) => Some(Value::from(number.fract() == 0.0)),
        _ => None,
    })
}

fn list_method(value: &Value, method: &str, given: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "copy" if given.is_empty() => Ok(Some(value.clone())),
        "index" => {
            let arguments = Arguments::new(given, 3)?;
            let wanted = given.first().ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
            let (start, end) = bounds(value.len().unwrap_or(0), &arguments)?;
            arguments.finish()?;
            for (at, item) in value.try_iter()?.checked().enumerate().take(end).skip(start) {
                if item? == *wanted {
                    return Ok(Some(Value::from(at)));
                }
            }
            Err(wrong(format!("index: {wanted} is not in the list")))
        }
        _ => Ok(None),
    }
}

fn string_method(
    state: &State<'_, '_>,
    text: &str,
    method: &str,
    given: &[Value],
) -> Result<Option<Value>, Error> {
    let string = |text: String| Ok(Some(Value::from(text)));
    let flag = |flag: bool| Ok(Some(Value::from(flag)));
    match method {
        "find" | "rfind" | "index" | "rindex" | "count" | "startswith" | "endswith" if given.len() > 1 => {
            search(text, method, given).map(Some)
        }
        "index" | "rindex" => search(text, method, given).map(Some),
        "split" | "rsplit" => split(text, method == "rsplit", given).map(Some),
        "splitlines" => {
            let arguments = Arguments::new(given, 1)?;
            let keep = arguments.truth(0, "keepends")?;
            arguments.finish()?;
            Ok(Some(lines(text, keep).into_iter().map(Value::from).collect()))
        }
        "center" | "ljust" | "rjust" => {
            let arguments = Arguments::new(given, 2)?;
            let width =
                arguments.integer(0, "width")?.ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
            let fill = arguments.text(1, "fillchar")?.unwrap_or_else(|| " ".to_owned());
            arguments.finish()?;
            if fill.chars().count() != 1 {
                return Err(wrong(format!("{method}: expected one character to fill with, found {fill:?}")));
            }
            let missing = missing(state, text, width)?;
            let left = match method {
                "ljust" => 0,
                "rjust" => missing,
                // Python puts the odd character on the right, unless the width is odd.
                _ => missing / 2 + (missing & usize::try_from(width).unwrap_or(0) & 1),
            };
            string(fill.repeat(left) + text + &fill.repeat(missing - left))
        }
        "zfill" => {
            let arguments = Arguments::new(given, 1)?;
            let width =
                arguments.integer(0, "width")?.ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
            let missing = missing(state, text, width)?;
            let digits = text.trim_start_matches(['+', '-']);
            let sign = if text.len() - digits.len() <= 1 { &text[..text.len() - digits.len()] } else { "" };
            string(format!("{sign}{}{}", "0".repeat(missing), &text[sign.len()..]))
        }
        "expandtabs" => {
            let arguments = Arguments::new(given, 1)?;
            let size = usize::try_from(arguments.integer(0, "tabsize")?.unwrap_or(8)).unwrap_or(0);
            arguments.finish()?;
            state.consume_fuel((text.matches('\t').count().saturating_mul(size) / 64) as u64)?;
            let (mut expanded, mut column) = (String::new(), 0);
            for character in text.chars() {
                match character {
                    '\t' => {
                        let spaces = if size == 0 { 0 } else { size - column % size };
                        expanded.extend(std::iter::repeat_n(' ', spaces));
                        column += spaces;
                    }
                    other => {
                        expanded.push(other);
                        column = if matches!(other, '\n' | '\r') { 0 } else { column + 1 };
                    }
                }
            }
            string(expanded)
        }
        "partition" | "rpartition" => {
            let separator = only_text(given)?;
            let parts = if method == "partition" {
                text.split_once(&*separator)
            } else {
                text.rsplit_once(&*separator)
            };
            let parts = match parts {
                Some((before, after)) => [before, &separator, after],
                None if method == "partition" => [text, "", ""],
                None => ["", "", text],
            };
            Ok(Some(Value::from(Tuple::from(parts.map(Value::from)))))
        }
        "removeprefix" => {
            let prefix = only_text(given)?;
            string(text.strip_prefix(&*prefix).unwrap_or(text).to_owned())
        }
        "removesuffix" => {
            let suffix = only_text(given)?;
            string(text.strip_suffix(&*suffix).unwrap_or(text).to_owned())
        }
        _ if !given.is_empty() => Ok(None),
        "casefold" => string(text.to_lowercase().replace('ß', "ss")),
        "swapcase" => string(
            text.chars()
                .flat_map(|character| {
                    let (lower, upper) = (character.to_lowercase(), character.to_uppercase());
                    let swapped: Vec<char> =
                        if character.is_uppercase() { lower.collect() } else { upper.collect() };
                    swapped
                })
                .collect(),
        ),
        "title" => {
            let mut in_word = false;
            let mut titled = String::with_capacity(text.len());
            for character in text.chars() {
                if in_word {
                    titled.extend(character.to_lowercase());
                } else {
                    titled.extend(character.to_uppercase());
                }
                in_word = character.is_alphabetic();
            }
            string(titled)
        }
        "isdecimal" => flag(!text.is_empty() && text.chars().all(is_decimal)),
        "isdigit" => {
            flag(!text.is_empty() && text.chars().all(|found| is_decimal(found) || is_raised(found)))
        }
        "istitle" => {
            let (mut in_word, mut cased) = (false, false);
            for character in text.chars() {
                let wrong = if in_word { character.is_uppercase() } else { character.is_lowercase() };
                if wrong {
                    return flag(false);
                }
                in_word = character.is_uppercase() || character.is_lowercase();
                cased |= in_word;
            }
            flag(cased)
        }
        "isidentifier" => {
            let starts = |first: char| first.is_alphabetic() || first == '_';
            flag(
                text.chars().next().is_some_and(starts)
                    && text.chars().all(|next| next.is_alphanumeric() || next == '_'),
            )
        }
        "isprintable" => {
            flag(text.chars().all(|found| found == ' ' || !(found.is_control() || found.is_whitespace())))
        }
        _ => Ok(None),
    }
}

/// Whether a character is a decimal digit of some script, rather than another sign for a number.
fn is_decimal(character: char) -> bool {
    match character {
        '0'..='9' => true,
        // Raised, lowered and enclosed digits, fractions, Roman and Chinese numerals.
        '\u{80}'..='\u{ff}' | '\u{2070}'..='\u{2fff}' | '\u{3000}'..='\u{a61f}' => false,
        other => other.is_numeric(),
    }
}

/// Whether a character is a raised, lowered or enclosed digit.
fn is_raised(character: char) -> bool {
    matches!(character, '²' | '³' | '¹' | '⁰' | '⁴'..='⁹' | '₀'..='₉' | '①'..='⑨' | '⑴'..='⑼' | '⒈'..='⒐')
}

/// The only argument, a string.
fn only_text(given: &[Value]) -> Result<String, Error> {
    match given {
        [only] => only
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| wrong(format!("expected a string, found {}", only.kind()))),
        [] => Err(Error::from(ErrorKind::MissingArgument)),
        _ => Err(Error::from(ErrorKind::TooManyArguments)),
    }
}

/// How many characters a text lacks to a width. Pays for them.
fn missing(state: &State<'_, '_>, text: &str, width: i64) -> Result<usize, Error> {
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
    state.consume_fuel((missing / 16) as u64)?;
    Ok(missing)
}

/// The range from the arguments `start` and `end`, as for a slice: negative ones count from the end.
fn bounds(length: usize, arguments: &Arguments<'_>) -> Result<(usize, usize), Error> {
    let place = |given: Option<i64>, default: usize| match given {
        None => default,
        Some(given) if given < 0 => {
            length.saturating_sub(usize::try_from(given.unsigned_abs()).unwrap_or(usize::MAX))
        }
        Some(given) => usize::try_from(given).unwrap_or(usize::MAX),
    };
    let start = place(arguments.integer(1, "start")?, 0);
    Ok((start, place(arguments.integer(2, "end")?, length).min(length)))
}

/// The methods that look for a string within a range of characters.
fn search(text: &str, method: &str, given: &[Value]) -> Result<Value, Error> {
    let arguments = Arguments::new(given, 3)?;
    let length = text.chars().count();
    let (start, end) = bounds(length, &arguments)?;
    let wanted = given.first().ok_or_else(|| Error::from(ErrorKind::MissingArgument))?;
    // Some methods take a tuple.
    let wanted: Vec<String> = match wanted.as_str() {
        Some(one) => vec![one.to_owned()],
        None if method.ends_with("with") => {
            wanted.try_iter()?.filter_map(|one| one.as_str().map(str::to_owned)).collect()
        }
        None => return Err(wrong(format!("{method}: expected a string, found {}", wanted.kind()))),
    };
    let within = (start <= end).then(|| {
        let byte = |at: usize| text.char_indices().nth(at).map_or(text.len(), |(byte, _)| byte);
        &text[byte(start)..byte(end)]
    });
    let Some(within) = within else {
        return match method {
            "count" => Ok(Value::from(0)),
            "startswith" | "endswith" => Ok(Value::from(false)),
            "find" | "rfind" => Ok(Value::from(-1)),
            _ => Err(wrong(format!("{method}: the string was not found"))),
        };
    };
    let first = wanted.first().map(String::as_str).unwrap_or_default();
    let found = match method {
        "startswith" => return Ok(Value::from(wanted.iter().any(|one| within.starts_with(one.as_str())))),
        "endswith" => return Ok(Value::from(wanted.iter().any(|one| within.ends_with(one.as_str())))),
        "count" => return Ok(Value::from(within.matches(first).count())),
        "find" | "index" => within.find(first),
        _ => within.rfind(first),
    };
    match found {
        Some(byte) => Ok(Value::from(start + within[..byte].chars().count())),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(wrong(format!("{method}: the string was not found"))),
    }
}

/// `split` and `rsplit`.
fn split(text: &str, from_right: bool, given: &[Value]) -> Result<Value, Error> {
    let arguments = Arguments::new(given, 2)?;
    let separator = arguments.text(0, "sep")?;
    let most = arguments.integer(1, "maxsplit")?.and_then(|most| usize::try_from(most).ok());
    arguments.finish()?;
    let most = most.unwrap_or(usize::MAX);
    let mut parts: Vec<&str> = Vec::new();
    match separator.as_deref() {
        Some("") => return Err(wrong("split: expected a separator, found an empty string".to_owned())),
        Some(separator) if from_right => parts.extend(text.rsplitn(most.saturating_add(1), separator)),
        Some(separator) => parts.extend(text.splitn(most.saturating_add(1), separator)),
        None => {
            let mut rest = if from_right { text.trim_end() } else { text.trim_start() };
            while !rest.is_empty() {
                let space =
                    if from_right { rest.rfind(char::is_whitespace) } else { rest.find(char::is_whitespace) };
                match space.filter(|_| parts.len() < most) {
                    None => {
                        // What is left keeps its other end.
                        parts.push(if from_right { rest.trim_start() } else { rest.trim_end() });
                        break;
                    }
                    Some(space) if from_right => {
                        let word = rest[space..].trim_start();
                        parts.push(word);
                        rest = rest[..space].trim_end();
                    }
                    Some(space) => {
                        parts.push(&rest[..space]);
                        rest = rest[space..].trim_start();
                    }
                }
            }
        }
    }
    if from_right {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

/// The lines of a text as Python's `splitlines` finds them.
pub(crate) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        if !matches!(
            character,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        ) {
            continue;
        }
        let mut end = at + character.len_utf8();
        if character == '\r' && characters.next_if(|&(_, next)| next == '\n').is_some() {
            end += 1;
        }
        lines.push(&text[start..if keep_ends { end } else { at }]);
        start = end;
    }
    if start < text.len() {
        lines.push(&text[start..]);
    }
    lines
}
