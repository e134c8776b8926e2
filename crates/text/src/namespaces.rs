//! Jinja's `namespace` objects.
//!
//! Only a namespace can change after it was made, so only a namespace can come to contain itself (`{% set ns.n = ns %}`). minijinja
//! prints, compares and serializes its own namespaces by their contents, and would exhaust the stack. These namespaces are opaque,
//! as in Python: their attributes can be read and assigned, and nothing else looks inside.
//!
//! minijinja assigns attributes to its own namespaces only. [`rewrite`] turns each such assignment into a call.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{
    DynObject, Kwargs, Object, ObjectRepr, Rest, Value, ValueKind, ValueOrKwargs, from_args,
};
use minijinja::{Environment, Error, ErrorKind, State};

use crate::arguments::wrong;

/// The function and filter that assign an attribute.
const ASSIGN: &str = "assign_attribute";

/// A name for the parts of a tuple that are assigned to attributes.
const PART: &str = "assigned_part";

#[derive(Default)]
struct Namespace(Mutex<BTreeMap<Arc<str>, Value>>);

impl Namespace {
    fn set(&self, name: &str, value: Value) {
        // The replaced value is dropped after the lock is released.
        let _replaced = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.into(), value);
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<namespace>")
    }
}

impl Object for Namespace {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key.as_str()?).cloned()
    }

    /// A namespace equals itself alone.
    fn custom_cmp(self: &Arc<Self>, other: &DynObject) -> Option<Ordering> {
        let other = other.downcast_ref::<Self>()?;
        Some(std::ptr::from_ref(&**self).cmp(&std::ptr::from_ref(other)))
    }
}

/// The namespaces of one rendering. Empties them at its end, since those that contain themselves would never be freed.
#[derive(Default)]
struct Made(Vec<Arc<Namespace>>);

impl Drop for Made {
    fn drop(&mut self) {
        for namespace in &self.0 {
            drop(std::mem::take(&mut *namespace.0.lock().unwrap_or_else(PoisonError::into_inner)));
        }
    }
}

/// Adds `namespace` and the functions that [`rewrite`] calls.
pub(crate) fn add_to(environment: &mut Environment<'_>) {
    environment.add_function("namespace", make);
    environment.add_function(ASSIGN, assign);
    environment.add_filter(ASSIGN, assign_block);
}

/// The entries that Python's `dict` makes of its arguments: a mapping or pairs, then names with values.
pub(crate) fn entries(given: &[Value]) -> Result<Vec<(Value, Value)>, Error> {
    let (places, names): (&[Value], Kwargs) = from_args(given)?;
    if places.len() > 1 {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let mut entries = Vec::new();
    for place in places {
        for key in place.try_iter()?.checked() {
            let key = key?;
            entries.push(match place.kind() {
                ValueKind::Map => (key.clone(), place.get_item(&key)?),
                _ => match key.try_iter()?.checked().collect::<Result<Vec<Value>, Error>>()?.as_slice() {
                    [key, value] => (key.clone(), value.clone()),
                    _ => return Err(wrong(format!("expected pairs of a key and a value, found {key}"))),
                },
            });
        }
    }
    for name in names.args() {
        entries.push((Value::from(name), names.get(name)?));
    }
    Ok(entries)
}

/// `namespace(mapping or pairs, name=value, ...)`.
fn make(state: &mut State<'_, '_>, given: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let namespace = Arc::new(Namespace::default());
    for (name, value) in entries(&given.into_values())? {
        let Some(name) = name.as_str() else {
            return Err(wrong(format!("expected names of attributes, found {name}")));
        };
        namespace.set(name, value);
    }
    state.get_or_insert_extension_with(Made::default).0.push(Arc::clone(&namespace));
    Ok(Value::from_dyn_object(namespace))
}

fn assign(target: &Value, name: &str, value: Value) -> Result<&'static str, Error> {
    let Some(namespace) = target.downcast_object_ref::<Namespace>() else {
        return Err(wrong(format!("can only assign attributes of a namespace, not of {}", target.kind())));
    };
    namespace.set(name, value);
    Ok("")
}

fn assign_block(value: Value, target: &Value, name: &str) -> Result<&'static str, Error> {
    assign(target, name, value)
}

/// A tag being read.
#[derive(Default)]
struct Tag<'s> {
    tokens: Vec<(Token<'s>, Range<usize>)>,
}

/// Turns assignments to attributes into calls. Line numbers stay the same. O(bytes).
///
/// `{% set a.b = c %}` becomes `{% do assign_attribute(a, "b", (c)) %}`, and `{% set a.b | f %}…{% endset %}` becomes
/// `{% filter f | assign_attribute(a, "b") %}…{% endfilter %}`.
///
/// # Errors
/// The template is not valid Jinja.
pub(crate) fn rewrite(source: &str, syntax: SyntaxConfig) -> Result<String, Error> {
    let mut rewritten = String::with_capacity(source.len());
    let mut kept = 0;
    let mut tag = Tag::default();
    // For each open `{% set %}` block, whether it assigns to an attribute.
    let mut blocks = Vec::new();
    for token in tokenize(source, false, syntax) {
        let (token, span) = token?;
        let span = span.start_offset as usize..span.end_offset as usize;
        match token {
            Token::BlockStart => tag.tokens.clear(),
            Token::BlockEnd => {
                for (replaced, text) in tag.replacements(source, &span, &mut blocks) {
                    rewritten.push_str(&source[kept..replaced.start]);
                    rewritten.push_str(&text);
                    let lines = |text: &str| text.matches('\n').count();
                    let lost = lines(&source[replaced.clone()]).saturating_sub(lines(&text));
                    rewritten.extend(std::iter::repeat_n('\n', lost));
                    kept = replaced.end;
                }
                tag.tokens.clear();
            }
            token => tag.tokens.push((token, span)),
        }
    }
    rewritten.push_str(&source[kept..]);
    Ok(rewritten)
}

impl Tag<'_> {
    /// What to replace in this tag, which ends at `end`.
    fn replacements(
        &self,
        source: &str,
        end: &Range<usize>,
        blocks: &mut Vec<bool>,
    ) -> Vec<(Range<usize>, String)> {
        let Some((Token::Ident(word), first)) = self.tokens.first() else { return Vec::new() };
        match *word {
            "set" => (),
            "endset" if blocks.pop() == Some(true) => return vec![(first.clone(), "endfilter".to_owned())],
            _ => return Vec::new(),
        }
        let target_ends = |token: &Token<'_>| matches!(token, Token::Assign | Token::Pipe);
        let target = self.tokens[1..].iter().take_while(|(token, _)| !target_ends(token)).count();
        let (target, rest) = self.tokens[1..].split_at(target);
        let attributes = attributes(source, target);
        let is_block = !matches!(rest.first(), Some((Token::Assign, _)));
        if is_block {
            blocks.push(!attributes.is_empty());
        }
        match (attributes.as_slice(), rest.first()) {
            ([], _) => Vec::new(),
            ([(_, object, name)], Some((Token::Pipe, pipe))) => {
                let call = format!(" | {ASSIGN}({object}, {name:?})");
                vec![(first.start..pipe.end, "filter".to_owned()), (end.start..end.start, call)]
            }
            ([(_, object, name)], None) => {
                vec![(first.start..end.start, format!("filter {ASSIGN}({object}, {name:?}) "))]
            }
            ([(only, object, name)], Some((_, equals)))
                if target.last().is_some_and(|last| last.1.end == only.end)
                    && target.first().is_some_and(|first| first.1.start == only.start) =>
            {
                vec![
                    (first.start..equals.end, format!("do {ASSIGN}({object}, {name:?}, (")),
                    (end.start..end.start, "))".to_owned()),
                ]
            }
            // A tuple, some parts of which are attributes. They are assigned after the others.
            (parts, _) => {
                let mut after = String::from(" %}");
                let mut replaced = Vec::new();
                for (at, (part, object, name)) in parts.iter().enumerate() {
                    replaced.push((part.clone(), format!("{PART}_{at}")));
                    after += &format!("{{% do {ASSIGN}({object}, {name:?}, {PART}_{at}) ");
                    after += if at + 1 < parts.len() { "%}" } else { "" };
                }
                replaced.push((end.start..end.start, after));
                replaced
            }
        }
    }
}

/// The attributes in the target of an assignment: the place of each, its object and its name.
fn attributes<'s>(
    source: &'s str,
    target: &[(Token<'s>, Range<usize>)],
) -> Vec<(Range<usize>, &'s str, &'s str)> {
    let mut found = Vec::new();
    let mut start = None;
    let mut previous = 0;
    for (at, (token, span)) in target.iter().enumerate() {
        match token {
            Token::Ident(name) => {
                let from = *start.get_or_insert(span.start);
                let ends = !matches!(target.get(at + 1), Some((Token::Dot, _)));
                if ends && from < span.start {
                    found.push((from..span.end, &source[from..previous], *name));
                }
                if ends {
                    start = None;
                } else {
                    previous = span.end;
                }
            }
            Token::Dot => (),
            _ => start = None,
        }
    }
    found
}
