use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::error::CheckpointError;
use crate::safetensors;

impl Checkpoint {
    /// Opens a GGUF file, or a folder with a `config.json` and safetensors (or a file of such a folder).
    ///
    /// # Errors
    /// [`CheckpointError`]: a file cannot be read, is invalid, or contains an unsupported model.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        match safetensors::folder_of(path) {
            Some(folder) => Self::open_folder(folder),
            None => Self::open_gguf(path),
        }
    }
}
