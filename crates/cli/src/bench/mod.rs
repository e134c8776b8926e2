//! `upcycle bench`.

mod args;
mod cost;
mod plan;
mod watch;

use std::path::Path;

use upcycle::Registry;
use upcycle_bench::output;
use upcycle_bench::report;
use upcycle_bench::runner::{self, BenchError, Finished, Runner};

pub(crate) use args::Bench;

use crate::bench::args::{BenchCommand, Measure};
use crate::bench::watch::Watching;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::Output;
use crate::prompts::eprintln_quiet;

/// Where a run is kept if no folder is named.
const FOLDER: &str = "upcycle-bench";

pub(crate) fn bench(arguments: Bench, output: &mut Output) -> Result<(), Failure> {
    match arguments.command {
        None => measure(&arguments.measure, output),
        Some(BenchCommand::Cost(cost)) => cost::cost(&cost, output),
        Some(BenchCommand::Report { folder, markdown }) => again(&folder, markdown, output),
    }
}

fn measure(arguments: &Measure, output: &mut Output) -> Result<(), Failure> {
    let registry = Registry::builtin();
    let resume = arguments.resume.is_some();
    let (folder, plan) = match &arguments.resume {
        Some(folder) => (folder.as_path(), runner::read_begun(folder)?.plan),
        None => (arguments.out.as_deref().unwrap_or(Path::new(FOLDER)), plan::plan(arguments, &registry)?),
    };
    let prompts = plan::prompts(&plan)?;
    if !resume {
        runner::prepare_folder(folder)?;
    }
    interrupt::listen()?;
    let mut watch = Watching::new();
    let runner = Runner::prepare(plan, prompts, folder, resume, &registry, &mut watch)?;
    for skipped in runner.skipped() {
        eprintln_quiet(&format!("question {} is left out: {}", skipped.question, skipped.reason));
    }
    let finished = runner.run(&mut watch)?;
    drop(watch);
    tell(folder, &finished, output)
}

/// Prints the tables first, so that a full disk takes nothing from a person, then writes the files.
fn tell(folder: &Path, finished: &Finished, output: &mut Output) -> Result<(), Failure> {
    let results = &finished.results;
    output.text(&report::text(results, width()))?;
    let written = output::write(folder, results)?;
    let names: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
    eprintln_quiet(&format!("written: {}", names.join(", ")));
    if let Some(fault) = &finished.journal_fault {
        return Err(Failure::failed(format!(
            "what was measured could not all be written down at once: {fault}"
        )));
    }
    if finished.wrong() > 0 {
        return Err(Failure::Negative);
    }
    if results.complete { Ok(()) } else { Err(Failure::Interrupted) }
}

fn again(folder: &Path, markdown: bool, output: &mut Output) -> Result<(), Failure> {
    let results = output::read(folder)?;
    if markdown {
        return output.text(&report::markdown(&results));
    }
    let folder = if folder.is_dir() { folder } else { folder.parent().unwrap_or(Path::new(".")) };
    output::write(folder, &results)?;
    output.text(&report::text(&results, width()))
}

/// Columns of the terminal; what fits everywhere, where there is none.
fn width() -> usize {
    let (_, columns) = console::Term::stdout().size_checked().unwrap_or((24, 80));
    usize::from(columns)
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Load(error) => error.into(),
            BenchError::Config(error) => error.into(),
            BenchError::Arm(_)
            | BenchError::Model { .. }
            | BenchError::Prompt { .. }
            | BenchError::NothingToAsk { .. }
            | BenchError::NoSnapshot { .. }
            | BenchError::Occupied { .. }
            | BenchError::NotARun { .. }
            | BenchError::OtherSchema { .. }
            | BenchError::Changed { .. } => Failure::usage(error),
            _ => Failure::failed(error),
        }
    }
}
