//! Typed access to the metadata.

use crate::gguf::value::{Array, StringArray, Value};
use crate::gguf::{Gguf, GgufError};

/// Declares a getter that needs its key and one that does not.
macro_rules! getters {
    ($($(#[$doc:meta])* $required:ident, $optional:ident -> $type:ty, $expected:literal, $convert:expr;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// [`GgufError::MissingKey`], [`GgufError::WrongType`] or [`GgufError::OutOfRange`], each naming the key
            /// and what was expected of it.
            pub fn $required(&self, key: &str) -> Result<$type, GgufError> {
                self.$optional(key)?
                    .ok_or_else(|| GgufError::MissingKey { key: key.to_owned(), expected: $expected })
            }

            #[doc = concat!("As [`", stringify!($required), "`](Self::", stringify!($required), "), with `None` for a missing key.")]
            ///
            /// # Errors
            /// [`GgufError::WrongType`] or [`GgufError::OutOfRange`]: a key that is there must hold what is asked for.
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

/// What came of asking a value for a type.
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

/// An integer of any width, as long as its value fits.
fn integer<T: TryFrom<i128>>(value: &Value) -> Converted<T> {
    match value.as_integer() {
        None => Converted::WrongType,
        Some(wide) => {
            T::try_from(wide).map_or_else(|_| Converted::OutOfRange(wide.to_string()), Converted::Value)
        }
    }
}

/// An array of integers of any width, as long as each value fits.
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
    /// All metadata, in order of the keys.
    pub fn metadata(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + '_ {
        self.metadata.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of this key, if there is one. O(log n).
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
        /// An integer of any type in the file that is not negative.
        u64, get_u64 -> u64, "an unsigned integer", integer::<u64>;
        /// An integer of any type in the file that fits in 32 bits and is not negative.
        u32, get_u32 -> u32, "an unsigned 32-bit integer", integer::<u32>;
        /// An integer of any type in the file that fits in 64 bits with a sign.
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
        /// An array of integers of any type in the file, none of them negative. O(length).
        u64s, get_u64s -> Vec<u64>, "an array of unsigned integers", integers::<u64>;
        /// An array of integers of any type in the file, each of which fits in 32 bits with a sign. O(length).
        i32s, get_i32s -> Vec<i32>, "an array of 32-bit integers", integers::<i32>;
    }
}
