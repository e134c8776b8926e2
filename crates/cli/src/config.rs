//! The configuration of a command, from flags, environment and file.

use std::path::Path;

use tracing_subscriber::filter::LevelFilter;
use upcycle::{Config, ConfigBuilder, LogLevel, Registry};

use crate::args::Settings;
use crate::failure::Failure;
use crate::input;
use crate::output::{self, Output};

/// The backend that takes `--ctx-size`.
const CONTEXT_BACKEND: &str = "llama-cpp";

/// Loads and checks the configuration, and starts the log.
pub(crate) fn load(settings: &Settings, registry: &Registry) -> Result<Config, Failure> {
    let builder = builder(settings, registry)?;
    let config = builder.build()?;
    start_log(&builder, &config, Some(settings));
    Ok(config)
}

/// Collects all settings without checking them.
pub(crate) fn builder(settings: &Settings, registry: &Registry) -> Result<ConfigBuilder, Failure> {
    let mut builder = ConfigBuilder::new(registry);
    if let Some(file) = &settings.config {
        read(&mut builder, "--config", file)?;
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
        ("--temperature", "decode.temperature", &settings.temperature),
        ("--top-k", "decode.top_k", &settings.top_k),
        ("--top-p", "decode.top_p", &settings.top_p),
        ("--min-p", "decode.min_p", &settings.min_p),
        ("--seed", "decode.seed", &settings.seed),
        ("--ctx-size", "backend.llama-cpp.n_ctx", &settings.ctx_size),
        ("--log", "log.level", &settings.log),
    ];
    for (flag, key, value) in flags {
        if let Some(value) = value {
            builder.flag(flag, key, value)?;
        }
    }
    if settings.isolate {
        builder.flag("--isolate", "backend.ort.isolate", "true")?;
    }
    if !settings.stop.is_empty() {
        builder.flag_texts("--stop", "decode.stop", &settings.stop)?;
    }
    Ok(builder)
}

/// Reads a configuration file, or standard input.
fn read(builder: &mut ConfigBuilder, reader: &str, file: &Path) -> Result<(), Failure> {
    if input::is_stdio(file) {
        // Relative paths in it are relative to the working directory.
        builder.text(Path::new(input::STANDARD_INPUT), &input::text(reader, file)?)?;
    } else {
        builder.file(file)?;
    }
    Ok(())
}

/// Starts logging to standard error, with the warnings of the configuration and of a command's settings.
pub(crate) fn start_log(builder: &ConfigBuilder, config: &Config, settings: Option<&Settings>) {
    let filter = match config.log_level() {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let colors = output::colors(&std::io::stderr());
    tracing_subscriber::fmt().with_max_level(filter).with_ansi(colors).with_writer(std::io::stderr).init();
    for warning in builder.warnings() {
        tracing::warn!("{warning}");
    }
    let backend = &config.backend().name;
    if settings.is_some_and(|settings| settings.ctx_size.is_some()) && backend != CONTEXT_BACKEND {
        tracing::warn!(
            "--ctx-size is ignored: the backend `{backend}` uses the model's context, and its cache grows with the text"
        );
    }
}

/// `upcycle config check`. It sees what a run with this file sees: the environment too.
pub(crate) fn check(file: &Path, registry: &Registry, output: &mut Output) -> Result<(), Failure> {
    let mut builder = ConfigBuilder::new(registry);
    read(&mut builder, "config check", file)?;
    builder.variables(std::env::vars_os())?;
    let config = builder.build()?;
    start_log(&builder, &config, None);
    registry.check_backend(&config.backend().name).map_err(Failure::usage)?;
    let toml = config.to_toml().map_err(Failure::failed)?;
    output.text(&format!(
        "# {} is valid. With the variables of the environment and all defaults:\n\n{toml}",
        input::name(file)
    ))
}
