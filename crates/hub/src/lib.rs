//! Models by the name that they have on the Hugging Face hub: `hf:owner/repo[/file][@revision]`, fetched once into the hub's own
//! cache, so that what `hf download` or another program has fetched is not fetched again.
//!
//! ```
//! use upcycle_hub::Reference;
//!
//! let reference = Reference::parse("hf:owner/repo/model.Q4_1.gguf@main").unwrap()?;
//! assert_eq!((reference.repo(), reference.revision()), ("owner/repo", "main"));
//! assert_eq!(reference.file(), Some("model.Q4_1.gguf"));
//! assert!(Reference::parse("models/file.gguf").is_none(), "a path is no reference");
//! # Ok::<(), upcycle_hub::HubError>(())
//! ```
//!
//! What the hub's other programs go by counts here too: `HF_HOME` (where the cache is), `HF_ENDPOINT`, `HF_TOKEN` or the token that
//! `hf auth login` keeps, and `HF_HUB_OFFLINE=1`, with which nothing is asked and only the cache serves.
#![forbid(unsafe_code)]

mod choose;
mod error;
mod fetch;
mod reference;
mod transfer;

pub use error::HubError;
pub use fetch::{Hub, OnProgress};
pub use reference::Reference;
