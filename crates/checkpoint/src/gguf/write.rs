//! Writes small GGUF files, for tests and tools that make tiny models.

use std::collections::HashSet;
use std::io::Write;

use crate::gguf::error::GgufError;
use crate::gguf::header::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT};
use crate::gguf::table::byte_size;
use crate::gguf::tensor::GgmlType;
use crate::gguf::value::{Array, Value};

/// Builds a little-endian GGUF file of version 3, in memory. Tensors keep the order in which they were added.
///
/// [`to_bytes`](Self::to_bytes) and [`write_to`](Self::write_to) check the contents.
///
/// ```
/// use upcycle_checkpoint::gguf::{GgmlType, write::GgufWriter};
///
/// let error = GgufWriter::new().tensor("norm", GgmlType::F32, &[3], [0; 8]).to_bytes().unwrap_err();
/// assert_eq!(error.to_string(), "tensor `norm`: F32 of shape [3] takes 12 bytes, but 8 were given");
/// ```
#[derive(Debug, Clone, Default)]
pub struct GgufWriter {
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

#[derive(Debug, Clone)]
struct Tensor {
    name: String,
    dtype: GgmlType,
    shape: Vec<u64>,
    bytes: Vec<u8>,
}

impl GgufWriter {
    /// An empty file.
    #[must_use]
    pub const fn new() -> Self {
        Self { metadata: Vec::new(), tensors: Vec::new() }
    }

    /// Adds a metadata entry. A `u32` under `general.alignment` sets the alignment of tensor data (default 32).
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.push((key.into(), value.into()));
        self
    }

    /// Adds a tensor. `shape` has the innermost dimension first; `bytes` is the data in the file.
    #[must_use]
    pub fn tensor(
        mut self,
        name: impl Into<String>,
        dtype: GgmlType,
        shape: &[u64],
        bytes: impl Into<Vec<u8>>,
    ) -> Self {
        self.tensors.push(Tensor { name: name.into(), dtype, shape: shape.to_vec(), bytes: bytes.into() });
        self
    }

    /// Splits the model into `count` files like llama.cpp's `llama-gguf-split`: metadata in the first, tensors spread over all.
    #[must_use]
    pub fn split(&self, count: u16) -> Vec<Self> {
        let each = self.tensors.len().div_ceil(usize::from(count).max(1)).max(1);
        let mut tensors = self.tensors.chunks(each);
        let all = self.tensors.len() as i32;
        let part = |number| {
            let metadata = if number == 0 { self.metadata.clone() } else { Vec::new() };
            let tensors = tensors.next().map(<[Tensor]>::to_vec).unwrap_or_default();
            Self { metadata, tensors }
                .metadata("split.no", number)
                .metadata("split.count", count)
                .metadata("split.tensors.count", all)
        };
        (0..count).map(part).collect()
    }

    /// The file as bytes.
    ///
    /// # Errors
    /// A key or tensor name occurs twice, the alignment is not a power of two, or a tensor's bytes do not match its type and shape.
    pub fn to_bytes(&self) -> Result<Vec<u8>, GgufError> {
        let alignment = self.check()?;
        let mut out = Vec::new();
        out.extend(b"GGUF");
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            put_string(&mut out, key);
            out.extend(value.value_type().id().to_le_bytes());
            put_value(&mut out, value);
        }
        let mut offset = 0_u64;
        for tensor in &self.tensors {
            put_string(&mut out, &tensor.name);
            // `check` limits the dimensions to `MAX_DIMENSIONS`.
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            out.extend(tensor.shape.iter().flat_map(|dimension| dimension.to_le_bytes()));
            out.extend(tensor.dtype.id().to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset = (offset + tensor.bytes.len() as u64).next_multiple_of(alignment);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(alignment as usize), 0);
            out.extend(&tensor.bytes);
        }
        Ok(out)
    }

    /// Writes the file.
    ///
    /// # Errors
    /// As for [`to_bytes`](Self::to_bytes), and [`GgufError::Io`] if `out` fails.
    pub fn write_to(&self, out: &mut impl Write) -> Result<(), GgufError> {
        let bytes = self.to_bytes()?;
        out.write_all(&bytes)
            .and_then(|()| out.flush())
            .map_err(|source| GgufError::Io { what: "writing a GGUF file".to_owned(), source })
    }

    /// Checks the contents, and returns the alignment.
    fn check(&self) -> Result<u64, GgufError> {
        let mut alignment = DEFAULT_ALIGNMENT;
        let mut keys = HashSet::new();
        for (key, value) in &self.metadata {
            if !keys.insert(key) {
                return Err(GgufError::DuplicateKey { key: key.clone() });
            }
            if key == ALIGNMENT_KEY {
                let &Value::U32(found) = value else {
                    let (expected, found) = ("u32", value.value_type());
                    return Err(GgufError::WrongType { key: key.clone(), expected, found });
                };
                if !found.is_power_of_two() {
                    return Err(GgufError::InvalidAlignment { found });
                }
                alignment = found;
            }
        }
        let mut names = HashSet::new();
        for Tensor { name, dtype, shape, bytes } in &self.tensors {
            if !names.insert(name) {
                return Err(GgufError::DuplicateTensor { tensor: name.clone() });
            }
            let expected = byte_size(name, *dtype, shape)?;
            let found = bytes.len() as u64;
            if found != expected {
                let (tensor, dtype, shape) = (name.clone(), *dtype, shape.clone());
                return Err(GgufError::WrongByteCount { tensor, dtype, shape, expected, found });
            }
        }
        Ok(alignment.into())
    }
}

fn put_string(out: &mut Vec<u8>, string: &str) {
    out.extend((string.len() as u64).to_le_bytes());
    out.extend(string.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(value) => out.extend(value.to_le_bytes()),
        Value::I8(value) => out.extend(value.to_le_bytes()),
        Value::U16(value) => out.extend(value.to_le_bytes()),
        Value::I16(value) => out.extend(value.to_le_bytes()),
        Value::U32(value) => out.extend(value.to_le_bytes()),
        Value::I32(value) => out.extend(value.to_le_bytes()),
        Value::F32(value) => out.extend(value.to_le_bytes()),
        Value::U64(value) => out.extend(value.to_le_bytes()),
        Value::I64(value) => out.extend(value.to_le_bytes()),
        Value::F64(value) => out.extend(value.to_le_bytes()),
        Value::Bool(value) => out.push((*value).into()),
        Value::String(value) => put_string(out, value),
        Value::Array(array) => put_array(out, array),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    out.extend(array.element_type().id().to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(values) => out.extend(values),
        Array::I8(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Array::U16(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Array::I16(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Array::U32(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Array::I32(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Array::F32(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Array::U64(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Array::I64(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Array::F64(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
        Array::Bool(values) => out.extend(values.iter().map(|&value| u8::from(value))),
        Array::String(values) => values.iter().for_each(|string| put_string(out, string)),
        Array::Array(values) => values.iter().for_each(|array| put_array(out, array)),
    }
}
