use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::gguf::error::GgufError;
use crate::gguf::tensor::TensorInfo;
use crate::gguf::value::Value;

/// The metadata key with the alignment of tensor data.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
/// The default alignment of tensor data, in bytes.
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;

/// The checked header of a GGUF file: see the [module's page](crate::gguf).
#[derive(Clone, PartialEq)]
pub struct Gguf {
    pub(super) version: u32,
    pub(super) alignment: u64,
    pub(super) file_len: u64,
    pub(super) metadata: BTreeMap<String, Value>,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) tensor_index: HashMap<String, usize>,
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

    /// The length of the file, in bytes.
    #[must_use]
    pub const fn file_len(&self) -> u64 {
        self.file_len
    }

    /// The tensors, in file order.
    #[must_use]
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor with this name, if there is one. O(1).
    #[must_use]
    pub fn get_tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensor_index.get(name).map(|&index| &self.tensors[index])
    }

    /// The tensor with this name. O(1).
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`].
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo, GgufError> {
        self.get_tensor(name)
            .ok_or_else(|| GgufError::MissingTensor { tensor: name.to_owned(), count: self.tensors.len() })
    }
}

/// The position of a file among the parts of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SplitPart {
    /// From 0.
    pub(super) number: u64,
    /// At least 2.
    pub(super) count: u64,
}

impl Gguf {
    /// Which part of a model the file is, `None` if it is a whole model.
    pub(super) fn split_part(&self) -> Option<SplitPart> {
        let number = |key: &str| self.metadata.get(key).and_then(Value::as_integer);
        let clamp = |number: i128| u64::try_from(number.max(0)).unwrap_or(u64::MAX);
        let count = number("split.count").filter(|&count| count > 1)?;
        Some(SplitPart { number: clamp(number("split.no").unwrap_or(0)), count: clamp(count) })
    }
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Counts only: metadata contain whole vocabularies.
        f.debug_struct("Gguf")
            .field("version", &self.version)
            .field("alignment", &self.alignment)
            .field("file_len", &self.file_len)
            .field("metadata", &self.metadata.len())
            .field("tensors", &self.tensors.len())
            .finish_non_exhaustive()
    }
}
