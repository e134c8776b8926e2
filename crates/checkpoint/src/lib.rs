//! Reads model files: hyperparameters, and where the tensors are.
//!
//! [`Checkpoint::open`] reads a GGUF file, or a folder with a `config.json` and safetensors, of the architectures llama, mistral,
//! qwen2 and qwen3. Tensors have their GGUF names in both formats, so that code which loads or converts a model handles both.
//! [`Checkpoint::read_weights`] converts the weights to a backend's own types. [`gguf`] reads GGUF headers of any architecture.
//!
//! Files are untrusted: headers are checked, and every tensor lies within its file. [`trial`] loads a file in a child process first,
//! for libraries that end the process.
//!
//! ```no_run
//! use upcycle_checkpoint::Checkpoint;
//!
//! let checkpoint = Checkpoint::open("SmolLM2-135M-Instruct".as_ref())?;
//! let hidden_size = checkpoint.hyperparameters.hidden_size;
//! let norm = checkpoint.tensors.find("output_norm.weight", &[hidden_size])?;
//! let mut bytes = vec![0; norm.info().bytes as usize];
//! checkpoint.tensors.read_into(norm, 0, &mut bytes)?;
//! # Ok::<(), upcycle_checkpoint::CheckpointError>(())
//! ```
//!
//! The rows of queries and keys keep the order of the format: GGUF files of Llama models permute them, so that neighbours form rotary
//! pairs. [`Hyperparameters::rope_layout`] says which order it is.
#![forbid(unsafe_code)]

mod architecture;
mod checkpoint;
mod error;
mod file;
mod from_gguf;
pub mod gguf;
mod hyperparameters;
mod open;
mod rope;
mod safetensors;
mod tensor_index;
pub mod trial;
mod weights;

pub use architecture::Architecture;
pub use checkpoint::Checkpoint;
pub use error::CheckpointError;
pub use hyperparameters::{HyperparameterError, Hyperparameters, RawHyperparameters, SlidingWindow};
pub use rope::{RopeLayout, RopeScaling};
pub use safetensors::folder_of;
pub use tensor_index::{TensorEntry, TensorIndex};
pub use weights::{LayerWeights, LoadedWeights, ModelWeights, StoredMatrix, WeightConverter};
