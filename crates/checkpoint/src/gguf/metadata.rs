//! Typed access to metadata.

use crate::gguf::error::GgufError;
use crate::gguf::header::Gguf;
use crate::gguf::value::{Array, StringArray, Value};

/// Declares a getter for a required key and one for an optional key.
macro_rules! getters {
    ($($(#[$doc:meta])* $required:ident, $optional:ident -> $type:ty, $expected:literal, $convert:expr;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// [`GgufError::MissingKey`], [`GgufError::WrongType`] or [`GgufError::OutOfRange`].
            pub fn $required(&self, key: &str) -> Result<$type, GgufError> {
                self.$optional(key)?
                    .ok_or_else(|| GgufError::MissingKey { key: key.to_owned(), expected: $expected })
            }

            #[doc = concat!("As [`", stringify!($required), "`](Self::", stringify!($required), "), or `None` if the key is missing.")]
            ///
            /// # Errors
            /// [`GgufError::WrongType`] or [`GgufError::OutOfRange`].
            pub fn $optional(&self, key: &str) -> Result<Option<$type>, GgufError> {
                let Some(value) = self.get(key) else { return Ok(None) };
                let convert: fn(&Value) -> Converted<$type> = $convert;
                match convert(value) {
                    Converted::Value(value) => Ok(Some(value)),
                    Converted::WrongType => Err(GgufError::WrongType {
                        key: key.to_owned(),
                        expected: $expected,
                        found: value.value_type(),
                    }),
                    Converted::OutOfRange(found) => {
                        Err(GgufError::OutOfRange { key: key.to_owned(), expected: $expected, found })
                    }
                }
            }
        )*
    };
}

/// The result of a conversion.
enum Converted<T> {
    Value(T),
    WrongType,
    OutOfRange(String),
}

impl<T> From<Option<T>> for Converted<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::WrongType, Self::Value)
    }
}

/// Converts an integer of any width if its value fits.
fn integer<T: TryFrom<i128>>(value: &Value) -> Converted<T> {
    match value.as_integer() {
        None => Converted::WrongType,
        Some(wide) => {
            T::try_from(wide).map_or_else(|_| Converted::OutOfRange(wide.to_string()), Converted::Value)
        }
    }
}

/// Converts an array of integers of any width if each value fits.
fn integers<T: TryFrom<i128>>(value: &Value) -> Converted<Vec<T>> {
    let Value::Array(array) = value else { return Converted::WrongType };
    let Some(wide) = array.to_integers() else { return Converted::WrongType };
    let mut fitting = Vec::with_capacity(wide.len());
    for integer in wide {
        match T::try_from(integer) {
            Ok(integer) => fitting.push(integer),
            Err(_) => return Converted::OutOfRange(integer.to_string()),
        }
    }
    Converted::Value(fitting)
}

impl Gguf {
    /// All metadata, sorted by key.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + '_ {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key, if there is one. O(log n).
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    getters! {
        /// A string.
        string, get_string -> &str, "a string", |value| match value {
            Value::String(string) => Some(string.as_str()).into(),
            _ => Converted::WrongType,
        };
        /// A boolean.
        bool, get_bool -> bool, "a boolean", |value| match value {
            Value::Bool(bool) => Some(*bool).into(),
            _ => Converted::WrongType,
        };
        /// A non-negative integer; any integer type in the file.
        u64, get_u64 -> u64, "an unsigned integer", integer::<u64>;
        /// A non-negative integer of up to 32 bits; any integer type in the file.
        u32, get_u32 -> u32, "an unsigned 32-bit integer", integer::<u32>;
        /// A signed integer of up to 64 bits; any integer type in the file.
        i64, get_i64 -> i64, "an integer", integer::<i64>;
        /// A floating-point number; an `f64` in the file is rounded to the nearest `f32`.
        f32, get_f32 -> f32, "a floating-point number", |value| match *value {
            Value::F32(number) => Some(number).into(),
            Value::F64(number) => Some(number as f32).into(),
            _ => Converted::WrongType,
        };
        /// An array of strings.
        strings, get_strings -> &StringArray, "an array of strings", |value| match value {
            Value::Array(Array::String(strings)) => Some(strings).into(),
            _ => Converted::WrongType,
        };
        /// An array of `f32`.
        f32s, get_f32s -> &[f32], "an array of f32", |value| match value {
            Value::Array(Array::F32(numbers)) => Some(numbers.as_slice()).into(),
            _ => Converted::WrongType,
        };
        /// An array of non-negative integers; any integer type in the file. O(length).
        u64s, get_u64s -> Vec<u64>, "an array of unsigned integers", integers::<u64>;
        /// An array of signed integers of up to 32 bits; any integer type in the file. O(length).
        i32s, get_i32s -> Vec<i32>, "an array of 32-bit integers", integers::<i32>;
    }
}
