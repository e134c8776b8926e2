//! The configuration as it is written: every key optional, nothing checked but its type.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::llama_cpp::RawLlamaCpp;
use super::ort::RawOrt;

/// The configuration as written in TOML. [`Config`](crate::Config) is the checked form.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// `[model]`
    pub model: RawModel,
    /// `[backend]`
    pub backend: RawBackend,
    /// `[drafter]`
    pub drafter: RawDrafter,
    /// `[decode]`
    pub decode: RawDecode,
    /// `[log]`
    pub log: RawLog,
}

/// `[model]`: the files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawModel {
    /// The GGUF file, or a folder that `upcycle export` wrote.
    pub path: Option<PathBuf>,
    /// A `tokenizer.json`, instead of the tokenizer in the GGUF file.
    pub tokenizer: Option<PathBuf>,
    /// A chat template (Jinja, or a `tokenizer_config.json` that holds one), instead of the one in the GGUF file.
    pub template: Option<PathBuf>,
    /// What the template is told besides the conversation.
    pub template_variables: Option<toml::Table>,
}

/// `[backend]`: the engine, and one table of options for each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawBackend {
    /// The backend's name.
    pub name: Option<String>,
    /// `[backend.cpu]`
    pub cpu: RawCpu,
    /// `[backend.candle]`
    pub candle: RawCandle,
    /// `[backend.ort]`
    pub ort: RawOrt,
    /// `[backend.llama-cpp]`
    #[serde(rename = "llama-cpp")]
    pub llama_cpp: RawLlamaCpp,
}

/// `[backend.cpu]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawCpu {
    /// `file` (as stored) or `f32` (dequantized at load)
    pub weights: Option<String>,
    /// Threads of a pass; one for each physical core by default.
    pub threads: Option<usize>,
}

/// `[backend.candle]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawCandle {
    /// `cpu`, `cuda` or `metal`
    pub device: Option<String>,
    /// `file` (as stored) or `f32` (dequantized at load)
    pub weights: Option<String>,
}

/// `[drafter]`: who guesses, and how much.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawDrafter {
    /// `paper`
    pub preset: Option<String>,
    /// `recycling`, `mixed`, `prompt-lookup` or `none`
    pub name: Option<String>,
    /// Candidates kept for each token.
    pub k: Option<usize>,
    /// `paper-80`, or a tree file.
    pub tree: Option<String>,
    /// Draft nodes for each step, or `auto`.
    pub budget: Option<RawAmount>,
    /// Whether `auto` goes by saved costs alone, never by a clock.
    pub deterministic: Option<bool>,
    /// The costs that `auto` starts from, as `upcycle bench cost` writes them.
    pub costs: Option<PathBuf>,
    /// The rows of a prompt that are learned from: `auto`, `all`, `last`, or every so many-th.
    pub prompt_rows: Option<RawAmount>,
    /// MiB of each of the mixed drafter's tables that are keyed by several tokens.
    pub table_mib: Option<usize>,
    /// Where the matrix is read from, if the file is there, and kept afterwards.
    pub snapshot: Option<PathBuf>,
    /// Whether the prompts of one run share what is learned from them.
    pub shared: Option<bool>,
    /// Who proposes nodes to the mixed drafter.
    pub sources: Option<Vec<String>>,
    /// A folder of texts that the mixed drafter copies from.
    pub texts: Option<PathBuf>,
}

/// A number, or a name that stands for one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RawAmount {
    /// The number.
    Number(usize),
    /// The name.
    Name(String),
}

/// `[decode]`: how tokens are chosen and when the text ends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawDecode {
    /// The most tokens to emit.
    pub max_tokens: Option<usize>,
    /// 0 is greedy.
    pub temperature: Option<f32>,
    /// 0 is off.
    pub top_k: Option<usize>,
    /// 1 is off.
    pub top_p: Option<f32>,
    /// 0 is off.
    pub min_p: Option<f32>,
    /// 1 is off.
    pub repeat_penalty: Option<f32>,
    /// The seed of the sampling noise.
    pub seed: Option<u64>,
    /// Strings that end the text.
    pub stop: Option<Vec<String>>,
}

/// `[log]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLog {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`
    pub level: Option<String>,
}

impl Raw {
    /// A configuration that has every key: the source of the key table, so that a new field cannot be left out of it.
    pub(crate) fn specimen() -> Self {
        let text = || Some(String::new());
        let path = || Some(PathBuf::new());
        Self {
            model: RawModel {
                path: path(),
                tokenizer: path(),
                template: path(),
                template_variables: Some(toml::Table::new()),
            },
            backend: RawBackend {
                name: text(),
                cpu: RawCpu { weights: text(), threads: Some(0) },
                candle: RawCandle { device: text(), weights: text() },
                ort: RawOrt::specimen(),
                llama_cpp: RawLlamaCpp::specimen(),
            },
            drafter: RawDrafter {
                preset: text(),
                name: text(),
                k: Some(0),
                tree: text(),
                budget: Some(RawAmount::Number(0)),
                deterministic: Some(false),
                costs: path(),
                prompt_rows: Some(RawAmount::Number(0)),
                table_mib: Some(0),
                snapshot: path(),
                shared: Some(true),
                sources: Some(Vec::new()),
                texts: path(),
            },
            decode: RawDecode {
                max_tokens: Some(0),
                temperature: Some(0.0),
                top_k: Some(0),
                top_p: Some(0.0),
                min_p: Some(0.0),
                repeat_penalty: Some(0.0),
                seed: Some(0),
                stop: Some(Vec::new()),
            },
            log: RawLog { level: text() },
        }
    }
}
