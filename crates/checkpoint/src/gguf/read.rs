//! Reads a header.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::gguf::error::GgufError;
use crate::gguf::header::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT, Gguf};
use crate::gguf::table::{byte_size, resolve_offsets};
use crate::gguf::tensor::{GgmlType, MAX_DIMENSIONS, TensorInfo};
use crate::gguf::value::{Array, StringArray, Value, ValueType};

/// The longest header allowed, in bytes: 1 GiB.
///
/// Real headers have 1 to 20 MB. Without a limit, a corrupted length in a large file could request as much memory as the file is
/// long.
pub const HEADER_LIMIT: u64 = 1 << 30;

/// The most faults that [`Gguf::open_lenient`] lists.
pub const FAULT_LIMIT: usize = 64;

/// The deepest nesting of arrays allowed, so that no file exhausts the stack.
const NESTING_LIMIT: usize = 8;

/// The smallest metadata entry: an empty key, a type and a value of one byte.
const MIN_ENTRY_BYTES: u64 = 8 + 4 + 1;
/// The smallest tensor entry: an empty name, no dimensions, a type and an offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// The most elements or bytes to allocate before reading them.
const PREALLOCATED: u64 = 1 << 16;

impl Gguf {
    /// Reads the header of a file with a whole model.
    ///
    /// # Errors
    /// The file cannot be opened, or as for [`read`](Self::read).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, GgufError> {
        open_any(path.as_ref())?.expect_whole()
    }

    /// Reads a header from position 0 of `reader`, which need not be buffered. Its position afterwards is unspecified.
    ///
    /// Time and memory are linear in the length of the header.
    ///
    /// # Errors
    /// The input cannot be read, or is not a valid GGUF file of version 2 or 3 with a whole model: see [`GgufError`].
    pub fn read<R: Read + Seek>(reader: &mut R) -> Result<Self, GgufError> {
        Self::read_any(reader, &mut Faults::Refused)?.expect_whole()
    }

    /// Reads the header of a whole model, or of the first part of a split one, which contains the model's metadata and some of its
    /// tensors. [`SplitFiles`](crate::gguf::SplitFiles) reads all parts.
    ///
    /// # Errors
    /// [`GgufError::NotFirstPart`], or as for [`open`](Self::open).
    pub fn open_first(path: impl AsRef<Path>) -> Result<Self, GgufError> {
        open_any(path.as_ref())?.expect_first()
    }

    /// As [`open_first`](Self::open_first), for an engine that reads the file itself and may accept more than this reader does.
    /// Skips what it cannot represent, and returns the reasons beside the header.
    ///
    /// | in the file | in the header |
    /// |---|---|
    /// | a string that is not UTF-8 | the string with U+FFFD for invalid bytes |
    /// | a boolean other than 0 and 1 | `true` |
    /// | a key or a tensor name that is not UTF-8 | left out |
    /// | a tensor of an unknown type, or with a dimension of zero | left out |
    ///
    /// The list holds at most [`FAULT_LIMIT`] reasons.
    ///
    /// # Errors
    /// As for [`open_first`](Self::open_first), for all other faults.
    pub fn open_lenient(path: impl AsRef<Path>) -> Result<(Self, Vec<GgufError>), GgufError> {
        let (gguf, faults) = open_any_lenient(path.as_ref())?;
        Ok((gguf.expect_first()?, faults))
    }

    pub(super) fn expect_first(self) -> Result<Self, GgufError> {
        match self.split_part() {
            Some(part) if part.number > 0 => {
                Err(GgufError::NotFirstPart { number: part.number.saturating_add(1), count: part.count })
            }
            _ => Ok(self),
        }
    }

    fn expect_whole(self) -> Result<Self, GgufError> {
        match self.split_part() {
            Some(part) => Err(GgufError::Split { count: part.count }),
            None => Ok(self),
        }
    }

    /// Reads the header of a whole model or of a part.
    fn read_any<R: Read + Seek>(reader: &mut R, faults: &mut Faults) -> Result<Self, GgufError> {
        let mut header = HeaderReader::new(reader, faults)?;
        let version = header.preamble()?;
        let tensor_count = header.u64(&"the number of tensors")?;
        let entry_count = header.u64(&"the number of metadata entries")?;

        header.expect_remaining(&"the metadata", entry_count, MIN_ENTRY_BYTES)?;
        let mut metadata = BTreeMap::new();
        for index in 0..entry_count {
            let (key, valid) = header.string_or_fault(&format_args!("metadata key {index}"))?;
            let value = header.value(&key)?;
            if !valid {
                continue;
            }
            if metadata.contains_key(&key) {
                return Err(GgufError::DuplicateKey { key });
            }
            metadata.insert(key, value);
        }
        let alignment = alignment(&metadata)?;

        header.expect_remaining(&"the tensor table", tensor_count, MIN_TENSOR_BYTES)?;
        let mut tensors = Vec::with_capacity(tensor_count.min(PREALLOCATED) as usize);
        let mut tensor_index = HashMap::new();
        for index in 0..tensor_count {
            let Some(tensor) = header.tensor(index, alignment)? else { continue };
            if tensor_index.insert(tensor.name.clone(), tensors.len()).is_some() {
                return Err(GgufError::DuplicateTensor { tensor: tensor.name });
            }
            tensors.push(tensor);
        }
        resolve_offsets(&mut tensors, header.position, alignment, header.len)?;
        Ok(Self { version, alignment, file_len: header.len, metadata, tensors, tensor_index })
    }
}

/// Reads the header of a file with a whole model or a part.
pub(super) fn open_any(path: &Path) -> Result<Gguf, GgufError> {
    Gguf::read_any(&mut open_file(path)?, &mut Faults::Refused)
}

/// As [`open_any`], and passes on the faults that [`Gguf::open_lenient`] names.
pub(super) fn open_any_lenient(path: &Path) -> Result<(Gguf, Vec<GgufError>), GgufError> {
    let mut faults = Faults::Listed(Vec::new());
    let gguf = Gguf::read_any(&mut open_file(path)?, &mut faults)?;
    Ok((gguf, faults.into_list()))
}

fn open_file(path: &Path) -> Result<File, GgufError> {
    File::open(path).map_err(|source| GgufError::Open { path: path.to_owned(), source })
}

/// What to do about a fault after which the header can still be read.
enum Faults {
    /// The read fails.
    Refused,
    /// It is listed.
    Listed(Vec<GgufError>),
}

impl Faults {
    fn add(&mut self, fault: GgufError) -> Result<(), GgufError> {
        match self {
            Self::Refused => Err(fault),
            Self::Listed(list) => {
                if list.len() < FAULT_LIMIT {
                    list.push(fault);
                }
                Ok(())
            }
        }
    }

    fn into_list(self) -> Vec<GgufError> {
        match self {
            Self::Refused => Vec::new(),
            Self::Listed(list) => list,
        }
    }
}

/// The alignment of tensor data according to the metadata.
fn alignment(metadata: &BTreeMap<String, Value>) -> Result<u64, GgufError> {
    match metadata.get(ALIGNMENT_KEY) {
        None => Ok(DEFAULT_ALIGNMENT.into()),
        Some(&Value::U32(found)) if found.is_power_of_two() => Ok(found.into()),
        Some(&Value::U32(found)) => Err(GgufError::InvalidAlignment { found }),
        Some(other) => Err(GgufError::WrongType {
            key: ALIGNMENT_KEY.to_owned(),
            expected: "u32",
            found: other.value_type(),
        }),
    }
}

/// Reads values of a header, and checks each length against the remaining bytes.
struct HeaderReader<'r, R> {
    reader: BufReader<&'r mut R>,
    faults: &'r mut Faults,
    position: u64,
    /// The length of the file.
    len: u64,
    /// The latest end of the header.
    end: u64,
}

impl<'r, R: Read + Seek> HeaderReader<'r, R> {
    fn new(reader: &'r mut R, faults: &'r mut Faults) -> Result<Self, GgufError> {
        let io = |source| GgufError::Io { what: "finding the length of the file".to_owned(), source };
        let len = reader.seek(SeekFrom::End(0)).map_err(io)?;
        reader.seek(SeekFrom::Start(0)).map_err(io)?;
        let reader = BufReader::with_capacity(1 << 16, reader);
        Ok(Self { reader, faults, position: 0, len, end: len.min(HEADER_LIMIT) })
    }

    /// Reads magic and version.
    fn preamble(&mut self) -> Result<u32, GgufError> {
        let magic = self.bytes(&"the magic bytes", self.end.min(4))?;
        if magic != b"GGUF" {
            return Err(GgufError::NotGguf { found: magic });
        }
        let version = self.u32(&"the version")?;
        match version {
            2 | 3 => Ok(version),
            1 => Err(GgufError::Version1),
            // A small number in the wrong byte order has an empty low half.
            _ if version != 0 && version & 0xffff == 0 => {
                Err(GgufError::BigEndian { version: version.swap_bytes() })
            }
            found => Err(GgufError::UnsupportedVersion { found }),
        }
    }

    /// Checks that `count` items of at least `each` bytes remain.
    fn expect_remaining(&self, what: &dyn Display, count: u64, each: u64) -> Result<(), GgufError> {
        let needed = count.saturating_mul(each);
        let available = self.end - self.position;
        if needed > available {
            return Err(GgufError::OutOfBytes {
                what: what.to_string(),
                offset: self.position,
                needed,
                available,
            });
        }
        Ok(())
    }

    fn array<const N: usize>(&mut self, what: &dyn Display) -> Result<[u8; N], GgufError> {
        self.expect_remaining(what, 1, N as u64)?;
        let mut bytes = [0; N];
        self.reader
            .read_exact(&mut bytes)
            .map_err(|source| GgufError::Io { what: what.to_string(), source })?;
        self.position += N as u64;
        Ok(bytes)
    }

    fn bytes(&mut self, what: &dyn Display, count: u64) -> Result<Vec<u8>, GgufError> {
        let io = |source| GgufError::Io { what: what.to_string(), source };
        self.expect_remaining(what, count, 1)?;
        let mut bytes = Vec::with_capacity(count.min(PREALLOCATED) as usize);
        let read = (&mut self.reader).take(count).read_to_end(&mut bytes).map_err(io)?;
        if read as u64 != count {
            return Err(io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        self.position += count;
        Ok(bytes)
    }

    fn u32(&mut self, what: &dyn Display) -> Result<u32, GgufError> {
        self.array(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &dyn Display) -> Result<u64, GgufError> {
        self.array(what).map(u64::from_le_bytes)
    }

    fn string(&mut self, what: &dyn Display) -> Result<String, GgufError> {
        self.string_or_fault(what).map(|(string, _)| string)
    }

    /// Reads a string, and returns whether it is UTF-8.
    fn string_or_fault(&mut self, what: &dyn Display) -> Result<(String, bool), GgufError> {
        let len = self.u64(what)?;
        let offset = self.position;
        let bytes = self.bytes(what, len)?;
        match String::from_utf8(bytes) {
            Ok(string) => Ok((string, true)),
            Err(error) => {
                self.faults.add(GgufError::InvalidUtf8 { what: what.to_string(), offset })?;
                Ok((String::from_utf8_lossy(error.as_bytes()).into_owned(), false))
            }
        }
    }

    fn value_type(&mut self, key: &str) -> Result<ValueType, GgufError> {
        let found = self.u32(&format_args!("the type of `{key}`"))?;
        ValueType::from_id(found).ok_or_else(|| GgufError::UnknownValueType { key: key.to_owned(), found })
    }

    fn bool(&mut self, key: &str) -> Result<bool, GgufError> {
        match self.array(&format_args!("the value of `{key}`"))? {
            [0] => Ok(false),
            [1] => Ok(true),
            [found] => {
                self.faults.add(GgufError::InvalidBool { key: key.to_owned(), found })?;
                Ok(true)
            }
        }
    }

    /// Reads the type and value of a metadata entry.
    fn value(&mut self, key: &str) -> Result<Value, GgufError> {
        let value_type = self.value_type(key)?;
        let what = format_args!("the value of `{key}`");
        Ok(match value_type {
            ValueType::U8 => Value::U8(u8::from_le_bytes(self.array(&what)?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(self.array(&what)?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(self.array(&what)?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(self.array(&what)?)),
            ValueType::U32 => Value::U32(u32::from_le_bytes(self.array(&what)?)),
            ValueType::I32 => Value::I32(i32::from_le_bytes(self.array(&what)?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(self.array(&what)?)),
            ValueType::U64 => Value::U64(u64::from_le_bytes(self.array(&what)?)),
            ValueType::I64 => Value::I64(i64::from_le_bytes(self.array(&what)?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(self.array(&what)?)),
            ValueType::Bool => Value::Bool(self.bool(key)?),
            ValueType::String => Value::String(self.string(&what)?),
            ValueType::Array => Value::Array(self.values(key, 1)?),
        })
    }

    /// Reads an array: the type, the number and the values of its elements.
    fn values(&mut self, key: &str, depth: usize) -> Result<Array, GgufError> {
        if depth > NESTING_LIMIT {
            return Err(GgufError::NestedTooDeep { key: key.to_owned(), limit: NESTING_LIMIT });
        }
        let element = self.value_type(key)?;
        let count = self.u64(&format_args!("the length of `{key}`"))?;
        Ok(match element {
            ValueType::U8 => Array::U8(self.scalars(key, count, u8::from_le_bytes)?),
            ValueType::I8 => Array::I8(self.scalars(key, count, i8::from_le_bytes)?),
            ValueType::U16 => Array::U16(self.scalars(key, count, u16::from_le_bytes)?),
            ValueType::I16 => Array::I16(self.scalars(key, count, i16::from_le_bytes)?),
            ValueType::U32 => Array::U32(self.scalars(key, count, u32::from_le_bytes)?),
            ValueType::I32 => Array::I32(self.scalars(key, count, i32::from_le_bytes)?),
            ValueType::F32 => Array::F32(self.scalars(key, count, f32::from_le_bytes)?),
            ValueType::U64 => Array::U64(self.scalars(key, count, u64::from_le_bytes)?),
            ValueType::I64 => Array::I64(self.scalars(key, count, i64::from_le_bytes)?),
            ValueType::F64 => Array::F64(self.scalars(key, count, f64::from_le_bytes)?),
            ValueType::Bool => {
                self.expect_remaining(&format_args!("the value of `{key}`"), count, 1)?;
                Array::Bool((0..count).map(|_| self.bool(key)).collect::<Result<_, _>>()?)
            }
            ValueType::String => {
                self.expect_remaining(&format_args!("the value of `{key}`"), count, 8)?;
                let mut strings = StringArray::new();
                for index in 0..count {
                    strings.push(&self.string(&format_args!("string {index} of `{key}`"))?);
                }
                Array::String(strings)
            }
            ValueType::Array => {
                self.expect_remaining(&format_args!("the value of `{key}`"), count, 4 + 8)?;
                Array::Array((0..count).map(|_| self.values(key, depth + 1)).collect::<Result<_, _>>()?)
            }
        })
    }

    fn scalars<const N: usize, T>(
        &mut self,
        key: &str,
        count: u64,
        decode: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, GgufError> {
        let what = format_args!("the value of `{key}`");
        self.expect_remaining(&what, count, N as u64)?;
        let mut values = Vec::with_capacity(count.min(PREALLOCATED) as usize);
        for _ in 0..count {
            values.push(decode(self.array(&what)?));
        }
        Ok(values)
    }

    /// Reads an entry of the tensor table; none for one that is left out. Its offset still counts from the start of the data
    /// section.
    fn tensor(&mut self, index: u64, alignment: u64) -> Result<Option<TensorInfo>, GgufError> {
        let (name, valid) = self.string_or_fault(&format_args!("the name of tensor {index}"))?;
        let what = format_args!("tensor `{name}`");
        let dimensions = self.u32(&what)?;
        if dimensions as usize > MAX_DIMENSIONS {
            let found = dimensions.into();
            return Err(GgufError::TooManyDimensions { tensor: name, found, limit: MAX_DIMENSIONS });
        }
        let shape = (0..dimensions).map(|_| self.u64(&what)).collect::<Result<Vec<_>, _>>()?;
        let id = self.u32(&what)?;
        let offset = self.u64(&what)?;
        let Some(dtype) = GgmlType::from_id(id) else {
            self.faults.add(GgufError::UnknownTensorType { tensor: name, found: id })?;
            return Ok(None);
        };
        if !offset.is_multiple_of(alignment) {
            return Err(GgufError::MisalignedTensor { tensor: name, offset, alignment });
        }
        let bytes = match byte_size(&name, dtype, &shape) {
            Err(fault @ GgufError::EmptyTensor { .. }) => {
                self.faults.add(fault)?;
                return Ok(None);
            }
            bytes => bytes?,
        };
        Ok(valid.then_some(TensorInfo { name, dtype, shape, offset, bytes }))
    }
}
