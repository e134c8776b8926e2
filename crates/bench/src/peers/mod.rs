//! Peers: other programs that answer the same prompts in the same run.
//!
//! There is one, llama.cpp's `llama-server`, built by `scripts/get-peers.sh`. It decodes plainly or with one of its drafters
//! that need no second model. [`PeerSpec`] describes a peer, [`LlamaServer`] runs it. Only its tokens, its reported times
//! and its memory are known.

mod client;
mod error;
mod process;
mod server;
mod spec;

pub use client::PeerAnswer;
pub use error::PeerError;
pub use server::{LlamaServer, Timeouts};
pub use spec::{PeerDrafter, PeerSpec, PeerSpecError};
