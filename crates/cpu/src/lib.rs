//! The backend `cpu`: llama and Qwen models on `upcycle-kernels`, in pure Rust.
//!
//! [`Model::load`] takes a GGUF file or a folder of safetensors and packs the weights. A [`CpuVerifier`] scores draft trees of
//! any shape with it, several sequences in a pass. Eight rows of a pass cost little more than one.
//!
//! ```no_run
//! use upcycle_core::{Decoder, NullDrafter, Request};
//! use upcycle_cpu::{CpuVerifier, Model, Options};
//!
//! let model = Model::load("SmolLM2-135M-Instruct.Q4_1.gguf", &Options::default())?;
//! let mut decoder = Decoder::new(CpuVerifier::new(model), NullDrafter);
//! for token in decoder.generate(&[19556], Request::greedy(16))? {
//!     println!("{}", token?);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Exactness
//! Each number of a row comes from one fixed sequence of operations, which depends on the row's own tokens and positions alone.
//! So trees, single tokens, prefill in chunks of any size and passes with other sequences all give the same logits to the last
//! bit, on any number of threads and on every instruction set.
//!
//! # Models
//! - GGUF files whose `general.architecture` is `llama` (Llama, Mistral, SmolLM, TinyLlama and others), `qwen2` or `qwen3`,
//!   with matrices in `F32`, `F16`, `BF16`, `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`, `Q8_0`, `Q2_K`, `Q3_K`, `Q4_K`, `Q5_K`, `Q6_K`, `IQ4_NL`, `IQ4_XS` or
//!   `MXFP4`.
//! - Folders with a `config.json` whose `model_type` is `llama`, `mistral`, `qwen2` or `qwen3`, and safetensors in `F32`, `F16` or
//!   `BF16`.
//!
//! Grouped queries, heads of any multiple of 16, biases of queries, keys and values, normalized heads, a tied or separate head,
//! sliding windows, and rotary embeddings with linear, Llama 3's or YaRN scaling are supported. Everything else is refused at load:
//! mixtures of experts, for example, or quantized safetensors. Other weight types run on the backends `candle` and `llama-cpp`.

mod batch;
mod error;
mod forward;
mod load;
mod model;
mod options;
mod verifier;

pub use error::LoadError;
pub use load::Fit;
pub use model::Model;
pub use options::{KvType, Options, WeightStorage};
pub use verifier::CpuVerifier;
