//! A model's files up to its weights: its sizes, and where its tensors stand. GGUF files, and folders with a
//! `config.json` and safetensors, of llama, mistral, qwen2 and qwen3.
//!
//! Tensors go by the names that GGUF files give them, whatever the files call them, so that whoever loads or converts a
//! model is written once. Headers are checked before anything is believed: each tensor lies within its file.
//!
//! ```no_run
//! use upcycle_checkpoint::Source;
//!
//! let source = Source::open("SmolLM2-135M-Instruct".as_ref())?;
//! let width = source.model.width;
//! let norm = source.checkpoint.find("output_norm.weight", &[width])?;
//! let mut bytes = vec![0; norm.info().bytes as usize];
//! source.checkpoint.read_into(norm, 0, &mut bytes)?;
//! # Ok::<(), upcycle_checkpoint::CheckpointError>(())
//! ```
//!
//! Rows of queries and keys stand as the format has them: llama's in GGUF files are permuted, so that neighbours turn
//! together, and in safetensors they are not; [`rope_layout`](crate::gguf::Hyperparameters::rope_layout) says which.
#![forbid(unsafe_code)]

mod checkpoint;
mod error;
mod file;
mod folder;
pub mod gguf;
mod weights;

pub use checkpoint::{Checkpoint, Entry, Source};
pub use error::CheckpointError;
pub use file::ModelFile;
pub use folder::{has_safetensors, of as folder_of, tensors as tensors_in};
pub use weights::{LayerWeights, LoadedWeights, StoredMatrix, WeightLoader, Weights};
