//! Exports language models as ONNX graphs that score draft trees.
//!
//! The source is a GGUF file or a folder of safetensors: any model of [`upcycle_checkpoint`], with tensors of the types in
//! [`upcycle_kernels::Format`]. The result is a folder for ONNX Runtime with
//! - the graph and its weights in the layout of [`crate::layout`],
//! - `tokenizer.json` and `tokenizer_config.json` with the chat template; from a folder, copies of its tokenizer files,
//! - `upcycle.toml`, a configuration that runs it.
//!
//! The folder is written under a temporary name and renamed at the end, so it is either complete or absent. Memory holds a few rows
//! of a tensor at a time, and the scales of one matrix.
//!
//! ```no_run
//! use upcycle_onnx::export::{ExportOptions, WeightType, export};
//!
//! let mut options = ExportOptions::default();
//! options.weights = WeightType::Int4;
//! let exported = export("model.gguf".as_ref(), "model-onnx".as_ref(), options, &mut |_, _| ())?;
//! println!("{} bytes", exported.bytes);
//! # Ok::<(), upcycle_onnx::export::ExportError>(())
//! ```

mod blocks;
mod data_file;
mod error;
mod folder;
mod graph_builder;
mod model;
mod options;
mod rotary;
mod tensors;
mod text_files;
mod writer;

pub use error::ExportError;
pub use folder::{CONFIG_FILE, Exported, export};
pub use options::{ExportOptions, WeightType};
