//! Constructors of messages.

use super::{Attribute, Dimension, Element, Entry, Extent, Kind, Shape, Tensor, TensorKind, ValueInfo};

/// The value of an [`Attribute`].
#[derive(Clone, Debug)]
pub enum AttributeValue {
    /// An integer.
    Int(i64),
    /// Integers.
    Ints(Vec<i64>),
    /// A floating-point number.
    Float(f32),
    /// An int64 tensor of one element.
    Tensor(i64),
}

/// A dimension of an input or output.
#[derive(Clone, Copy, Debug)]
pub enum Dim<'a> {
    /// A fixed size.
    Size(usize),
    /// The name of a size that differs from pass to pass.
    Name(&'a str),
}

impl Entry {
    /// An entry with this key and value.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "callers pass numbers and literals")]
    pub fn new(key: &str, value: impl ToString) -> Self {
        Self { key: key.to_owned(), value: value.to_string() }
    }
}

impl Attribute {
    /// An attribute with this name and value.
    #[must_use]
    pub fn new(name: &str, value: &AttributeValue) -> Self {
        let mut attribute = Self { name: name.to_owned(), ..Self::default() };
        match value {
            AttributeValue::Int(int) => (attribute.int, attribute.kind) = (*int, Self::INT),
            AttributeValue::Ints(ints) => (attribute.ints, attribute.kind) = (ints.clone(), Self::INTS),
            AttributeValue::Float(float) => (attribute.float, attribute.kind) = (*float, Self::FLOAT),
            AttributeValue::Tensor(element) => {
                attribute.tensor = Some(Tensor::int64("", &[*element]));
                attribute.kind = Self::TENSOR;
            }
        }
        attribute
    }
}

impl Tensor {
    /// An int64 vector.
    #[must_use]
    pub fn int64(name: &str, values: &[i64]) -> Self {
        Self {
            dims: vec![values.len() as i64],
            element: Element::Int64.into(),
            name: name.to_owned(),
            raw: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            ..Self::default()
        }
    }

    /// An `f32` scalar.
    #[must_use]
    pub fn scalar(name: &str, value: f32) -> Self {
        Self {
            element: Element::Float.into(),
            name: name.to_owned(),
            raw: value.to_le_bytes().to_vec(),
            ..Self::default()
        }
    }
}

impl ValueInfo {
    /// A tensor with these dimensions, outermost first.
    #[must_use]
    pub fn tensor(name: &str, element: Element, dims: &[Dim<'_>]) -> Self {
        let dims = dims.iter().map(|dim| Dimension {
            extent: Some(match *dim {
                Dim::Size(size) => Extent::Value(size as i64),
                Dim::Name(name) => Extent::Name(name.to_owned()),
            }),
        });
        let shape = Some(Shape { dims: dims.collect() });
        let tensor = Some(TensorKind { element: element.into(), shape });
        Self { name: name.to_owned(), kind: Some(Kind { tensor, ..Kind::default() }) }
    }
}
