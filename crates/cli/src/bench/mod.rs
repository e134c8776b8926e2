//! `upcycle bench`.

mod cost;
mod observer;
mod plan;

use std::path::Path;

use upcycle::Registry;
use upcycle_bench::runner::{self, FinishedRun, Runner};
use upcycle_bench::{BenchError, files, report};

use crate::args::bench::{Bench, BenchCommand, Measure};
use crate::bench::observer::TerminalObserver;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Output, print_status};

/// The default folder of a run.
const FOLDER: &str = "upcycle-bench";

pub(crate) fn bench(arguments: Bench, registry: &Registry, output: &mut Output) -> Result<(), Failure> {
    match arguments.command {
        None => measure(&arguments.measure, registry, output),
        Some(BenchCommand::Cost(cost)) => cost::cost(&cost, registry, output),
        Some(BenchCommand::Report { run }) => report_again(&run, output),
    }
}

fn measure(arguments: &Measure, registry: &Registry, output: &mut Output) -> Result<(), Failure> {
    let resume = arguments.resume.is_some();
    let (folder, plan) = match &arguments.resume {
        Some(folder) => (folder.as_path(), runner::read_manifest(folder)?.plan),
        None => (arguments.out.as_deref().unwrap_or(Path::new(FOLDER)), plan::plan(arguments, registry)?),
    };
    let prompts = plan::prompts(&plan)?;
    if !resume {
        runner::prepare_folder(folder)?;
    }
    interrupt::listen();
    let mut observer = TerminalObserver::new();
    let runner = Runner::prepare(plan, &prompts, folder, resume, registry, &mut observer)?;
    for skipped in runner.skipped() {
        print_status(&format!("prompt {} is skipped: {}", skipped.question, skipped.reason));
    }
    let finished = runner.run(&mut observer)?;
    drop(observer);
    finish(folder, &finished, output)
}

/// Prints the tables, then writes the files: a full disk must not lose the tables.
fn finish(folder: &Path, finished: &FinishedRun, output: &mut Output) -> Result<(), Failure> {
    let results = &finished.results;
    output.text(&report::text(results, width()))?;
    let written = files::write(folder, results)?;
    let names: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
    print_status(&format!("written: {}", names.join(", ")));
    if let Some(fault) = &finished.journal_fault {
        return Err(Failure::failed(format!("not all measurements could be saved during the run: {fault}")));
    }
    if finished.wrong() > 0 {
        return Err(Failure::Reported);
    }
    if results.complete { Ok(()) } else { Err(Failure::Interrupted) }
}

fn report_again(run: &Path, output: &mut Output) -> Result<(), Failure> {
    let results = files::read(run)?;
    if run.is_dir() {
        files::write(run, &results)?;
    }
    output.text(&report::text(&results, width()))
}

/// The width of the terminal; 80 columns without one.
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
            | BenchError::NoPrompts { .. }
            | BenchError::NoSnapshot { .. }
            | BenchError::FolderInUse { .. }
            | BenchError::InvalidFile { .. }
            | BenchError::OtherSchema { .. }
            | BenchError::Changed { .. } => Failure::usage(error),
            _ => Failure::failed(error),
        }
    }
}
