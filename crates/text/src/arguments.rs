//! Arguments of Python's functions: each by its place or by its name.

use minijinja::value::{Kwargs, Value, from_args};
use minijinja::{Error, ErrorKind};

/// The arguments of a call.
pub(crate) struct Arguments<'v> {
    places: &'v [Value],
    names: Kwargs,
}

impl<'v> Arguments<'v> {
    /// Arguments of a function that takes at most `most`.
    pub(crate) fn new(given: &'v [Value], most: usize) -> Result<Self, Error> {
        let (places, names): (&[Value], Kwargs) = from_args(given)?;
        if places.len() > most {
            Err(Error::from(ErrorKind::TooManyArguments))
        } else {
            Ok(Self { places, names })
        }
    }

    /// An argument; `None` if it is not given, or none.
    pub(crate) fn get(&self, place: usize, name: &str) -> Result<Option<Value>, Error> {
        let named: Option<Value> = if self.names.has(name) { Some(self.names.get(name)?) } else { None };
        let value = match (self.places.get(place), named) {
            (Some(_), Some(_)) => return Err(wrong(format!("the argument `{name}` is given twice"))),
            (Some(value), None) => Some(value.clone()),
            (None, named) => named,
        };
        Ok(value.filter(|value| !value.is_none() && !value.is_undefined()))
    }

    /// As [`get`](Self::get), for a string.
    pub(crate) fn text(&self, place: usize, name: &str) -> Result<Option<String>, Error> {
        let Some(value) = self.get(place, name)? else { return Ok(None) };
        let found = value.as_str().map(str::to_owned);
        found.map(Some).ok_or_else(|| wrong(format!("expected a string as `{name}`, found {}", value.kind())))
    }

    /// As [`get`](Self::get), for a whole number.
    pub(crate) fn integer(&self, place: usize, name: &str) -> Result<Option<i64>, Error> {
        let Some(value) = self.get(place, name)? else { return Ok(None) };
        let found = value.as_i64().filter(|_| value.is_integer());
        found.map(Some).ok_or_else(|| wrong(format!("expected a whole number as `{name}`, found {value}")))
    }

    /// As [`get`](Self::get), for whether a value counts as true.
    pub(crate) fn truth(&self, place: usize, name: &str) -> Result<bool, Error> {
        Ok(self.get(place, name)?.is_some_and(|value| value.is_true()))
    }

    /// Checks that no other arguments are given by name.
    pub(crate) fn finish(self) -> Result<(), Error> {
        self.names.assert_all_used()
    }
}

/// The error for a wrong argument.
pub(crate) fn wrong(reason: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}
