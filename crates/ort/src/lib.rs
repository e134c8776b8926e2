//! The ONNX Runtime backend of Upcycle: draft trees on whatever ONNX Runtime runs on.
//!
//! [`Model::load`] opens a graph in the tree-ready layout of [`upcycle_onnx::layout`], as `upcycle export` writes it. It rewrites
//! graphs of Optimum and `onnxruntime-genai` to that layout ([`upcycle_onnx::rewrite`]). An [`OrtVerifier`] scores trees with it,
//! or only chains if the graph's mask cannot be replaced; its limits say why.
//!
//! ONNX Runtime is loaded at run time from a shared library, so this crate builds without it. `scripts/setup-ort.sh` fetches one;
//! [`Options::library`] lists where else it is searched.
//!
//! ```no_run
//! use upcycle_core::{Decoder, NullDrafter, Request};
//! use upcycle_ort::{Model, Options, OrtVerifier};
//!
//! let model = Model::load("exported".as_ref(), &Options::default())?;
//! let mut decoder = Decoder::new(OrtVerifier::new(model), NullDrafter);
//! for token in decoder.generate(&[19556], Request::greedy(16))? {
//!     println!("{}", token?);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is copied
//! A sequence has two buffers per layer, for its committed keys and values. The runtime reads them in place. A pass writes its
//! tokens, its positions and a mask among its own rows. A commit copies the accepted rows from the runtime's outputs to the end of
//! the buffers. Neither grows with the context ([`OrtVerifier::copied_bytes`] counts). A full buffer is doubled.
//!
//! On CUDA the buffers and the logits are in the device's memory ([`Memory::Device`]). The runtime writes new rows after the
//! committed ones. A commit moves accepted rows together; those of a chain are in place already. The device ranks the logits and
//! returns the candidates of each row. It returns a whole row only on request, or if a tie leaves the candidates open.
//!
//! # Unsafe code
//! One module has it: views into the device's memory, and runs that read and write them in place.
//!
//! # Exactness
//! The runtime's matrix products choose their blocks by the number of rows, so a row rounds differently beside others.
//! [`Verifier::row_tolerance`](upcycle_core::Verifier::row_tolerance) states by how much at most.
//!
//! # Limits
//! Each sequence of a pass is a separate run of the graph. Keys and values are in the host's memory for every provider but CUDA,
//! and travel to providers with their own memory in each pass.
#![deny(unsafe_code)]

mod answer_trial;
mod device;
mod error;
mod graph;
mod kv;
mod library;
mod memory;
mod model;
mod options;
mod providers;
mod trial;
mod verifier;

pub use answer_trial::answer_trial;
pub use error::{GraphError, LibraryError, LoadError, NEEDED, SETUP};
pub use library::providers;
pub use model::Model;
pub use options::{GraphOptimization, Memory, Options, Provider, ProviderOption, ProviderOptionError};
pub use verifier::OrtVerifier;
