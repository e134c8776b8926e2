//! The llama.cpp backend of Upcycle: draft trees on every architecture, quantization and device that llama.cpp runs.
//!
//! [`Model::load`] opens a GGUF file, and a [`LlamaVerifier`] scores trees with it. This crate builds llama.cpp from source and
//! links it into the program, which needs cmake, a C++ compiler and libclang.
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
//! llama.cpp keeps one cache of cells for all sequences. A cell can belong to many sequences: their ids are bits. Each leaf of a
//! tree gets an id, and a node carries the ids of all leaves below it. A row attends to the cells that share an id with it and
//! are at or before its position: its ancestors and the prefix. So one `decode` scores the tree. A commit adds the sequence's own
//! id to the accepted rows and removes the leaves' ids from all others. No key or value is copied.
//!
//! The leaves' ids keep the committed rows from step to step. A step therefore writes ids only for its new rows, not for the
//! whole prefix once per leaf.
//!
//! # Limits
//! llama.cpp has a fixed number of sequence ids ([`Options::n_seq_max`], by default 64, at most 256). A quarter of them are for
//! open sequences, the others for the leaves of a pass. All sequences share the cells of the context (`n_ctx`). Models whose
//! state cannot be rolled back in part are verified without drafts: see [`Model::support`].
//!
//! # Files that end the process
//! llama.cpp ends the process for some damaged files. This crate refuses the known ones by their header. A program that names a
//! child process with [`try_loads_in`](upcycle_checkpoint::trial::try_loads_in) gets a typed error for the others too.
//!
//! # Exactness
//! llama.cpp chooses its kernels by the number of rows, so a row rounds differently beside others.
//! [`Verifier::row_tolerance`](upcycle_core::Verifier::row_tolerance) states by how much at most. With
//! [`Options::row_invariant`] a row is bit for bit that of plain decoding.

mod answer_trial;
mod batch_order;
mod branches;
mod cells;
mod context;
mod error;
mod file;
mod header;
mod model;
mod native;
mod options;
mod replay;
mod reserve;
mod rounding;
mod row_invariance;
mod seq_ids;
mod support;
mod trial;
mod verifier;
mod vocabulary;

pub use answer_trial::answer_trial;
pub use error::{LoadError, PassError};
pub use model::Model;
pub use native::devices;
pub use options::{CacheType, FlashAttention, Lora, Options, RopeScaling, SplitMode};
pub use support::{ModelKind, kind_of};
pub use verifier::LlamaVerifier;
pub use vocabulary::{Piece, TokenizeError, Vocabulary};
