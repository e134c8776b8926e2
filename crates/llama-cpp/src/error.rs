//! Why a model cannot be loaded, and why a pass failed.

use std::path::PathBuf;

use upcycle_checkpoint::gguf::GgufError;

/// Why a model cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file is not a sound GGUF file.
    #[error("{path} cannot be used", path = path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: GgufError,
    },
    /// A part of a model in several files is missing.
    #[error(
        "{path} is the first of {count} parts of a model, and {part} is missing (llama.cpp: {reason}); fetch it, and keep all \
         parts in one folder under the names that they were made with",
        path = path.display(),
        part = part.display()
    )]
    MissingPart {
        /// The first part.
        path: PathBuf,
        /// The missing one.
        part: PathBuf,
        /// The number of parts.
        count: u64,
        /// What llama.cpp said.
        reason: String,
    },
    /// llama.cpp refuses the model.
    #[error(
        "llama.cpp cannot load {path}: {reason}; check that the file is whole and that this version of llama.cpp knows its \
         architecture and types",
        path = path.display()
    )]
    Model {
        /// The file.
        path: PathBuf,
        /// What llama.cpp said.
        reason: String,
    },
    /// A path that cannot be given to a C library.
    #[error("{path:?} cannot be given to llama.cpp: it holds a zero byte or is not UTF-8; rename the file")]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// A model that does not continue a text token by token.
    #[error(
        "the architecture `{architecture}` {what}; a text is continued by models that predict the next token (llama, qwen, \
         gemma, mistral, ...)"
    )]
    NotGenerative {
        /// The architecture.
        architecture: String,
        /// What it does instead.
        what: &'static str,
    },
    /// A number of the metadata on which llama.cpp would stop the process.
    #[error("metadata key `{key}` is {found}; expected {expected}: the file is damaged, fetch it again")]
    Metadata {
        /// The key.
        key: String,
        /// The value.
        found: u64,
        /// What would be right.
        expected: String,
    },
    /// The library was compiled for a processor with more instructions than this one.
    #[error(
        "this build of llama.cpp uses {missing}, which this processor lacks; build it again here, with \
         `eval \"$(scripts/llama-cpp-flags.sh)\"` first"
    )]
    Processor {
        /// The instruction sets, as a list.
        missing: String,
    },
    /// Layers are wanted on a GPU by a build without one.
    #[error(
        "backend.llama-cpp.n_gpu_layers is {layers}, but this build of llama.cpp finds no GPU (devices: {devices}); build with \
         the feature llama-cpp-cuda, llama-cpp-vulkan or llama-cpp-metal, or set it to 0"
    )]
    NoGpu {
        /// The layers asked for.
        layers: u32,
        /// The devices that there are, as a list.
        devices: String,
    },
    /// The cache would not fit in memory.
    #[error(
        "a context of {n_ctx} tokens needs {needed} MiB for keys and values, and {available} MiB of memory are free; set \
         backend.llama-cpp.n_ctx lower"
    )]
    ContextMemory {
        /// Tokens of the context.
        n_ctx: u32,
        /// MiB that it needs.
        needed: u64,
        /// MiB that are free.
        available: u64,
    },
    /// Options that do not go together.
    #[error("{reason}")]
    Options {
        /// Which, and what to change.
        reason: String,
    },
    /// Rows beside others have other bits than alone, with this model, processor or device.
    #[error(
        "backend.llama-cpp.exact cannot be had: row {row} of a tree differs from plain decoding by {difference:e} here; leave it \
         out, and texts are equal within rounding"
    )]
    NotExact {
        /// The row.
        row: usize,
        /// The largest difference of a logit.
        difference: f32,
    },
    /// The check of `exact` could not be made.
    #[error("backend.llama-cpp.exact could not be checked")]
    ExactCheck {
        /// Why not.
        source: Box<upcycle_core::VerifyError>,
    },
    /// llama.cpp refuses the context.
    #[error(
        "llama.cpp cannot make a context of {n_ctx} tokens: {reason}; set backend.llama-cpp.n_ctx lower, or leave out the \
         option that it names"
    )]
    Context {
        /// Tokens of the context.
        n_ctx: u32,
        /// What llama.cpp said.
        reason: String,
    },
    /// The adapter is not there, damaged, or of another model.
    #[error(
        "the adapter {path} cannot be applied: {reason}; expected a LoRA in GGUF made for this very model (llama.cpp's \
         `convert_lora_to_gguf.py` writes one)",
        path = path.display()
    )]
    Lora {
        /// The file.
        path: PathBuf,
        /// What llama.cpp said.
        reason: String,
    },
}

/// Why llama.cpp could not score a pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PassError {
    /// The cells of the context are used up.
    #[error(
        "the open sequences hold {used} of the {cells} cells of the context, and {rows} more do not fit; close a sequence, \
         or set backend.llama-cpp.n_ctx higher"
    )]
    CellsUsedUp {
        /// Cells in use.
        used: usize,
        /// Rows of the pass.
        rows: usize,
        /// All cells.
        cells: usize,
    },
    /// Rows of other sequences that wait for a commit hold the sequence ids.
    #[error(
        "the leaves of passes that wait for a commit hold all {ids} sequence ids; commit or close those first"
    )]
    IdsUsedUp {
        /// All ids.
        ids: usize,
    },
    /// llama.cpp reported a failure.
    #[error("llama.cpp's decode returned {code} ({reason})")]
    Decode {
        /// What it returned.
        code: i32,
        /// What it said, if anything.
        reason: String,
    },
}
