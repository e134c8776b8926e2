//! The configuration of a command, from flags, environment and file.

use std::path::Path;

use tracing_subscriber::filter::LevelFilter;
use upcycle::{Config, Layers, LogLevel, Registry};

use crate::args::Settings;
use crate::failure::Failure;
use crate::output::Output;

/// Loads and checks the configuration.
pub(crate) fn load(settings: &Settings, registry: &Registry) -> Result<Config, Failure> {
    Ok(layers(settings)?.load(&registry.names())?)
}

/// Collects all settings without checking them.
pub(crate) fn layers(settings: &Settings) -> Result<Layers, Failure> {
    let mut layers = Layers::new();
    if let Some(file) = &settings.config {
        layers.file(file)?;
    }
    layers.variables(std::env::vars_os())?;
    // Before the dedicated flags, which win.
    for assignment in &settings.set {
        layers.assignment("--set", assignment)?;
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
            layers.flag(flag, key, value)?;
        }
    }
    Ok(layers)
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
pub(crate) fn check(file: &Path, output: &mut Output) -> Result<(), Failure> {
    let registry = Registry::builtin();
    let mut layers = Layers::new();
    layers.file(file)?;
    let config = layers.load(&registry.names())?;
    registry.check(&config.backend().name).map_err(Failure::usage)?;
    let toml = config.to_toml().map_err(Failure::failed)?;
    output.text(&format!("# {} is valid. With all defaults:\n\n{toml}", file.display()))
}
