//! The settings files beside a standard export.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;
use upcycle_onnx::layout::MODEL_FILE;

use crate::error::{GraphError, LoadError};

/// The settings of `onnxruntime-genai`, and those of `transformers`, which Optimum copies.
const GENAI: &str = "genai_config.json";
const TRANSFORMERS: &str = "config.json";

/// The settings beside a graph.
#[derive(Debug, Default)]
pub(super) struct Folder {
    genai: Option<Value>,
    transformers: Option<Value>,
}

/// The graph in a folder: the one that `genai_config.json` names, else `model.onnx`.
pub(super) fn graph_in(folder: &Path) -> PathBuf {
    let named = read(&folder.join(GENAI)).ok().flatten();
    let name = named.as_ref().and_then(|genai| genai.pointer("/model/decoder/filename")?.as_str());
    // Only a file name, not a path to another folder.
    let name = name.filter(|name| Path::new(name).file_name().is_some_and(|file| file == *name));
    folder.join(name.unwrap_or(MODEL_FILE))
}

fn read(path: &Path) -> Result<Option<Value>, LoadError> {
    let failed = |reason: String| LoadError::Settings { path: path.to_owned(), reason };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.to_string())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

impl Folder {
    pub(super) fn read(folder: &Path) -> Result<Self, LoadError> {
        let [genai, transformers] = [GENAI, TRANSFORMERS].map(|name| read(&folder.join(name)));
        Ok(Self { genai: genai?, transformers: transformers? })
    }

    /// A size of at least 1.
    fn size(&self, genai: &str, transformers: &str) -> Option<usize> {
        let of = |file: &Option<Value>, place| {
            file.as_ref().and_then(|file| file.pointer(place)?.as_u64()).filter(|&size| size > 0)
        };
        of(&self.genai, genai).or_else(|| of(&self.transformers, transformers))?.try_into().ok()
    }

    fn require(
        &self,
        what: &'static str,
        expected: &'static str,
        size: Option<usize>,
    ) -> Result<usize, GraphError> {
        let files = [(GENAI, &self.genai), (TRANSFORMERS, &self.transformers)];
        let present: Vec<_> =
            files.iter().filter(|(_, file)| file.is_some()).map(|(name, _)| *name).collect();
        let found = match &present[..] {
            [] => "neither file".to_owned(),
            names => format!("no such number in {}", names.join(" and ")),
        };
        size.ok_or(GraphError::Unstated { what, expected, found })
    }

    /// The longest context.
    pub(super) fn max_context(&self) -> Result<usize, GraphError> {
        let expected =
            "`model.context_length` of genai_config.json or `max_position_embeddings` of config.json";
        self.require(
            "its longest context",
            expected,
            self.size("/model/context_length", "/max_position_embeddings"),
        )
    }

    /// The width of a head.
    pub(super) fn head(&self) -> Result<usize, GraphError> {
        let expected = "`model.decoder.head_size` of genai_config.json or `head_dim` of config.json";
        self.require("the width of a head", expected, self.size("/model/decoder/head_size", "/head_dim"))
    }
}
