//! The llama.cpp backend of Upcycle: draft trees on every architecture, quantization and device that llama.cpp runs.
//!
//! [`Model::load`] opens a GGUF file, a [`LlamaVerifier`] on top scores trees. llama.cpp is built from source with this crate
//! (cmake, a C++ compiler and libclang are needed) and linked into the program.
//!
//! ```no_run
//! use upcycle_core::{Decoder, NullDrafter, Request};
//! use upcycle_llama_cpp::{LlamaVerifier, Model, Options};
//!
//! let model = Model::load("model.gguf".as_ref(), &Options::default())?;
//! let mut decoder = Decoder::new(LlamaVerifier::new(model)?, NullDrafter);
//! for token in decoder.generate(&[19556], Request::greedy(16))? {
//!     println!("{}", token?);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How a tree is scored
//! llama.cpp keeps one cache of cells for all sequences, and a cell may belong to many: sequence ids are bits. Each leaf of a
//! tree gets an id, a node carries the ids of all leaves below it, and a row attends to the cells that share an id with it and
//! do not stand behind it: its ancestors and the prefix. One `decode` scores the tree; a commit gives the accepted rows to the
//! sequence's own id and takes the leaves' ids from all others. No key or value is copied.
//!
//! The leaves' ids keep what is committed from step to step, so that a step writes bits for the new rows alone, not for the
//! whole prefix once for each leaf.
//!
//! # Limits
//! llama.cpp has a fixed number of sequence ids ([`Options::n_seq_max`], 64 unless set, at most 256): a quarter of them are for
//! open sequences, the others for the leaves of a pass. All sequences share the cells of the context (`n_ctx`). Models whose
//! state cannot be rolled back in part are verified without drafts: see [`Model::support`].
//!
//! # Exactness
//! llama.cpp's products round by the number of rows, so that a row rounds differently beside others:
//! [`Verifier::row_tolerance`](upcycle_core::Verifier::row_tolerance) states by how much at most, and texts are held to the
//! margin rule.
//! With [`Options::exact`] a row has the bits of plain decoding instead.

mod branches;
mod context;
mod error;
mod exact;
mod file;
mod ids;
mod model;
mod native;
mod options;
mod order;
mod replay;
mod room;
mod rounding;
mod sequence;
mod support;
mod verifier;
mod vocabulary;

pub use error::{LoadError, PassError};
pub use model::Model;
pub use native::devices;
pub use options::{CacheType, FlashAttention, Lora, Options, RopeScaling, SplitMode};
pub use support::{ModelKind, kind_of};
pub use verifier::LlamaVerifier;
pub use vocabulary::{Piece, Vocabulary};
