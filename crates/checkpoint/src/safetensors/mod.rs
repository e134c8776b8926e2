//! Models in folders with a `config.json` and safetensors.

mod config;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path};

use ::safetensors::tensor::Metadata;
use ::safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use self::config::{Config, Parsed};
use crate::checkpoint::Checkpoint;
use crate::error::CheckpointError;
use crate::file::CheckpointFile;
use crate::gguf::{GgmlType, TensorInfo};
use crate::hyperparameters::invalid;
use crate::tensor_index::TensorIndex;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The folder of safetensors that `path` names, by itself or by a file that only such folders have. `None` for other files.
#[must_use]
pub fn folder_of(path: &Path) -> Option<&Path> {
    let names_folder = path.extension().is_some_and(|extension| extension == "safetensors")
        || path.file_name().is_some_and(|name| name == CONFIG || name == INDEX);
    match path {
        folder if folder.is_dir() => Some(folder),
        file if names_folder => {
            file.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
        }
        _ => None,
    }
}

/// Indexes the tensors in a folder.
fn tensors(folder: &Path) -> Result<TensorIndex, CheckpointError> {
    let mut index =
        TensorIndex::new(folder, |name| names::from_gguf(name).unwrap_or_else(|| name.to_owned()));
    for file in files(folder)? {
        add(&mut index, folder, &file)?;
    }
    Ok(index)
}

impl Checkpoint {
    pub(crate) fn open_folder(folder: &Path) -> Result<Self, CheckpointError> {
        let path = folder.join(CONFIG);
        let config = read_json::<serde_json::Value>(&path)?;
        let architecture = config::architecture(&config)?;
        let config: Config =
            serde_json::from_value(config).map_err(|source| CheckpointError::Json { path, source })?;
        let mut tensors = tensors(folder)?;
        let Parsed { hyperparameters, tied, biased } = config.parse(architecture, tensors.iter().len())?;
        if tied {
            remove_tied_head(&mut tensors)?;
        }
        Ok(Self { hyperparameters, tensors, tied, biased: biased || architecture.is_biased() })
    }
}

/// Removes the head of a model with `tie_word_embeddings`, after a check that it is a copy of the embedding.
fn remove_tied_head(tensors: &mut TensorIndex) -> Result<(), CheckpointError> {
    if !tensors.has("output.weight") {
        return Ok(());
    }
    if !tensors.are_equal("token_embd.weight", "output.weight")? {
        let expected = "false, since `lm_head.weight` differs from the embedding";
        let error = invalid("tie_word_embeddings".to_owned(), expected, true);
        return Err(CheckpointError::Hyperparameters(error));
    }
    tensors.remove("output.weight");
    Ok(())
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    let bytes = fs::read(path).map_err(|source| CheckpointError::File { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| CheckpointError::Json { path: path.to_owned(), source })
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct IndexFile {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// The names of the files that contain tensors.
fn files(folder: &Path) -> Result<BTreeSet<String>, CheckpointError> {
    let path = folder.join(INDEX);
    if folder.join(WEIGHTS).exists() || !path.exists() {
        return Ok(BTreeSet::from([WEIGHTS.to_owned()]));
    }
    let IndexFile { weight_map } = read_json(&path)?;
    let names: BTreeSet<String> = weight_map.into_values().collect();
    let is_file_name = |name: &str| {
        let mut parts = Path::new(name).components();
        matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
    };
    match names.iter().find(|name| !is_file_name(name)) {
        Some(name) => Err(CheckpointError::Index {
            path,
            entry: name.clone(),
            problem: "expected a file in the same folder",
        }),
        None => Ok(names),
    }
}

/// The header of a safetensors file: the start of its data, and its tensors.
fn header(file: &CheckpointFile, path: &Path) -> Result<(usize, Metadata), CheckpointError> {
    const LEN: u64 = size_of::<u64>() as u64;
    /// The limit of the crate `safetensors`.
    const LIMIT: u64 = 100_000_000;
    let invalid = |source| CheckpointError::Safetensors { path: path.to_owned(), source };
    let read = |len: u64| {
        let mut bytes = vec![0; len as usize];
        file.read_into(0, &mut bytes).map(|()| bytes)
    };
    let len = read(file.len().min(LEN))?;
    let len = len.first_chunk().map_or(0, |&bytes| u64::from_le_bytes(bytes));
    // For an impossible length, read only the length itself: the crate reports what is wrong.
    let end = LEN.saturating_add(len);
    let head = read(if len <= LIMIT && end <= file.len() { end } else { file.len().min(LEN) })?;
    match SafeTensors::read_metadata(&head) {
        // The header is valid; the data were not read.
        Ok(_) | Err(SafeTensorError::MetadataIncompleteBuffer) => {}
        Err(source) => return Err(invalid(source)),
    }
    let metadata: Metadata = serde_json::from_slice(&head[LEN as usize..])
        .map_err(|source| invalid(SafeTensorError::InvalidHeaderDeserialization(source)))?;
    if end.checked_add(metadata.data_len() as u64) != Some(file.len()) {
        return Err(invalid(SafeTensorError::MetadataIncompleteBuffer));
    }
    Ok((end as usize, metadata))
}

/// Adds the tensors of a file.
fn add(index: &mut TensorIndex, folder: &Path, file: &str) -> Result<(), CheckpointError> {
    let path = folder.join(file);
    let opened = CheckpointFile::open(&path)?;
    let (start, metadata) = header(&opened, &path)?;
    let number = index.add_file(opened);
    for (name, info) in metadata.tensors() {
        // Old files store rotary frequencies, which follow from the configuration.
        if name.ends_with(".rotary_emb.inv_freq") {
            continue;
        }
        let (begin, end) = info.data_offsets;
        let tensor = TensorInfo {
            dtype: match info.dtype {
                Dtype::F32 => GgmlType::F32,
                Dtype::F16 => GgmlType::F16,
                Dtype::BF16 => GgmlType::Bf16,
                found => return Err(CheckpointError::Dtype { tensor: name, found }),
            },
            shape: info.shape.iter().rev().map(|&dimension| dimension as u64).collect(),
            offset: (start + begin) as u64,
            bytes: (end - begin) as u64,
            name: name.clone(),
        };
        if !index.add(names::to_gguf(&name).unwrap_or_else(|| name.clone()), number, tensor) {
            return Err(CheckpointError::Index {
                path,
                entry: name,
                problem: "expected it in one file only",
            });
        }
    }
    Ok(())
}
