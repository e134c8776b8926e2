//! Metadata values.

use std::fmt;

/// Declares [`Value`], [`Array`], [`ValueType`] and conversions from a table of scalar types.
macro_rules! scalar_types {
    ($($variant:ident($rust:ty) = $id:literal, $name:literal;)*) => {
        /// A metadata value.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Value {
            $(#[doc = concat!("`", $name, "`, number ", stringify!($id), " in the file.")] $variant($rust),)*
            /// UTF-8 text, number 8 in the file.
            String(String),
            /// Values of one type, number 9 in the file.
            Array(Array),
        }

        /// A metadata array. All values have one type.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Array {
            $(#[doc = concat!("An array of `", $name, "`.")] $variant(Vec<$rust>),)*
            /// An array of strings.
            String(StringArray),
            /// An array of arrays of any type and length.
            Array(Vec<Array>),
        }

        /// The type of a metadata value.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ValueType {
            $(#[doc = concat!("`", $name, "`.")] $variant,)*
            /// A string.
            String,
            /// An array of anything.
            Array,
        }

        impl ValueType {
            /// The type with this number in a GGUF file.
            pub(crate) const fn from_id(id: u32) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)*
                    8 => Some(Self::String),
                    9 => Some(Self::Array),
                    _ => None,
                }
            }

            /// The number of this type in a GGUF file.
            pub(crate) const fn id(self) -> u32 {
                match self {
                    $(Self::$variant => $id,)*
                    Self::String => 8,
                    Self::Array => 9,
                }
            }
        }

        impl fmt::Display for ValueType {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $name,)*
                    Self::String => "string",
                    Self::Array => "array",
                })
            }
        }

        impl Value {
            /// The type of this value.
            #[must_use]
            pub const fn value_type(&self) -> ValueType {
                match self {
                    $(Self::$variant(_) => ValueType::$variant,)*
                    Self::String(_) => ValueType::String,
                    Self::Array(_) => ValueType::Array,
                }
            }
        }

        impl Array {
            /// The type of the elements.
            #[must_use]
            pub const fn element_type(&self) -> ValueType {
                match self {
                    $(Self::$variant(_) => ValueType::$variant,)*
                    Self::String(_) => ValueType::String,
                    Self::Array(_) => ValueType::Array,
                }
            }

            /// The number of elements.
            #[must_use]
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$variant(values) => values.len(),)*
                    Self::String(values) => values.len(),
                    Self::Array(values) => values.len(),
                }
            }
        }

        $(
            impl From<$rust> for Value {
                fn from(value: $rust) -> Self {
                    Self::$variant(value)
                }
            }

            impl From<Vec<$rust>> for Value {
                fn from(values: Vec<$rust>) -> Self {
                    Self::Array(Array::$variant(values))
                }
            }
        )*
    };
}

scalar_types! {
    U8(u8) = 0, "u8";
    I8(i8) = 1, "i8";
    U16(u16) = 2, "u16";
    I16(i16) = 3, "i16";
    U32(u32) = 4, "u32";
    I32(i32) = 5, "i32";
    F32(f32) = 6, "f32";
    Bool(bool) = 7, "bool";
    U64(u64) = 10, "u64";
    I64(i64) = 11, "i64";
    F64(f64) = 12, "f64";
}

impl Value {
    /// The value as an integer; `None` for other types.
    #[must_use]
    pub fn as_integer(&self) -> Option<i128> {
        match *self {
            Self::U8(value) => Some(value.into()),
            Self::I8(value) => Some(value.into()),
            Self::U16(value) => Some(value.into()),
            Self::I16(value) => Some(value.into()),
            Self::U32(value) => Some(value.into()),
            Self::I32(value) => Some(value.into()),
            Self::U64(value) => Some(value.into()),
            Self::I64(value) => Some(value.into()),
            Self::F32(_) | Self::Bool(_) | Self::F64(_) | Self::String(_) | Self::Array(_) => None,
        }
    }
}

impl Array {
    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values as integers; `None` for other types. O(length).
    #[must_use]
    pub fn to_integers(&self) -> Option<Vec<i128>> {
        fn widen<T: Copy + Into<i128>>(values: &[T]) -> Vec<i128> {
            values.iter().map(|&value| value.into()).collect()
        }
        match self {
            Self::U8(values) => Some(widen(values)),
            Self::I8(values) => Some(widen(values)),
            Self::U16(values) => Some(widen(values)),
            Self::I16(values) => Some(widen(values)),
            Self::U32(values) => Some(widen(values)),
            Self::I32(values) => Some(widen(values)),
            Self::U64(values) => Some(widen(values)),
            Self::I64(values) => Some(widen(values)),
            Self::F32(_) | Self::Bool(_) | Self::F64(_) | Self::String(_) | Self::Array(_) => None,
        }
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<StringArray> for Value {
    fn from(values: StringArray) -> Self {
        Self::Array(Array::String(values))
    }
}

/// An array of strings in two allocations.
///
/// A vocabulary has 50 to 250 thousand short strings; a `Vec<String>` would take several times the memory.
///
/// ```
/// use upcycle_checkpoint::gguf::StringArray;
///
/// let words: StringArray = ["low", "", "er"].into_iter().collect();
/// assert_eq!(words.len(), 3);
/// assert_eq!(words.get(2), Some("er"));
/// assert_eq!(words.iter().collect::<String>(), "lower");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StringArray {
    text: String,
    /// The end of each string in `text`. It starts at the end of the previous one.
    ends: Vec<usize>,
}

impl StringArray {
    /// No strings.
    #[must_use]
    pub const fn new() -> Self {
        Self { text: String::new(), ends: Vec::new() }
    }

    /// Appends a string. Amortised O(its length).
    pub fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len());
    }

    /// The number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no strings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at this index, if any. O(1).
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        self.text.get(start..end)
    }

    /// The strings, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + '_ {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let string = &self.text[start..end];
            start = end;
            string
        })
    }
}

impl fmt::Debug for StringArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<S: AsRef<str>> FromIterator<S> for StringArray {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut array = Self::new();
        for string in strings {
            array.push(string.as_ref());
        }
        array
    }
}
