//! The ONNX Runtime backend of Upcycle: draft trees on whatever ONNX Runtime runs on.
//!
//! [`Model::load`] opens a graph in the tree-ready layout of [`upcycle_onnx::layout`], as `upcycle export` writes it, or one that
//! Optimum or `onnxruntime-genai` wrote, which is given that layout first ([`upcycle_onnx::standard`]). An [`OrtVerifier`] on top
//! scores trees of any shape, or chains, where the graph has a mask that cannot be replaced: its limits say why. ONNX Runtime is loaded at run time, from a shared library that
//! `scripts/setup-ort.sh` fetches ([`Options::library`] says where else it is looked for), so that nothing is linked and
//! nothing downloaded to build this.
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
//! The committed keys and values of a sequence stand in one buffer for each layer, whose prefix is the runtime's input as
//! it stands. A pass writes its tokens, positions and the mask among its own rows; a commit copies the accepted rows from
//! the runtime's outputs to the end of the buffers. Neither grows with the context
//! ([`OrtVerifier::copied_bytes`] counts). A buffer that is full is doubled.
//!
//! On CUDA they stand in the memory of the device ([`Memory::Device`]), and so do the logits. The runtime writes the new rows
//! behind the committed ones; a commit moves the accepted ones together where they are not in place, as those of a chain are.
//! Logits are ranked there, and the candidates of each row come back; a whole row does when it is asked for, or when a tie
//! leaves open which of its tokens are candidates.
//!
//! # Unsafe code
//! It is in one module: views into memory of the device, and runs that read and write them in place.
//!
//! # Exactness
//! The runtime's products choose their blocks by the number of rows, so that a row rounds differently beside others:
//! [`Verifier::row_tolerance`](upcycle_core::Verifier::row_tolerance) states by how much at most, and texts are held to the
//! margin rule.
//!
//! # Limits
//! Each sequence of a pass is a run of its own. On providers other than CUDA and those that work in the host's memory, keys and
//! values live in the host's and travel with each pass.
#![deny(unsafe_code)]

mod device;
mod error;
mod graph;
mod kv;
mod library;
mod memory;
mod model;
mod options;
mod providers;
mod verifier;

pub use error::{GraphError, LibraryError, LoadError};
pub use library::{NEEDED, SETUP, providers};
pub use memory::Memory;
pub use model::Model;
pub use options::{GraphOptimization, Options};
pub use providers::{Provider, ProviderOption};
pub use verifier::OrtVerifier;
