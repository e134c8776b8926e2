//! Language models as ONNX graphs that score draft trees: from a GGUF file, or a folder of safetensors, to a folder that
//! ONNX Runtime runs.
//!
//! The folder holds the graph and its weights in the layout of [`crate::layout`], `tokenizer.json`,
//! `tokenizer_config.json` with the chat template (from a folder all of the text layer's files, as they stand), and `upcycle.toml`, a configuration that runs it. It is written under
//! another name and renamed at the end, so that a folder is there as a whole or not at all. Tensors go through memory some
//! rows at a time; scales of one matrix are held until it is written.
//!
//! Models: those of [`upcycle_checkpoint`], rotary scaling and sliding windows included. Tensor types: those of
//! [`upcycle_kernels::Format`].
//!
//! ```no_run
//! use upcycle_onnx::export::{Options, Weights, export};
//!
//! let mut options = Options::default();
//! options.weights = Weights::Int4;
//! let exported = export("model.gguf".as_ref(), "model-onnx".as_ref(), options, &mut |_, _| ())?;
//! println!("{} bytes", exported.bytes);
//! # Ok::<(), upcycle_onnx::export::ExportError>(())
//! ```

mod architecture;
mod data;
mod error;
mod folder;
mod graph;
mod linear;
mod model;
mod nbits;
mod options;
mod tensors;
mod text;

pub use error::ExportError;
pub use folder::{CONFIG_FILE, Exported, export};
pub use options::{Options, Weights};
