//! A bounds-checked reader of the GGUF header: metadata and tensor table.
//!
//! GGUF is the container in which llama.cpp and its relatives keep quantized models: a header with typed metadata
//! and a table of tensors, then the tensors' bytes. This crate reads the header (versions 2 and 3, little-endian)
//! and says where in the file each tensor's bytes lie; it never touches the bytes themselves.
//!
//! A model file is untrusted input. Every length is checked against the bytes that are left before anything is
//! allocated, every tensor must lie inside the file and apart from the others, and each failure is a
//! [`GgufError`] that names the key or the tensor. Reading takes time and memory linear in the header, which may
//! be at most [`HEADER_LIMIT`] bytes long (and O(n log n) time in the number of tensors).
//!
//! ```
//! use upcycle_checkpoint::gguf::{GgmlType, Gguf, write::GgufWriter};
//!
//! let file = GgufWriter::new()
//!     .metadata("general.architecture", "llama")
//!     .metadata("llama.block_count", 1_u32)
//!     .tensor("output_norm.weight", GgmlType::F32, &[2], [0, 0, 128, 63, 0, 0, 128, 63])
//!     .to_bytes()?;
//!
//! let gguf = Gguf::read(&mut std::io::Cursor::new(&file))?;
//! assert_eq!(gguf.string("general.architecture")?, "llama");
//! assert_eq!(gguf.u64("llama.block_count")?, 1);
//! let norm = gguf.tensor("output_norm.weight")?;
//! assert_eq!(&file[norm.offset as usize..][..norm.bytes as usize], [0, 0, 128, 63, 0, 0, 128, 63]);
//!
//! let missing = gguf.u64("llama.context_length").unwrap_err();
//! assert_eq!(missing.to_string(), "metadata key `llama.context_length` is missing; expected an unsigned integer");
//! # Ok::<(), upcycle_checkpoint::gguf::GgufError>(())
//! ```
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

mod architecture;
mod error;
mod hyperparameters;
mod keys;
mod metadata;
mod parts;
mod read;
mod rope;
mod tensor;
mod value;
pub mod write;

use std::collections::{BTreeMap, HashMap};
use std::fmt;

pub use architecture::Architecture;
pub use error::GgufError;
pub use hyperparameters::{HyperparameterError, Hyperparameters, Stated, Window};
pub use parts::Parts;
pub use read::HEADER_LIMIT;
pub use rope::{RopeLayout, RopeScaling};
pub use tensor::{GgmlType, MAX_DIMENSIONS, TensorInfo};
pub use value::{Array, StringArray, Value, ValueType};

/// The metadata key that sets the alignment of tensor data.
const ALIGNMENT_KEY: &str = "general.alignment";
/// The alignment of tensor data, in bytes, where the file does not say.
const DEFAULT_ALIGNMENT: u32 = 32;

/// The header of a GGUF file, checked: see the [crate's page](crate).
#[derive(Clone, PartialEq)]
pub struct Gguf {
    version: u32,
    alignment: u64,
    file_len: u64,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<TensorInfo>,
    tensor_index: HashMap<String, usize>,
}

impl Gguf {
    /// The version of the format, 2 or 3.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The alignment of tensor data, in bytes: a power of two.
    #[must_use]
    pub const fn alignment(&self) -> u64 {
        self.alignment
    }

    /// The length of the file when it was read, in bytes.
    #[must_use]
    pub const fn file_len(&self) -> u64 {
        self.file_len
    }

    /// The tensors in the order of the file's table.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name, if there is one. O(1).
    #[must_use]
    pub fn get_tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensor_index.get(name).map(|&index| &self.tensors[index])
    }

    /// The tensor of this name. O(1).
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`] where there is none.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.get_tensor(name)
            .ok_or_else(|| GgufError::MissingTensor { tensor: name.to_owned(), count: self.tensors.len() })
    }
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Metadata hold whole vocabularies, so only the counts are shown.
        f.debug_struct("Gguf")
            .field("version", &self.version)
            .field("alignment", &self.alignment)
            .field("file_len", &self.file_len)
            .field("metadata", &self.metadata.len())
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}
