//! Downloads models from the Hugging Face hub by name: `hf:owner/repo[/file][@revision]`.
//!
//! Downloads go into the hub's standard cache, so a model that `hf download` or another program has fetched is not fetched again.
//! Interrupted downloads resume.
//!
//! ```
//! use upcycle_hub::Reference;
//!
//! let reference = Reference::parse("hf:owner/repo/model.Q4_1.gguf@main").unwrap()?;
//! assert_eq!((reference.repo(), reference.revision()), ("owner/repo", "main"));
//! assert_eq!(reference.file(), Some("model.Q4_1.gguf"));
//! assert!(Reference::parse("models/file.gguf").is_none(), "a path is not a reference");
//! # Ok::<(), upcycle_hub::HubError>(())
//! ```
//!
//! The hub's usual variables apply: `HF_HUB_CACHE` or `HF_HOME` (the cache), `HF_ENDPOINT`, `HF_TOKEN` (or the token saved by `hf auth
//! login`), and `HF_HUB_OFFLINE=1`, which allows cached models only.
#![forbid(unsafe_code)]

mod error;
mod fetch;
mod model_files;
mod reference;
mod transfer;

pub use error::HubError;
pub use fetch::Hub;
pub use reference::Reference;
pub use transfer::OnProgress;
