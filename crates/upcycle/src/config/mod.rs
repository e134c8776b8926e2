//! The configuration: settings collected by [`ConfigBuilder`], checked once into [`Config`].

mod builder;
mod drafter;
mod error;
mod page;
mod path;
mod schema;
mod sections;
mod server;
mod service;

pub use builder::ConfigBuilder;
pub use drafter::{Budget, DrafterConfig, Preset, PromptRows, SnapshotMode};
pub use error::{ConfigError, ConfigWarning, Origin, Problem, TreeFileError};
pub use page::configuration_page;
pub use sections::{BackendConfig, Config, Decode, LogLevel, ModelConfig};
pub use server::ServerOptions;
