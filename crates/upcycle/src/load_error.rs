//! Why a model cannot be loaded.

use std::path::PathBuf;

use upcycle_checkpoint::gguf::GgufError;
use upcycle_text::TextError;

use crate::parts::BuildError;

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// No model is configured.
    #[error("no model is given; set `model.path` in the configuration, or give --model PATH")]
    NoModel,
    /// The model is named by its address on the hub, and this program cannot fetch it.
    #[error(
        "a model named hf:… is fetched from the Hugging Face hub, which is not compiled into this program; build it with \
         `cargo build --features hub`, or give a path"
    )]
    NoHub,
    /// The model could not be fetched from the hub.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(#[from] upcycle_hub::HubError),
    /// The backend cannot be built, or could not load the model.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The model file is damaged.
    #[error("{path} cannot be used", path = path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: GgufError,
    },
    /// The tokenizer, the template or the suggested sampling settings cannot be used.
    #[error("cannot load the {what} from {path}", path = path.display())]
    Text {
        /// What was read.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: TextError,
    },
    /// The tokenizer belongs to another model.
    #[error(
        "the tokenizer has {tokenizer} tokens and the model only {model}; does `model.tokenizer` belong to this model?"
    )]
    OtherTokenizer {
        /// Tokens of the tokenizer.
        tokenizer: usize,
        /// Tokens of the model.
        model: usize,
    },
}
