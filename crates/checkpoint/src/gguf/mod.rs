//! A bounds-checked reader of [GGUF](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md) headers.
//!
//! GGUF is llama.cpp's file format for models: a header with typed metadata and a table of tensors, followed by the tensors' bytes.
//! This module reads the header (versions 2 and 3, little-endian), not the tensors.
//!
//! A model file is untrusted input. Every length is checked against the remaining bytes before memory is allocated. Tensors must
//! lie inside the file and must not overlap. Errors name the key or tensor. Time and memory are linear in the length of the header
//! (O(n log n) in the number of tensors), which is at most [`HEADER_LIMIT`].
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

mod error;
mod header;
mod metadata;
mod read;
mod split_files;
mod table;
mod tensor;
mod value;
pub mod write;

pub use error::GgufError;
pub use header::Gguf;
pub use read::{FAULT_LIMIT, HEADER_LIMIT};
pub use split_files::SplitFiles;
pub use tensor::{GgmlType, MAX_DIMENSIONS, TensorInfo};
pub use value::{Array, StringArray, Value, ValueType};
