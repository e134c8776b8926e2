//! A library that loads a language model and answers requests, with draft trees that do not change the text.
//!
//! An [`Engine`] answers many requests at once, from any thread:
//!
//! ```no_run
//! use upcycle::{Engine, Message, Request};
//!
//! let engine = Engine::builder().model("model.gguf").build()?;
//! let mut answer = engine.generate(Request::chat([Message::user("Why is the sky blue?")]).max_tokens(64))?;
//! for piece in &mut answer {
//!     print!("{}", piece?.text);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Below the engine there are three parts that a program can use alone:
//!
//! 1. A [`Registry`] knows backends, drafters and sources by name. A program adds its own.
//! 2. A [`ConfigBuilder`] collects settings from flags, environment and a file, and checks them once into a [`Config`].
//! 3. A [`LoadedModel`] holds a model: its tokenizer and chat template, and the backend that has loaded it.
//!
//! ```no_run
//! use std::path::Path;
//! use upcycle::{ConfigBuilder, CostCache, LoadedModel, PromptStyle, Registry};
//!
//! let registry = Registry::builtin();
//! let mut builder = ConfigBuilder::new(&registry);
//! builder.file(Path::new("configs/cpu.toml"))?;
//! builder.variables(std::env::vars_os())?;
//! let config = builder.build()?;
//!
//! let model = LoadedModel::load(&config, &registry, &mut |_| {})?;
//! let (mut decoder, text) = model.into_decoder(config.drafter(), &registry, &CostCache::user_cache())?;
//! let stop = text.stop_strings(config.decode())?;
//! let prompt = text.encode("Why is the sky blue?", PromptStyle::Chat)?;
//! let mut detokenizer = text.tokenizer.detokenizer();
//! for token in decoder.generate(&prompt, text.request(config.decode(), &stop))? {
//!     print!("{}", detokenizer.push(token?)?);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod backends;
mod builtin;
mod config;
mod corpus;
mod costs;
mod drafters;
mod engine;
mod hub;
mod load_error;
mod load_meter;
mod loaded_model;
mod model_files;
mod options;
mod parts;
mod registry;
mod suggest;
mod text_file;
mod trials;

pub use config::{
    BackendConfig, Budget, Config, ConfigBuilder, ConfigError, ConfigWarning, Decode, DrafterConfig,
    LogLevel, ModelConfig, Origin, Preset, Problem, PromptRows, ServerOptions, SnapshotMode, TreeFileError,
    configuration_page,
};
pub use corpus::CorpusError;
pub use costs::{CostCache, CostFileError};
pub use drafters::{DEFAULT_K, MixedOptions, RecyclingOptions, Tree};
pub use engine::{
    Answer, CacheGroup, DraftSpans, Engine, EngineBuilder, EngineError, EngineOptions, EngineStatus,
    EngineTotals, Piece, Request, RequestError,
};
pub use hub::{is_on_hub, local_model};
pub use load_error::LoadError;
pub use load_meter::LoadMeter;
pub use loaded_model::{
    AnyDecoder, DecoderError, LoadedModel, PromptError, PromptStyle, Text, check_snapshot, load_snapshot,
    save_snapshot, snapshot_exists,
};
pub use model_files::model_folder;
pub use options::{AnyOptions, NoOptions, Options};
pub use parts::{BoxError, BuildError, DrafterSetup, ModelSource, OnProgress, Progress, Role, SourceSetup};
pub use registry::{BackendInfo, ModelFit, Registry};
/// The crate whose [`JsonSchema`](schemars::JsonSchema) [`Options`] derive.
pub use schemars;
pub use text_file::utf8;
pub use trials::try_loads_in_child;
pub use upcycle_core::{FinishReason, LogitBias, SamplingConfig, Stats, TokenLogprobs};
pub use upcycle_text::Message;
