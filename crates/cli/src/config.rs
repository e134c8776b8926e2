//! The configuration of a command, from flags, environment and file.

use std::path::Path;

use tracing_subscriber::filter::LevelFilter;
use upcycle::{Config, ConfigBuilder, LogLevel, Registry};

use crate::args::Settings;
use crate::failure::Failure;
use crate::output::Output;

/// Loads and checks the configuration.
pub(crate) fn load(settings: &Settings, registry: &Registry) -> Result<Config, Failure> {
    Ok(builder(settings, registry)?.build()?)
}

/// Collects all settings without checking them.
pub(crate) fn builder(settings: &Settings, registry: &Registry) -> Result<ConfigBuilder, Failure> {
    let mut builder = ConfigBuilder::new(registry);
    if let Some(file) = &settings.config {
        builder.file(file)?;
    }
    builder.variables(std::env::vars_os())?;
    // Before the dedicated flags, which win.
    for assignment in &settings.set {
        builder.assignment("--set", assignment)?;
    }
    let flags = [
        ("--model", "model.path", &settings.model),
        ("--backend", "backend.name", &settings.backend),
        ("--drafter", "drafter.name", &settings.drafter),
        ("--max-tokens", "decode.max_tokens", &settings.max_tokens),
        ("--log", "log.level", &settings.log),
    ];
    for (flag, key, value) in flags {
        if let Some(value) = value {
            builder.flag(flag, key, value)?;
        }
    }
    Ok(builder)
}

/// Starts logging to standard error.
pub(crate) fn start_log(level: LogLevel) {
    let filter = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    tracing_subscriber::fmt().with_max_level(filter).with_writer(std::io::stderr).init();
}

/// `upcycle config check`.
pub(crate) fn check(file: &Path, registry: &Registry, output: &mut Output) -> Result<(), Failure> {
    let mut builder = ConfigBuilder::new(registry);
    builder.file(file)?;
    let config = builder.build()?;
    registry.check_backend(&config.backend().name).map_err(Failure::usage)?;
    let toml = config.to_toml().map_err(Failure::failed)?;
    output.text(&format!("# {} is valid. With all defaults:\n\n{toml}", file.display()))
}
