//! `upcycle bench cost`.

use std::fs;

use serde::Serialize;
use upcycle_backends::{Engine, Registry};
use upcycle_bench::results;
use upcycle_bench::runner::BenchError;
use upcycle_bench::{cost, machine, output, report, runner};
use upcycle_core::cost::{Timed, Timing, time_prompt_rows};
use upcycle_core::{SystemClock, Verifier};

use super::args::Cost;
use super::plan;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::Output;
use crate::progress::Bar;
use crate::prompts::eprintln_quiet;

/// Rows that are timed if none are named, as far as the backend takes them.
const ROWS: [usize; 24] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 24, 32, 33, 48, 64, 81, 96, 128, 192, 256, 384, 512];

/// What `--json` prints: times in seconds.
#[derive(Serialize)]
struct Report<'a> {
    machine: &'a results::Machine,
    build: results::Build,
    setups: Vec<Curve>,
}

/// The costs of one configuration.
#[derive(Serialize)]
struct Curve {
    setup: String,
    key: String,
    engine: String,
    kernels: String,
    threads: Option<usize>,
    /// What ranking every row of a prompt adds to reading it, as a share.
    prompt_rows: f64,
    model: String,
    model_sha256: String,
    contexts: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    context: usize,
    rows: Vec<usize>,
    seconds: Vec<f64>,
}

pub(super) fn cost(arguments: &Cost, output: &mut Output) -> Result<(), Failure> {
    let registry = Registry::builtin();
    let setups = plan::setups(&arguments.setups)?;
    let configs =
        setups.iter().map(|setup| plan::checked(setup, &registry)).collect::<Result<Vec<_>, _>>()?;
    fs::create_dir_all(&arguments.out)
        .map_err(|error| Failure::failed(format!("cannot create {}: {error}", arguments.out.display())))?;
    let machine = machine::describe();
    if !arguments.json {
        output.line(&format!("{}: {}", machine.cpu, machine.flags.join(" ")))?;
    }
    let mut rows = if arguments.rows.is_empty() { ROWS.to_vec() } else { arguments.rows.clone() };
    rows.sort_unstable();
    rows.dedup();
    let mut contexts = arguments.contexts.clone();
    contexts.sort_unstable();
    contexts.dedup();

    let mut curves = Vec::new();
    for (setup, config) in setups.iter().zip(&configs) {
        let bar = Bar::new("loading the model");
        let Engine { mut verifier, backend, cost_key: key, .. } =
            Engine::load(config, &registry, &mut |progress| bar.set(progress))?;
        drop(bar);
        let timing = Timing { contexts: &contexts, rows: &rows, sweeps: arguments.rounds };
        let timed = timing.run(&mut *verifier, &SystemClock::default(), &mut interrupt::requested);
        let fault = |source| BenchError::Cost { setup: setup.name.clone(), source };
        let timed = timed.map_err(fault)?;
        let prompt_rows = time_prompt_rows(&mut *verifier, &SystemClock::default()).map_err(fault)?;
        let path = config.model().path.clone().unwrap_or_default();
        let model_sha256 = runner::sha256(&path)?;
        let threads = verifier.threads();
        let named: Vec<_> = timed.iter().cloned().map(|timed| cost::named(timed, &setup.name)).collect();
        let caption = format!("{backend}, {}, {}", verifier.engine(), machine.cpu);
        let curve = cost::curve(key.clone(), &named).map_err(Failure::failed)?;
        let curve = curve.with_prompt_rows(prompt_rows).map_err(Failure::failed)?;
        for (ending, text) in [
            ("toml", curve.to_toml()),
            ("svg", report::cost_svg(&named, &caption).map_err(BenchError::from)?),
        ] {
            let path = arguments.out.join(format!("{}.cost.{ending}", setup.name));
            output::replace(&path, text.as_bytes()).map_err(|source| BenchError::Io {
                doing: "write",
                path: path.clone(),
                source,
            })?;
            eprintln_quiet(&format!("written: {}", path.display()));
        }
        if !arguments.json {
            let threads = threads.map_or_else(String::new, |threads| format!(", {threads} threads"));
            output.line(&format!("\n{}: {backend}, {}{threads}", setup.name, verifier.engine()))?;
            for timed in &timed {
                output.line(&table(timed))?;
            }
            let percent = 100.0 * prompt_rows;
            output
                .line(&format!("\nranking every row of a prompt makes reading it {percent:.0} % longer"))?;
        }
        curves.push(Curve {
            setup: setup.name.clone(),
            key,
            engine: backend,
            kernels: verifier.engine(),
            threads,
            prompt_rows,
            model: upcycle_bench::plan::file_name(&path),
            model_sha256,
            contexts: timed
                .into_iter()
                .map(|Timed { context, rows, seconds }| Line { context, rows, seconds })
                .collect(),
        });
    }
    if arguments.json {
        output.json(&Report { machine: &machine, build: machine::build(), setups: curves })?;
    }
    Ok(())
}

/// One context's times for people.
fn table(point: &Timed) -> String {
    let mut text = format!("over {} tokens\n{:>6} {:>10} {:>10}\n", point.context, "rows", "ms", "t(n)/t(1)");
    let one = point.rows.iter().position(|&rows| rows == 1).map(|index| point.seconds[index]);
    for (rows, seconds) in point.rows.iter().zip(&point.seconds) {
        let ratio = one.map_or_else(|| "-".to_owned(), |one| format!("{:.2}", seconds / one));
        text += &format!("{rows:>6} {:>10.3} {ratio:>10}\n", seconds * 1e3);
    }
    text.trim_end().to_owned()
}
