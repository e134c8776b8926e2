//! The messages of [`onnx.proto`](https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) that a graph's meaning depends on.
//!
//! Reading and writing a graph preserves what it computes: fields that this crate does not inspect are kept as bytes. Dropped are
//! documentation, training data, the inferred types of inner values (`value_info`), and annotations on quantization and devices.

mod build;

pub use build::{AttributeValue, Dim};

pub use prost::{DecodeError, Message};

/// The newest version of the default operator set that the exporter writes.
pub const OPSET: i64 = 23;
/// The version of the format itself.
pub const IR_VERSION: i64 = 10;
/// The domain of ONNX Runtime's own operators.
pub const MICROSOFT: &str = "com.microsoft";

/// `ModelProto`: a file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Model {
    /// Version of the format.
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    /// What wrote it.
    #[prost(string, tag = "2")]
    pub producer_name: String,
    /// The version of what wrote it.
    #[prost(string, tag = "3")]
    pub producer_version: String,
    /// The graph.
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    /// The operator sets that its nodes belong to.
    #[prost(message, repeated, tag = "8")]
    pub opsets: Vec<OperatorSet>,
    /// Custom keys and values.
    #[prost(message, repeated, tag = "14")]
    pub metadata: Vec<Entry>,
    /// Functions that the model defines, encoded.
    #[prost(bytes = "vec", repeated, tag = "25")]
    pub functions: Vec<Vec<u8>>,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OperatorSet {
    /// The domain; empty for ONNX's own.
    #[prost(string, tag = "1")]
    pub domain: String,
    /// The version.
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// `StringStringEntryProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Entry {
    /// The key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Graph {
    /// Nodes in topological order.
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<Node>,
    /// The graph's name.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Constants.
    #[prost(message, repeated, tag = "5")]
    pub initializers: Vec<Tensor>,
    /// Inputs.
    #[prost(message, repeated, tag = "11")]
    pub inputs: Vec<ValueInfo>,
    /// Outputs.
    #[prost(message, repeated, tag = "12")]
    pub outputs: Vec<ValueInfo>,
    /// Sparse constants, encoded.
    #[prost(bytes = "vec", repeated, tag = "15")]
    pub sparse_initializers: Vec<Vec<u8>>,
}

/// `FunctionProto`: the parts that tell how large it is. Encoded, it is an entry of [`Model::functions`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Function {
    /// Its name, which nodes give as their operator.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its nodes.
    #[prost(message, repeated, tag = "7")]
    pub nodes: Vec<Node>,
    /// Its domain.
    #[prost(string, tag = "10")]
    pub domain: String,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Node {
    /// Names of its inputs; an empty name omits an optional one.
    #[prost(string, repeated, tag = "1")]
    pub inputs: Vec<String>,
    /// Names of its outputs.
    #[prost(string, repeated, tag = "2")]
    pub outputs: Vec<String>,
    /// The node's name.
    #[prost(string, tag = "3")]
    pub name: String,
    /// The operator.
    #[prost(string, tag = "4")]
    pub operator: String,
    /// Its attributes.
    #[prost(message, repeated, tag = "5")]
    pub attributes: Vec<Attribute>,
    /// The operator's domain.
    #[prost(string, tag = "7")]
    pub domain: String,
    /// Which overload of a function of the model it is.
    #[prost(string, tag = "8")]
    pub overload: String,
}

/// `AttributeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attribute {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The value of a [`FLOAT`](Self::FLOAT).
    #[prost(float, tag = "2")]
    pub float: f32,
    /// The value of an [`INT`](Self::INT).
    #[prost(int64, tag = "3")]
    pub int: i64,
    /// The value of a string.
    #[prost(bytes = "vec", tag = "4")]
    pub string: Vec<u8>,
    /// The value of a tensor, such as a `Constant`'s.
    #[prost(message, optional, tag = "5")]
    pub tensor: Option<Tensor>,
    /// The value of a graph, such as a branch of an `If`.
    #[prost(message, optional, tag = "6")]
    pub graph: Option<Graph>,
    /// Floating-point numbers.
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    /// The value of [`INTS`](Self::INTS).
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    /// Strings.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub strings: Vec<Vec<u8>>,
    /// Tensors.
    #[prost(message, repeated, tag = "10")]
    pub tensors: Vec<Tensor>,
    /// Graphs.
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<Graph>,
    /// A type, encoded.
    #[prost(bytes = "vec", optional, tag = "14")]
    pub type_value: Option<Vec<u8>>,
    /// Types, encoded.
    #[prost(bytes = "vec", repeated, tag = "15")]
    pub type_values: Vec<Vec<u8>>,
    /// Which of these fields holds the value.
    #[prost(int32, tag = "20")]
    pub kind: i32,
    /// The attribute of the enclosing function that it refers to.
    #[prost(string, tag = "21")]
    pub reference: String,
    /// A sparse tensor, encoded.
    #[prost(bytes = "vec", optional, tag = "22")]
    pub sparse_tensor: Option<Vec<u8>>,
    /// Sparse tensors, encoded.
    #[prost(bytes = "vec", repeated, tag = "23")]
    pub sparse_tensors: Vec<Vec<u8>>,
}

impl Attribute {
    /// A floating-point number.
    pub const FLOAT: i32 = 1;
    /// An integer.
    pub const INT: i32 = 2;
    /// A tensor.
    pub const TENSOR: i32 = 4;
    /// Integers.
    pub const INTS: i32 = 7;
}

/// `TensorProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Tensor {
    /// The shape, outermost dimension first.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// The type of its elements: an [`Element`].
    #[prost(enumeration = "Element", tag = "2")]
    pub element: i32,
    /// Its elements, if `f32` or complex of `f32`, and not in `raw`.
    #[prost(float, repeated, tag = "4")]
    pub floats: Vec<f32>,
    /// Its elements, if of another type of up to 32 bits, and not in `raw`.
    #[prost(int32, repeated, tag = "5")]
    pub small: Vec<i32>,
    /// Its elements, if strings.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub strings: Vec<Vec<u8>>,
    /// Its elements, if `i64` and not in `raw`.
    #[prost(int64, repeated, tag = "7")]
    pub ints: Vec<i64>,
    /// Its name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Its elements, little-endian, unless in another file.
    #[prost(bytes = "vec", tag = "9")]
    pub raw: Vec<u8>,
    /// Its elements, if `f64` or complex of `f64`, and not in `raw`.
    #[prost(double, repeated, tag = "10")]
    pub doubles: Vec<f64>,
    /// Its elements, if unsigned with 32 or 64 bits, and not in `raw`.
    #[prost(uint64, repeated, tag = "11")]
    pub unsigned: Vec<u64>,
    /// `location`, `offset` and `length` of its elements in another file.
    #[prost(message, repeated, tag = "13")]
    pub external: Vec<Entry>,
    /// [`EXTERNAL`](Self::EXTERNAL) if they are in another file.
    #[prost(int32, tag = "14")]
    pub location: i32,
}

impl Tensor {
    /// The value of [`location`](Self::location) for elements in another file.
    pub const EXTERNAL: i32 = 1;
}

/// `TensorProto.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Element {
    /// A type that this crate does not know.
    Undefined = 0,
    /// `f32`
    Float = 1,
    /// `u8`
    Uint8 = 2,
    /// `i64`
    Int64 = 7,
    /// Booleans.
    Bool = 9,
    /// IEEE half precision.
    Float16 = 10,
}

impl Element {
    /// Bytes of one element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Element::Undefined => 0,
            Element::Float => 4,
            Element::Uint8 | Element::Bool => 1,
            Element::Int64 => 8,
            Element::Float16 => 2,
        }
    }
}

/// `ValueInfoProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueInfo {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its type.
    #[prost(message, optional, tag = "2")]
    pub kind: Option<Kind>,
}

/// `TypeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Kind {
    /// A tensor's.
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorKind>,
    /// A sequence's, encoded.
    #[prost(bytes = "vec", optional, tag = "4")]
    pub sequence: Option<Vec<u8>>,
    /// A map's, encoded.
    #[prost(bytes = "vec", optional, tag = "5")]
    pub map: Option<Vec<u8>>,
    /// A sparse tensor's, encoded.
    #[prost(bytes = "vec", optional, tag = "8")]
    pub sparse_tensor: Option<Vec<u8>>,
    /// An optional value's, encoded.
    #[prost(bytes = "vec", optional, tag = "9")]
    pub optional: Option<Vec<u8>>,
}

/// `TypeProto.Tensor`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorKind {
    /// The type of its elements.
    #[prost(enumeration = "Element", tag = "1")]
    pub element: i32,
    /// Its shape.
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
}

/// `TensorShapeProto`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Shape {
    /// The dimensions, outermost first.
    #[prost(message, repeated, tag = "1")]
    pub dims: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Dimension {
    /// The size or name, if known.
    #[prost(oneof = "Extent", tags = "1, 2")]
    pub extent: Option<Extent>,
}

/// The size of a dimension, or its name.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Extent {
    /// Its size.
    #[prost(int64, tag = "1")]
    Value(i64),
    /// The name of a size that differs from pass to pass.
    #[prost(string, tag = "2")]
    Name(String),
}
