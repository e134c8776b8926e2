//! Folders of safetensors with a `config.json`.

mod config;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path};

use crate::gguf::{Architecture, GgmlType, HyperparameterError, TensorInfo};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::CheckpointError;
use crate::checkpoint::{Checkpoint, Source};
use crate::file::ModelFile;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The parts of a layer, as GGUF files and as these folders call them.
const PARTS: [(&str, &str); 11] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Tensors outside of layers, likewise.
const WHOLE: [(&str, &str); 3] = [
    ("token_embd.weight", "model.embed_tokens.weight"),
    ("output_norm.weight", "model.norm.weight"),
    ("output.weight", "lm_head.weight"),
];

/// The folder that `path` is, or is a file of that only such folders have.
#[must_use]
pub fn of(path: &Path) -> Option<&Path> {
    let of_folder = path.extension().is_some_and(|extension| extension == "safetensors")
        || path.file_name().is_some_and(|name| name == CONFIG || name == INDEX);
    match path {
        folder if folder.is_dir() => Some(folder),
        file if of_folder => {
            file.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
        }
        _ => None,
    }
}

/// Whether a folder has safetensors, in one file or with an index.
#[must_use]
pub fn has_safetensors(folder: &Path) -> bool {
    [WEIGHTS, INDEX].iter().any(|name| folder.join(name).exists())
}

/// Where the tensors in `folder` stand, whatever model they are of.
///
/// # Errors
/// [`CheckpointError`]: a file cannot be read or is not sound.
pub fn tensors(folder: &Path) -> Result<Checkpoint, CheckpointError> {
    let mut checkpoint = Checkpoint::new(folder, |name| name_here(name).unwrap_or_else(|| name.to_owned()));
    for file in files(folder)? {
        add(&mut checkpoint, folder, &file)?;
    }
    Ok(checkpoint)
}

/// Reads the sizes of the model in `folder` and where its tensors stand.
pub(crate) fn open(folder: &Path) -> Result<Source, CheckpointError> {
    let path = folder.join(CONFIG);
    let config = read_json::<serde_json::Value>(&path)?;
    let architecture = config::architecture(&config)?;
    let config: config::Config = serde_json::from_value(config)
        .map_err(|source| CheckpointError::Json { path: path.clone(), source })?;
    let mut checkpoint = tensors(folder)?;
    let (model, said) = config.read(architecture, checkpoint.tensors().len())?;
    if said.tied {
        untie(&mut checkpoint)?;
    }
    Ok(Source { model, checkpoint, tied: said.tied, biased: said.biased || architecture.is_biased() })
}

/// A head that is the embedding may be stored a second time.
fn untie(checkpoint: &mut Checkpoint) -> Result<(), CheckpointError> {
    if !checkpoint.has("output.weight") {
        return Ok(());
    }
    if !checkpoint.are_equal("token_embd.weight", "output.weight")? {
        let expected = "false, since `lm_head.weight` is not the embedding".to_owned();
        let (key, found) = ("tie_word_embeddings".to_owned(), "true".to_owned());
        return Err(CheckpointError::Model(HyperparameterError::Metadata { key, expected, found }));
    }
    checkpoint.remove("output.weight");
    Ok(())
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, CheckpointError> {
    let bytes = fs::read(path).map_err(|source| CheckpointError::File { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| CheckpointError::Json { path: path.to_owned(), source })
}

/// What an index says.
#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// The names of the files with tensors.
fn files(folder: &Path) -> Result<BTreeSet<String>, CheckpointError> {
    let path = folder.join(INDEX);
    if folder.join(WEIGHTS).exists() || !path.exists() {
        return Ok(BTreeSet::from([WEIGHTS.to_owned()]));
    }
    let Index { weight_map } = read_json(&path)?;
    let names: BTreeSet<String> = weight_map.into_values().collect();
    let beside = |name: &str| {
        let mut parts = Path::new(name).components();
        matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
    };
    match names.iter().find(|name| !beside(name)) {
        Some(name) => Err(CheckpointError::Index {
            path,
            entry: name.clone(),
            problem: "expected a file in the same folder",
        }),
        None => Ok(names),
    }
}

/// Where the data of a file of safetensors start, and what is where.
fn header(file: &ModelFile, path: &Path) -> Result<(usize, Metadata), CheckpointError> {
    const LEN: u64 = size_of::<u64>() as u64;
    /// Longer headers are refused by the crate.
    const LIMIT: u64 = 100_000_000;
    let unsound = |source| CheckpointError::Safetensors { path: path.to_owned(), source };
    let read = |len: u64| {
        let mut bytes = vec![0; len as usize];
        file.read_into(0, &mut bytes).map(|()| bytes)
    };
    let len = read(file.len().min(LEN))?;
    let len = len.first_chunk().map_or(0, |&bytes| u64::from_le_bytes(bytes));
    // Of a length that cannot be, no more than itself is read: the crate says what is wrong with it.
    let end = LEN.saturating_add(len);
    let head = read(if len <= LIMIT && end <= file.len() { end } else { file.len().min(LEN) })?;
    match SafeTensors::read_metadata(&head) {
        // All is sound but that the data are not here.
        Ok(_) | Err(SafeTensorError::MetadataIncompleteBuffer) => {}
        Err(source) => return Err(unsound(source)),
    }
    let metadata: Metadata = serde_json::from_slice(&head[LEN as usize..])
        .map_err(|source| unsound(SafeTensorError::InvalidHeaderDeserialization(source)))?;
    if end.checked_add(metadata.data_len() as u64) != Some(file.len()) {
        return Err(unsound(SafeTensorError::MetadataIncompleteBuffer));
    }
    Ok((end as usize, metadata))
}

/// Adds the tensors of a file.
fn add(checkpoint: &mut Checkpoint, folder: &Path, file: &str) -> Result<(), CheckpointError> {
    let path = folder.join(file);
    let opened = ModelFile::open(&path)?;
    let (start, metadata) = header(&opened, &path)?;
    let number = checkpoint.add_file(opened);
    for (name, info) in metadata.tensors() {
        // Angles that old files keep: they follow from the configuration.
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
        if !checkpoint.add(name_in_gguf(&name).unwrap_or_else(|| name.clone()), number, tensor) {
            return Err(CheckpointError::Index {
                path,
                entry: name,
                problem: "expected it in one file only",
            });
        }
    }
    Ok(())
}

/// What a tensor of this name here is called in a GGUF file; none for one that is not known.
fn name_in_gguf(name: &str) -> Option<String> {
    if let Some((gguf, _)) = WHOLE.iter().find(|(_, here)| *here == name) {
        return Some((*gguf).to_owned());
    }
    let (layer, part) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    let (gguf, _) = PARTS.iter().find(|(_, here)| *here == part)?;
    let number: usize = layer.parse().ok()?;
    // One name for each layer: neither `+1` nor `01`.
    (number.to_string() == layer).then(|| format!("blk.{layer}.{gguf}.{kind}"))
}

/// The other way round.
fn name_here(name: &str) -> Option<String> {
    if let Some((_, here)) = WHOLE.iter().find(|(gguf, _)| *gguf == name) {
        return Some((*here).to_owned());
    }
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = part.rsplit_once('.')?;
    let (_, here) = PARTS.iter().find(|(gguf, _)| *gguf == part)?;
    Some(format!("model.layers.{layer}.{here}.{kind}"))
}

/// What else a configuration says.
pub(super) struct Said {
    /// Whether the head is the embedding.
    tied: bool,
    /// Whether queries, keys and values have a bias.
    biased: bool,
}

/// The architecture of each `model_type`.
pub(super) const MODEL_TYPES: [(&str, Architecture); 4] = [
    ("llama", Architecture::Llama),
    ("mistral", Architecture::Llama),
    ("qwen2", Architecture::Qwen2),
    ("qwen3", Architecture::Qwen3),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_translate_both_ways_and_only_one_way() {
        let parts =
            PARTS.iter().flat_map(|(gguf, _)| ["weight", "bias"].map(|kind| format!("blk.12.{gguf}.{kind}")));
        for name in parts.chain(WHOLE.iter().map(|(gguf, _)| (*gguf).to_owned())) {
            let here = name_here(&name).unwrap();
            assert_eq!(name_in_gguf(&here).as_ref(), Some(&name), "{here}");
        }
        let unknown = [
            "blk.0.attn_q.weight",
            "model.layers.01.mlp.up_proj.weight",
            "model.layers.+1.mlp.up_proj.weight",
        ];
        for name in unknown.into_iter().chain(["score.weight", "model.layers.0.mlp.experts.0.up_proj.weight"])
        {
            assert_eq!(name_in_gguf(name), None, "{name}");
        }
    }
}
