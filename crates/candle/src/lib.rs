//! The backend `candle`: llama and Qwen models on candle's tensors, on the CPU, on CUDA and on Metal.
//!
//! [`Model::load`] takes a GGUF file or a folder of safetensors. A [`CandleVerifier`] scores draft trees of any shape with it, several
//! sequences in a pass. The forward pass is this crate's own, because the models of candle-transformers take no tree mask, no
//! positions and no cache that rolls back.
//!
//! ```no_run
//! use upcycle_candle::{CandleVerifier, Model, Options};
//! use upcycle_core::{Decoder, NullDrafter, Request};
//!
//! let model = Model::load("SmolLM2-135M-Instruct.Q4_1.gguf", &Options::default())?;
//! let mut decoder = Decoder::new(CandleVerifier::new(model), NullDrafter);
//! for token in decoder.generate(&[19556], Request::greedy(16))? {
//!     println!("{}", token?);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Exactness
//! candle chooses the code of a matrix product by its number of rows. So the logits of a row change with the rows beside it, at most
//! by the verifier's [`row_tolerance`](upcycle_core::Verifier::row_tolerance). The backend `cpu` has no such difference.
//!
//! # Models
//! - GGUF files whose `general.architecture` is `llama` (Llama, Mistral, SmolLM, TinyLlama and others), `qwen2` or `qwen3`, with
//!   matrices of every type that candle reads (`F32`, `F16`, `BF16`, `Q4_0` to `Q8_1`, `Q2_K` to `Q8_K`).
//! - Folders with a `config.json` whose `model_type` is `llama`, `mistral`, `qwen2` or `qwen3`, and safetensors in `F32`, `F16` or
//!   `BF16`.
//!
//! Grouped queries, heads of any width, biases of queries, keys and values, normalized heads, a tied or separate head, sliding
//! windows, and rotary embeddings with linear, Llama 3's or YaRN scaling are supported. Everything else is refused at load: mixtures
//! of experts, for example, or quantized safetensors.

mod cache;
mod error;
mod forward;
mod host;
mod linear;
mod load;
mod model;
mod options;
mod verifier;

pub use error::LoadError;
pub use model::Model;
pub use options::{Device, Options, WeightStorage};
pub use verifier::CandleVerifier;
