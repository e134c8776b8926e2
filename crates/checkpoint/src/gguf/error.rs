use std::path::PathBuf;

use crate::gguf::tensor::GgmlType;
use crate::gguf::value::ValueType;

/// What to do about a file that begins like this.
fn hint(start: &[u8]) -> &'static str {
    match start {
        b"vers" => "this seems to be a pointer of Git LFS: fetch the file itself with `git lfs pull`",
        [b'<', ..] => {
            "this seems to be a web page: on Hugging Face, download from `resolve`, not from `blob`"
        }
        [] => "the file is empty: fetch it again",
        [0, 0, 0, 0] => "the file was not fetched to its end: fetch it again",
        _ => "convert other formats (safetensors, GGML, PyTorch) to GGUF first",
    }
}

/// Why a GGUF file cannot be read or written, or a key or tensor is unavailable.
///
/// An `offset` counts bytes from the start of the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file could not be opened.
    #[error("cannot open the GGUF file {path}: {source}; check that the path is right and readable", path = path.display())]
    Open {
        /// The path that was tried.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// Reading, seeking or writing failed.
    #[error("input or output failed for {what}: {source}")]
    Io {
        /// The item being read or written.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The first four bytes are not `GGUF`.
    #[error(
        "expected a GGUF file, which starts with `GGUF`, found `{found}`; {hint}",
        found = found.escape_ascii(),
        hint = hint(found)
    )]
    NotGguf {
        /// The first four bytes of the file, or fewer if it is shorter.
        found: Vec<u8>,
    },
    /// The file was written for a big-endian machine.
    #[error(
        "this GGUF file is big-endian (version {version}); expected little-endian: \
         convert it with llama.cpp's `gguf_convert_endian.py`, or fetch the little-endian file"
    )]
    BigEndian {
        /// The version, as a big-endian reader sees it.
        version: u32,
    },
    /// GGUF version 1, with 32-bit lengths.
    #[error(
        "this GGUF file has version 1, which was replaced in 2023; expected version 2 or 3: convert the model again"
    )]
    Version1,
    /// An unknown version.
    #[error("expected GGUF version 2 or 3, found {found}; a newer upcycle may read it")]
    UnsupportedVersion {
        /// The version in the file.
        found: u32,
    },
    /// The file is one part of a split model.
    #[error(
        "this GGUF file is one of {count} parts of a split model; expected a whole model: \
         join the parts with llama.cpp's `llama-gguf-split --merge`, or use the backend `llama-cpp`"
    )]
    Split {
        /// The number of parts, from `split.count`.
        count: u64,
    },
    /// The file is a later part of a split model.
    #[error(
        "this GGUF file is part {number} of {count} of a split model; expected the first part, which has the metadata: \
         use the file that ends in `-00001-of-{count:05}.gguf`"
    )]
    NotFirstPart {
        /// The number of the part, from 1.
        number: u64,
        /// The number of parts.
        count: u64,
    },
    /// The first part of a split model has an unexpected name, so the others cannot be found.
    #[error(
        "{path} is the first of {count} parts of a model; expected a name that ends in `-00001-of-{count:05}.gguf`: \
         restore the original names of all parts",
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
        "{path}, one of {count} parts of the model, cannot be used: {source}; put all parts in one folder",
        path = path.display()
    )]
    Part {
        /// The part.
        path: PathBuf,
        /// The number of parts.
        count: u64,
        /// The reason.
        source: Box<GgufError>,
    },
    /// A file is not the part that its name says.
    #[error(
        "{path} is not part {number} of {count} of a model, although its name says so; fetch it again",
        path = path.display()
    )]
    OtherPart {
        /// The file.
        path: PathBuf,
        /// The number of the part according to the name, from 1.
        number: u64,
        /// The number of parts.
        count: u64,
    },
    /// A length in the file exceeds the remaining bytes.
    #[error(
        "{what} at offset {offset} needs {needed} bytes, but only {available} remain; \
         the file is truncated or corrupted: fetch it again"
    )]
    OutOfBytes {
        /// The item being read.
        what: String,
        /// Its start.
        offset: u64,
        /// The bytes it needs (saturated).
        needed: u64,
        /// The bytes that remain in the file, or up to the header limit.
        available: u64,
    },
    /// A string is not UTF-8.
    #[error("{what} at offset {offset} is not valid UTF-8; the file is corrupted: fetch it again")]
    InvalidUtf8 {
        /// The item being read.
        what: String,
        /// The start of the string's bytes.
        offset: u64,
    },
    /// The type number of a metadata value is unknown.
    #[error(
        "metadata key `{key}`: expected a value type from 0 to 12, found {found}; the file is corrupted or newer than this reader"
    )]
    UnknownValueType {
        /// The metadata key.
        key: String,
        /// The number in the file.
        found: u32,
    },
    /// A boolean is neither 0 nor 1.
    #[error("metadata key `{key}`: expected a boolean (0 or 1), found {found}; the file is corrupted")]
    InvalidBool {
        /// The metadata key.
        key: String,
        /// The byte in the file.
        found: u8,
    },
    /// Arrays are nested too deeply.
    #[error(
        "metadata key `{key}`: expected at most {limit} levels of nested arrays, found more; the file is corrupted"
    )]
    NestedTooDeep {
        /// The metadata key.
        key: String,
        /// The deepest nesting allowed.
        limit: usize,
    },
    /// A metadata key occurs twice.
    #[error("metadata key `{key}` occurs twice in the file; expected each key once")]
    DuplicateKey {
        /// The metadata key.
        key: String,
    },
    /// The alignment is not a power of two.
    #[error("`general.alignment`: expected a power of two, found {found}")]
    InvalidAlignment {
        /// The value in the file.
        found: u32,
    },
    /// A tensor name occurs twice.
    #[error("tensor `{tensor}` occurs twice in the file; expected each name once")]
    DuplicateTensor {
        /// The tensor's name.
        tensor: String,
    },
    /// The type number of a tensor is unknown.
    #[error(
        "tensor `{tensor}`: unknown tensor type {found}; the file may use a newer or withdrawn quantization: \
         convert the model to a common type such as Q8_0 or Q4_K"
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
        /// The number of dimensions.
        found: u64,
        /// The limit of GGUF.
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
    /// The size of a tensor exceeds 64 bits.
    #[error("tensor `{tensor}`: the size of shape {shape:?} exceeds 64 bits; the file is corrupted")]
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
    /// A tensor ends after the file.
    #[error(
        "tensor `{tensor}`: its {bytes} bytes at offset {offset} exceed the file's {file_len}; \
         the file is truncated or corrupted: fetch it again"
    )]
    TensorOutOfFile {
        /// The tensor's name.
        tensor: String,
        /// The start of the data (saturated).
        offset: u64,
        /// The length of the data.
        bytes: u64,
        /// The length of the file.
        file_len: u64,
    },
    /// Two tensors overlap.
    #[error("tensors `{first}` and `{second}` overlap at offset {offset}; the file is corrupted")]
    OverlappingTensors {
        /// The tensor that starts first.
        first: String,
        /// The tensor that starts inside the first.
        second: String,
        /// The start of the second.
        offset: u64,
    },
    /// The number of bytes given for a tensor does not match its type and shape.
    #[error("tensor `{tensor}`: {dtype} of shape {shape:?} takes {expected} bytes, but {found} were given")]
    WrongByteCount {
        /// The tensor's name.
        tensor: String,
        /// The tensor's type.
        dtype: GgmlType,
        /// The shape, innermost dimension first.
        shape: Vec<u64>,
        /// The size by type and shape.
        expected: u64,
        /// The bytes given.
        found: u64,
    },
    /// A required metadata key is missing.
    #[error("metadata key `{key}` is missing; expected {expected}")]
    MissingKey {
        /// The metadata key.
        key: String,
        /// The requested type.
        expected: &'static str,
    },
    /// A metadata value has the wrong type.
    #[error("metadata key `{key}`: expected {expected}, found {found}")]
    WrongType {
        /// The metadata key.
        key: String,
        /// The requested type.
        expected: &'static str,
        /// The type in the file.
        found: ValueType,
    },
    /// A metadata number does not fit into the requested type.
    #[error("metadata key `{key}`: expected {expected}, found {found}, which does not fit")]
    OutOfRange {
        /// The metadata key.
        key: String,
        /// The requested type.
        expected: &'static str,
        /// The number in the file.
        found: String,
    },
    /// A required tensor is missing.
    #[error(
        "tensor `{tensor}` is missing among the file's {count} tensors; fetch or convert the model again"
    )]
    MissingTensor {
        /// The tensor's name.
        tensor: String,
        /// The number of tensors in the file.
        count: usize,
    },
}
