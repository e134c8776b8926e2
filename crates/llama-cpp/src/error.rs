//! Errors of loading a model, and of a pass.

use std::path::PathBuf;

use upcycle_checkpoint::gguf::GgufError;
use upcycle_checkpoint::trial::TrialError;

/// Why a model cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file is not a valid GGUF file.
    #[error("cannot use {path}", path = path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: GgufError,
    },
    /// A part of a model in several files is missing.
    #[error(
        "{path} is the first of {count} parts of a model, and {part} is missing (llama.cpp: {reason}); fetch it, and keep all \
         parts in one folder under their original names",
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
        /// llama.cpp's own message.
        reason: String,
    },
    /// llama.cpp refused the model.
    #[error(
        "llama.cpp cannot load {path}: {reason}; check that the file is complete and that this version of llama.cpp knows its \
         architecture and types",
        path = path.display()
    )]
    Model {
        /// The file.
        path: PathBuf,
        /// llama.cpp's own message.
        reason: String,
    },
    /// The vocabulary has a token twice. llama.cpp would end the process.
    #[error(
        "the vocabulary of {path} has the token {token:?} twice, as {first} and as {second}; expected each token once: convert \
         the model again",
        path = path.display()
    )]
    DuplicateToken {
        /// The file.
        path: PathBuf,
        /// The token.
        token: String,
        /// Its first id.
        first: usize,
        /// Its second id.
        second: usize,
    },
    /// An RWKV vocabulary lacks a byte that begins one of its tokens. llama.cpp would take all memory.
    #[error(
        "the vocabulary of {path} has tokens that begin with the byte {byte:#04x}, but no token of that byte alone; convert the \
         model again",
        path = path.display()
    )]
    MissingByte {
        /// The file.
        path: PathBuf,
        /// The byte.
        byte: u8,
    },
    /// The file did not pass its trial in a child process.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// A C library cannot take the path.
    #[error(
        "llama.cpp cannot take the path {path:?}: it contains a zero byte or is not UTF-8; rename the file"
    )]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// The model does not continue a text token by token.
    #[error(
        "the architecture `{architecture}` {what}; choose a model that predicts the next token (llama, qwen, gemma, mistral, ...)"
    )]
    NotGenerative {
        /// The architecture.
        architecture: String,
        /// What it does instead.
        what: &'static str,
    },
    /// A metadata value would make llama.cpp abort the process.
    #[error("metadata key `{key}` is {found}; expected {expected}: the file is damaged, fetch it again")]
    Metadata {
        /// The key.
        key: String,
        /// The value.
        found: u64,
        /// The valid range.
        expected: String,
    },
    /// llama.cpp was compiled for a processor with more instruction sets than this one.
    #[error(
        "this build of llama.cpp uses {missing}, which this processor lacks; build it again here, with \
         `eval \"$(scripts/llama-cpp-flags.sh)\"` first"
    )]
    Processor {
        /// The instruction sets, as a list.
        missing: String,
    },
    /// The options ask for layers on a GPU, and llama.cpp finds none.
    #[error(
        "backend.llama-cpp.n_gpu_layers is {layers}, but this build of llama.cpp finds no GPU (devices: {devices}); build with \
         the feature llama-cpp-cuda, llama-cpp-vulkan or llama-cpp-metal, or set it to 0"
    )]
    NoGpu {
        /// The requested layers.
        layers: u32,
        /// The devices, as a list.
        devices: String,
    },
    /// The cache would not fit in memory.
    #[error(
        "a context of {n_ctx} tokens needs {needed} MiB for keys and values, but only {available} MiB of memory are free; \
         lower backend.llama-cpp.n_ctx"
    )]
    ContextMemory {
        /// The length of the context.
        n_ctx: u32,
        /// The MiB that it needs.
        needed: u64,
        /// The MiB that are free.
        available: u64,
    },
    /// Two options contradict each other, or one is out of range.
    #[error("{reason}")]
    Options {
        /// Which ones, and what to change.
        reason: String,
    },
    /// Rows depend on the other rows of their pass, with this model, processor or device.
    #[error(
        "backend.llama-cpp.row_invariant does not hold on this machine: row {row} of a tree differs from plain decoding by \
         {difference:e}; leave it out, and texts are equal up to rounding"
    )]
    NotRowInvariant {
        /// The row.
        row: usize,
        /// The largest difference of a logit.
        difference: f32,
    },
    /// The check of `row_invariant` failed.
    #[error("cannot check backend.llama-cpp.row_invariant")]
    RowInvarianceCheck {
        /// The reason.
        source: Box<upcycle_core::VerifyError>,
    },
    /// llama.cpp refused the context.
    #[error(
        "llama.cpp cannot make a context of {n_ctx} tokens: {reason}; lower backend.llama-cpp.n_ctx, or leave out the \
         option that it names"
    )]
    Context {
        /// The length of the context.
        n_ctx: u32,
        /// llama.cpp's own message.
        reason: String,
    },
    /// The adapter is missing, damaged, or made for another model.
    #[error(
        "cannot apply the adapter {path}: {reason}; expected a GGUF file with a LoRA for this model, as llama.cpp's \
         `convert_lora_to_gguf.py` writes it",
        path = path.display()
    )]
    Lora {
        /// The file.
        path: PathBuf,
        /// llama.cpp's own message.
        reason: String,
    },
}

/// Why a pass failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PassError {
    /// There are not enough cells in the context.
    #[error(
        "the open sequences hold {used} of the {cells} cells of the context, and {rows} more do not fit; close a sequence, \
         or raise backend.llama-cpp.n_ctx"
    )]
    CellsUsedUp {
        /// Cells in use.
        used: usize,
        /// Rows of the pass.
        rows: usize,
        /// Cells of the context.
        cells: usize,
    },
    /// The pending trees of other sequences hold the sequence ids.
    #[error("pending trees hold all {ids} sequence ids; commit them or close their sequences first")]
    IdsUsedUp {
        /// The number of ids.
        ids: usize,
    },
    /// llama.cpp reported a failure.
    #[error("llama.cpp's decode returned {code} ({reason})")]
    Decode {
        /// The code that it returned.
        code: i32,
        /// The reason that it logged.
        reason: String,
    },
}
