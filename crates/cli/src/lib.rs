//! The command line of Upcycle as a library: `upcycle run`, `chat`, `serve`, `warm`, `trace`, `bench`, `backends`, `inspect`, `export`,
//! `config check` and `completions`.
//!
//! Exit codes: 0, 1 for a failure, 2 for wrong usage or configuration, 128 and the number of a signal: 130 after Ctrl-C, 143 after
//! SIGTERM.
#![forbid(unsafe_code)]

mod answer;
mod args;
#[cfg(all(test, feature = "bench", feature = "ort"))]
mod args_page;
mod backends;
#[cfg(feature = "bench")]
mod bench;
mod chat;
mod compare;
mod config;
#[cfg(feature = "ort")]
mod export;
mod failure;
mod input;
mod inspect;
mod interrupt;
mod output;
mod output_file;
mod progress;
mod prompts;
mod run;
#[cfg(feature = "serve")]
mod serve;
mod stats;
mod trace;
mod waiting;
mod warm;

use std::process::ExitCode;

use clap::FromArgMatches;
use upcycle::Registry;

use args::{Arguments, Command, ConfigCommand};
use failure::Failure;
use output::Output;

/// Runs the command line with the backends, drafters and sources of `registry`.
///
/// The binary `upcycle` passes [`Registry::builtin`]. A program that registers more has all its commands:
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     let registry = upcycle::Registry::builtin();
///     // registry.register_backend(…), register_drafter(…), register_source(…)
///     upcycle_cli::main_with(&registry)
/// }
/// ```
///
/// Call it first in `main`: it may start the program again, with other waiting in OpenMP's threads, or as a child that tries a
/// model file ([`upcycle::try_loads_in_child`]).
#[must_use]
pub fn main_with(registry: &Registry) -> ExitCode {
    if let Some(code) = upcycle::try_loads_in_child() {
        return code;
    }
    let matches = args::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match interrupt::start().map_err(Failure::failed).and_then(|()| dispatch(arguments, registry)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn dispatch(arguments: Arguments, registry: &Registry) -> Result<(), Failure> {
    if matches!(
        arguments.command,
        Command::Run(_) | Command::Chat(_) | Command::Bench(_) | Command::Warm(_) | Command::Trace(_)
    ) {
        // Before anything reads standard input or a named pipe.
        waiting::wait_without_spinning();
    }
    let mut output = Output::stdout();
    match arguments.command {
        Command::Run(run) => run::run(*run, registry, &mut output),
        Command::Chat(arguments) => chat::chat(*arguments, registry, &mut output),
        #[cfg(feature = "bench")]
        Command::Bench(arguments) => bench::bench(*arguments, registry, &mut output),
        #[cfg(not(feature = "bench"))]
        Command::Bench(_) => Err(Failure::missing_feature("bench")),
        #[cfg(feature = "serve")]
        Command::Serve(arguments) => serve::serve(*arguments, registry),
        #[cfg(not(feature = "serve"))]
        Command::Serve(_) => Err(Failure::missing_feature("serve")),
        Command::Warm(arguments) => warm::warm(*arguments, registry, &mut output),
        Command::Trace(trace) => trace::trace(*trace, registry, &mut output),
        Command::Backends { json } => backends::list(json, registry, &mut output),
        Command::Inspect { model, json } => inspect::inspect(&model, json, registry, &mut output),
        #[cfg(feature = "ort")]
        Command::Export(arguments) => export::export(&arguments, &mut output),
        #[cfg(not(feature = "ort"))]
        Command::Export(_) => Err(Failure::missing_feature("ort")),
        Command::Config { command: ConfigCommand::Check { file } } => {
            config::check(&file, registry, &mut output)
        }
        Command::Completions { shell } => {
            // Into memory first: the generator panics on a failed write.
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut args::command(), "upcycle", &mut script);
            output.bytes(&script)
        }
    }
}
