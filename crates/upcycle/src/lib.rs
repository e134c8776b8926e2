//! The configuration of Upcycle, the registry of its backends, and a loaded model ready to answer.
//!
//! 1. [`Layers`] gather settings from flags, environment and a file, and check them once into a [`Config`].
//! 2. A [`Registry`] knows the backends by name and builds the configured one.
//! 3. An [`Engine`] ties a model file, its text layer and the backend together.
//!
//! ```no_run
//! use std::path::Path;
//! use upcycle::{CostCache, Engine, Layers, PromptStyle, Registry};
//!
//! let registry = Registry::builtin();
//! let mut layers = Layers::new();
//! layers.file(Path::new("configs/cpu.toml"))?;
//! layers.variables(std::env::vars_os())?;
//! let config = layers.load(&registry.names())?;
//!
//! let engine = Engine::load(&config, &registry, &mut |_| {})?;
//! let (mut decoder, text) = engine.into_decoder(config.drafter(), &CostCache::of_user())?;
//! let stop = text.stop_strings(config.decode())?;
//! let prompt = text.encode("Why is the sky blue?", PromptStyle::Chat)?;
//! let mut detokenizer = text.tokenizer.detokenizer();
//! for token in decoder.generate(&prompt, text.request(config.decode(), &stop))? {
//!     print!("{}", detokenizer.push(token?)?);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

#[cfg(feature = "candle")]
mod candle;
mod config;
mod costs;
#[cfg(feature = "cpu")]
mod cpu;
mod drafters;
mod engine;
#[cfg(any(feature = "cpu", feature = "candle"))]
mod graph_given;
mod hub;
#[cfg(feature = "llama-cpp")]
mod llama_cpp;
#[cfg(feature = "ort")]
mod ort;
mod registry;
mod texts;

pub use config::{
    BackendChoice, Budget, CacheType, CandleChoice, Config, ConfigError, CpuChoice, DEFAULT_K,
    DEFAULT_MAX_TOKENS, DEFAULT_TABLE_MIB, Decode, Device, DrafterChoice, FlashAttention, GraphOptimization,
    Layers, LlamaCppChoice, LogLevel, Mixed, ModelFiles, Origin, OrtChoice, OrtProvider, OrtProviderOption,
    PAPER_80, Preset, Problem, PromptRows, Raw, RawAmount, RawBackend, RawCandle, RawCpu, RawDecode,
    RawDrafter, RawLlamaCpp, RawLog, RawLora, RawModel, RawOrt, Recycling, RopeScaling, SourceName,
    SplitMode, Tree, TreeFileError, Weights,
};
pub use costs::CostCache;
pub use drafters::{AnyDrafter, CostFileError, DrafterError};
pub use engine::{AnyDecoder, Engine, LoadError, PromptError, PromptStyle, Text, model_folder};
pub use hub::{is_on_hub, local_model};
pub use registry::{
    Availability, BackendInfo, BuildError, Builder, Built, OnProgress, Progress, Registry, Source,
};
pub use texts::TextsError;
