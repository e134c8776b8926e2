//! ONNX graphs that score draft trees.
//!
//! - [`layout`]: the inputs and outputs of a *tree-ready* graph, on which the exporter and the ONNX Runtime backend agree.
//! - [`schema`]: the ONNX messages that Upcycle reads and writes.
//! - [`rewrite`]: gives graphs of Optimum and `onnxruntime-genai` that layout.
//! - `export` (feature `export`): writes tree-ready graphs from GGUF files and safetensors.
//!
//! ```
//! use upcycle_onnx::schema::{Message, Model, OperatorSet};
//!
//! let opsets = vec![OperatorSet { domain: String::new(), version: 23 }];
//! let model = Model { ir_version: 10, opsets, ..Model::default() };
//! assert_eq!(Model::decode(&model.encode_to_vec()[..])?, model);
//! # Ok::<(), upcycle_onnx::schema::DecodeError>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(feature = "export")]
pub mod export;
pub mod layout;
pub mod rewrite;
pub mod schema;
