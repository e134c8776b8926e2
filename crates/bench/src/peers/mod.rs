//! Other programs that answer the same prompts in the same run.
//!
//! There is one: llama.cpp's `llama-server`, which `scripts/get-peers.sh` builds, plain and with the drafters of its own
//! that need no second model. [`PeerSpec`] says which, [`LlamaServer`] runs it and asks it. What the peer does is known
//! from outside alone: its tokens, its own timings, its memory.

mod client;
mod error;
mod process;
mod server;
mod spec;

pub use client::PeerAnswer;
pub use error::PeerError;
pub use server::{LlamaServer, Patience};
pub use spec::{PeerDrafter, PeerSpec, PeerSpecError};
