use std::path::PathBuf;

use crate::gguf::tensor::GgmlType;
use crate::gguf::value::ValueType;

/// Why a GGUF file could not be read, written or asked.
///
/// Every message says what was expected, what was found, and what to do where something can be done. Numbers
/// called `offset` count bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file could not be opened.
    #[error("cannot open the GGUF file {path}: {source}; check that the path is right and readable", path = path.display())]
    Open {
        /// The path that was tried.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Reading, seeking or writing failed.
    #[error("input or output failed at {what}: {source}")]
    Io {
        /// What was being read or written.
        what: String,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The first four bytes are not `GGUF`.
    #[error(
        "expected a GGUF file, which starts with the bytes `GGUF`, found `{found}`; \
         other formats (safetensors, GGML, PyTorch) must be converted to GGUF first",
        found = found.escape_ascii()
    )]
    NotGguf {
        /// The first bytes of the file, fewer than four if it is shorter.
        found: Vec<u8>,
    },
    /// The file was written for a big-endian machine.
    #[error(
        "this GGUF file is big-endian (version {version}); only little-endian files are read: \
         convert it with llama.cpp's `gguf_convert_endian.py`, or fetch the little-endian file"
    )]
    BigEndian {
        /// The version, as a big-endian reader sees it.
        version: u32,
    },
    /// GGUF version 1, whose lengths are 32 bits wide.
    #[error(
        "this GGUF file has version 1, which was replaced in 2023; expected version 2 or 3: convert the model again"
    )]
    Version1,
    /// A version that is not known.
    #[error("expected GGUF version 2 or 3, found {found}; a newer upcycle may read it")]
    UnsupportedVersion {
        /// The version in the file.
        found: u32,
    },
    /// The file is one part of a split model.
    #[error(
        "this GGUF file is one of {count} parts of a split model; expected a whole model: \
         join the parts with llama.cpp's `llama-gguf-split --merge`, or use the backend `llama-cpp`, which reads them"
    )]
    Split {
        /// The number of parts, from `split.count`.
        count: u64,
    },
    /// The file is a later part of a split model.
    #[error(
        "this GGUF file is part {number} of {count} of a split model; expected the first, which holds the metadata: \
         name the file that ends in `-00001-of-{count:05}.gguf`"
    )]
    NotFirstPart {
        /// Which part it is, from 1.
        number: u64,
        /// The number of parts.
        count: u64,
    },
    /// The first part of a split model has another name, so that the others cannot be found.
    #[error(
        "{path} is the first of {count} parts of a model; expected a name that ends in `-00001-of-{count:05}.gguf`, by which \
         the others are found: give all parts the names that they were made with",
        path = path.display()
    )]
    PartName {
        /// The first part.
        path: PathBuf,
        /// The number of parts.
        count: u64,
    },
    /// A part of a split model is missing or damaged.
    #[error(
        "{path}, one of {count} parts of the model, cannot be used: {source}; all parts must lie in one folder",
        path = path.display()
    )]
    Part {
        /// The part.
        path: PathBuf,
        /// The number of parts.
        count: u64,
        /// Why not.
        source: Box<GgufError>,
    },
    /// A file has the name of a part that it is not.
    #[error(
        "{path} is not part {number} of {count} of a model, as its name says; fetch it again",
        path = path.display()
    )]
    OtherPart {
        /// The file.
        path: PathBuf,
        /// Which part its name says, from 1.
        number: u64,
        /// The number of parts.
        count: u64,
    },
    /// A length in the file asks for more bytes than are left.
    #[error(
        "{what} at offset {offset} needs {needed} bytes, but only {available} are left; \
         the file is cut short or damaged: fetch it again"
    )]
    OutOfBytes {
        /// What was being read.
        what: String,
        /// Where it starts.
        offset: u64,
        /// How many bytes it needs (saturated).
        needed: u64,
        /// How many bytes are left in the file, or below the header limit.
        available: u64,
    },
    /// A string is not UTF-8.
    #[error("{what} at offset {offset} is not valid UTF-8; the file is damaged: fetch it again")]
    InvalidUtf8 {
        /// What was being read.
        what: String,
        /// Where the string's bytes start.
        offset: u64,
    },
    /// A metadata value has a type number that GGUF does not define.
    #[error(
        "metadata key `{key}`: expected a value type from 0 to 12, found {found}; the file is damaged or newer than this reader"
    )]
    UnknownValueType {
        /// The metadata key.
        key: String,
        /// The number in the file.
        found: u32,
    },
    /// A boolean is neither 0 nor 1.
    #[error("metadata key `{key}`: expected a boolean (0 or 1), found {found}; the file is damaged")]
    InvalidBool {
        /// The metadata key.
        key: String,
        /// The byte in the file.
        found: u8,
    },
    /// Arrays of arrays of arrays, deeper than anything sensible.
    #[error("metadata key `{key}`: arrays are nested deeper than {limit}; the file is damaged")]
    NestedTooDeep {
        /// The metadata key.
        key: String,
        /// The deepest nesting that is read.
        limit: usize,
    },
    /// A metadata key stands twice.
    #[error("metadata key `{key}` stands twice in the file; expected each key once")]
    DuplicateKey {
        /// The metadata key.
        key: String,
    },
    /// `general.alignment` cannot be an alignment.
    #[error("`general.alignment`: expected a power of two, found {found}")]
    InvalidAlignment {
        /// The value in the file.
        found: u32,
    },
    /// A tensor name stands twice.
    #[error("tensor `{tensor}` stands twice in the file; expected each name once")]
    DuplicateTensor {
        /// The tensor's name.
        tensor: String,
    },
    /// A tensor has a type number that is not known.
    #[error(
        "tensor `{tensor}`: unknown tensor type {found}; the file may use a quantization that is newer than \
         this reader, or one that was withdrawn: convert the model to a common type such as Q8_0 or Q4_K"
    )]
    UnknownTensorType {
        /// The tensor's name.
        tensor: String,
        /// The number in the file.
        found: u32,
    },
    /// A tensor has more dimensions than GGUF allows.
    #[error("tensor `{tensor}`: expected at most {limit} dimensions, found {found}")]
    TooManyDimensions {
        /// The tensor's name.
        tensor: String,
        /// The number of dimensions found.
        found: u64,
        /// The most that GGUF allows.
        limit: usize,
    },
    /// A dimension of a tensor is zero.
    #[error("tensor `{tensor}`: expected dimensions of at least 1, found shape {shape:?}")]
    EmptyTensor {
        /// The tensor's name.
        tensor: String,
        /// The shape, innermost dimension first.
        shape: Vec<u64>,
    },
    /// A row of a quantized tensor is not a whole number of blocks.
    #[error(
        "tensor `{tensor}`: rows of {row} elements are not a whole number of {dtype} blocks of {block} elements"
    )]
    PartialBlock {
        /// The tensor's name.
        tensor: String,
        /// The tensor's type.
        dtype: GgmlType,
        /// The innermost dimension, in elements.
        row: u64,
        /// Elements in a block of `dtype`.
        block: u64,
    },
    /// The size of a tensor does not fit in 64 bits.
    #[error("tensor `{tensor}`: the size of shape {shape:?} does not fit in 64 bits; the file is damaged")]
    TensorTooLarge {
        /// The tensor's name.
        tensor: String,
        /// The shape, innermost dimension first.
        shape: Vec<u64>,
    },
    /// A tensor's data does not start at a multiple of the alignment.
    #[error(
        "tensor `{tensor}`: its data starts {offset} bytes into the data section; expected a multiple of the alignment {alignment}"
    )]
    MisalignedTensor {
        /// The tensor's name.
        tensor: String,
        /// The offset from the start of the data section, in bytes.
        offset: u64,
        /// The file's alignment, in bytes.
        alignment: u64,
    },
    /// A tensor's data ends after the file does.
    #[error(
        "tensor `{tensor}`: its {bytes} bytes at offset {offset} end after the file, which has {file_len}; \
         the file is cut short or damaged: fetch it again"
    )]
    TensorOutOfFile {
        /// The tensor's name.
        tensor: String,
        /// Where the data starts (saturated).
        offset: u64,
        /// How long the data is.
        bytes: u64,
        /// How long the file is.
        file_len: u64,
    },
    /// The data of two tensors share bytes.
    #[error("tensors `{first}` and `{second}` overlap at offset {offset}; the file is damaged")]
    OverlappingTensors {
        /// The tensor that starts first.
        first: String,
        /// The tensor that starts inside the first.
        second: String,
        /// Where the second one starts.
        offset: u64,
    },
    /// The bytes given for a tensor are not as many as its type and shape say.
    #[error("tensor `{tensor}`: {dtype} of shape {shape:?} takes {expected} bytes, but {found} were given")]
    WrongByteCount {
        /// The tensor's name.
        tensor: String,
        /// The tensor's type.
        dtype: GgmlType,
        /// The shape, innermost dimension first.
        shape: Vec<u64>,
        /// How many bytes type and shape ask for.
        expected: u64,
        /// How many were given.
        found: u64,
    },
    /// A key that is needed is not in the metadata.
    #[error("metadata key `{key}` is missing; expected {expected}")]
    MissingKey {
        /// The metadata key.
        key: String,
        /// The type that was asked for.
        expected: &'static str,
    },
    /// A metadata value has another type than was asked for.
    #[error("metadata key `{key}`: expected {expected}, found {found}")]
    WrongType {
        /// The metadata key.
        key: String,
        /// The type that was asked for.
        expected: &'static str,
        /// The type in the file.
        found: ValueType,
    },
    /// A metadata number does not fit into the type that was asked for.
    #[error("metadata key `{key}`: expected {expected}, found {found}, which does not fit")]
    OutOfRange {
        /// The metadata key.
        key: String,
        /// The type that was asked for.
        expected: &'static str,
        /// The number in the file.
        found: String,
    },
    /// A tensor that is needed is not in the file.
    #[error("tensor `{tensor}` is missing; the file holds {count} tensors, but not this one")]
    MissingTensor {
        /// The tensor's name.
        tensor: String,
        /// How many tensors there are.
        count: usize,
    },
}
