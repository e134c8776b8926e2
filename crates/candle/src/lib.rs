//! The candle backend of Upcycle: llama and Qwen models on the CPU, with nothing but Rust, and on GPUs over candle's tensors.
//!
//! [`Model::load`] takes a GGUF file or a folder of safetensors; a [`CandleVerifier`] on top scores draft trees of any shape, several sequences in a
//! pass. The model is this crate's own, because none of candle's takes a tree, positions and a cache that rolls back.
//! By default its weights are packed for `upcycle-kernels` where these have the file's types; otherwise, or with
//! [`Products::Candle`], candle supplies the dot products over the mapped blocks.
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
//! Every number of a row is computed by one fixed sequence of operations that depends on the row's own tokens and
//! positions alone. So, on one machine, tree and sequential decoding, any prefill chunking and any batch give equal
//! logits to the last bit, for quantized weights as for `f32`. The two kinds of products differ from each other, and
//! candle's between machines too, because it chooses them by the processor's features.
//!
//! On another device ([`Options::device`], [`Model::load_on`]) products are candle's own, which choose their way by the number
//! of rows: logits move there with the rows beside them, at most by the verifier's
//! [`row_tolerance`](upcycle_core::Verifier::row_tolerance).
//!
//! # Models
//! - GGUF with `general.architecture` = `llama` (so Llama, Mistral, SmolLM, TinyLlama and the like), `qwen2` or `qwen3`,
//!   and all tensor types that candle knows (`F32`, `F16`, `BF16`, `Q4_0` to `Q8_1`, `Q2_K` to `Q8_K`).
//! - Folders with a `config.json` whose `model_type` is `llama`, `mistral`, `qwen2` or `qwen3`, and `model.safetensors` or
//!   the files that `model.safetensors.index.json` names, in `F32`, `F16` or `BF16`.
//!
//! Grouped queries, heads of any width, biases of queries, keys and values, normalized heads, tied or own output matrix,
//! sliding windows, and rotary embeddings with linear, Llama 3's or YaRN scaling are as the files say. Mixtures of
//! experts, quantized safetensors and every tensor or scaling that is not listed are refused at load.

mod activations;
mod attention;
mod dense;
mod device;
mod error;
mod forward;
mod kv;
mod load;
mod mapped;
mod model;
mod options;
mod own;
mod product;
mod rows;
mod tensors;
mod verifier;

pub use error::LoadError;
pub use model::Model;
pub use options::{Device, Options, Products, Weights};
pub use verifier::CandleVerifier;
