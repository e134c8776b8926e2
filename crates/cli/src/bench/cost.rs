//! `upcycle bench cost`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use upcycle::{LoadedModel, Registry};
use upcycle_bench::machine::{self, MachineLimits};
use upcycle_bench::results;
use upcycle_bench::statistics::median;
use upcycle_bench::{BenchError, cost, files, model_file, peer_command, report};
use upcycle_core::cost::{TimingPlan, time_prefill, time_prompt_ranking};
use upcycle_core::{SystemClock, Verifier, VerifyError};

use super::plan;
use crate::args::bench::Cost;
use crate::failure::Failure;
use crate::interrupt;
use crate::output::{Output, print_status};
use crate::progress::Bar;

/// The rows to time by default, up to the most that the backend accepts.
const ROWS: [usize; 24] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 17, 24, 32, 33, 48, 64, 81, 96, 128, 192, 256, 384, 512];

/// The length of the prompt whose prefill is timed.
const PROMPT: usize = 512;

/// The output of `--json`. Times are in seconds.
#[derive(Serialize)]
struct CostJson<'a> {
    machine: &'a results::Machine,
    build: results::Build,
    /// Before and after the timings.
    limits: [Option<MachineLimits>; 2],
    setups: Vec<SetupJson>,
    /// The other program's median seconds by rows; empty without one.
    peer: BTreeMap<usize, f64>,
}

/// The costs of one configuration.
#[derive(Serialize)]
struct SetupJson {
    setup: String,
    key: String,
    engine: String,
    kernels: String,
    threads: Option<usize>,
    /// The extra time of ranking every row of a prompt, as a share of its prefill.
    prompt_ranking_overhead: f64,
    /// The length of the prompt whose prefill was timed, and the median seconds; none if interrupted.
    prompt_tokens: usize,
    prompt_seconds: Option<f64>,
    model: String,
    model_sha256: String,
    contexts: Vec<ContextJson>,
}

#[derive(Serialize)]
struct ContextJson {
    context: usize,
    rows: Vec<usize>,
    seconds: Vec<f64>,
}

pub(super) fn cost(arguments: &Cost, registry: &Registry, output: &mut Output) -> Result<(), Failure> {
    let setups = plan::setups(&arguments.setups)?;
    let configs = setups.iter().map(|setup| plan::checked(setup, registry)).collect::<Result<Vec<_>, _>>()?;
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

    let mut loaded = Vec::new();
    for (setup, config) in setups.iter().zip(&configs) {
        let bar = Bar::new("loading the model");
        let model = LoadedModel::load(config, registry, &mut |progress| bar.set(progress))?;
        drop(bar);
        let path = model.path.clone();
        loaded.push(Loaded {
            name: &setup.name,
            path,
            model,
            times: Vec::new(),
            prompt_tokens: 0,
            prompt_seconds: Vec::new(),
        });
    }
    interrupt::listen();
    let threads = loaded.first().and_then(|loaded| loaded.model.verifier.threads());
    let mut peer = arguments.peer_command.as_deref().map(|command| Peer { command, times: BTreeMap::new() });
    let before = machine::limits(threads);
    time(&mut loaded, peer.as_mut(), &contexts, &rows, arguments.rounds)?;
    let limits = [before, machine::limits(threads)];
    if !arguments.json {
        for (when, limits) in ["before", "after"].into_iter().zip(limits) {
            if let Some(limits) = limits {
                output.line(&format!("{when}: {limits}"))?;
            }
        }
    }
    loaded.retain(|loaded| !loaded.times.is_empty());
    if loaded.is_empty() && interrupt::requested() {
        return Err(Failure::Interrupted);
    }

    let mut curves = Vec::new();
    let mut first = None;
    for Loaded { name, path, model, times, prompt_tokens, prompt_seconds } in loaded {
        let LoadedModel { mut verifier, backend, cost_key: key, .. } = model;
        let prompt_ranking_overhead = time_prompt_ranking(&mut *verifier, &SystemClock::default());
        let prompt_ranking_overhead = prompt_ranking_overhead.map_err(|source| fault(name, source))?;
        let named = cost::merge(times);
        let caption = format!("{backend}, {}, {}", verifier.description(), machine.cpu);
        let curve = cost::curve(key.clone(), &named).map_err(Failure::failed)?;
        let curve = curve.with_prompt_ranking_overhead(prompt_ranking_overhead).map_err(Failure::failed)?;
        for (ending, text) in [
            ("toml", curve.to_toml()),
            ("svg", report::cost_svg(&named, &caption).map_err(BenchError::from)?),
        ] {
            let path = arguments.out.join(format!("{name}.cost.{ending}"));
            files::replace(&path, text.as_bytes())?;
            print_status(&format!("written: {}", path.display()));
        }
        let threads = verifier.threads();
        let prompt_seconds = median(prompt_seconds);
        if !arguments.json {
            let threads = threads.map_or_else(String::new, |threads| format!(", {threads} threads"));
            output.line(&format!("\n{name}: {backend}, {}{threads}", verifier.description()))?;
            for timed in &named {
                output.line(&table(timed, first.as_ref()))?;
                if let Some(shares) = shares(timed, &path, limits) {
                    output.line(&shares)?;
                }
            }
            if let Some(seconds) = prompt_seconds {
                output.line(&prefill(prompt_tokens, seconds, first.as_ref()))?;
            }
            let percent = 100.0 * prompt_ranking_overhead;
            output.line(&format!("ranking every row of a prompt adds {percent:.0} % to its prefill"))?;
        }
        first.get_or_insert_with(|| First { name, costs: named.clone(), prompt_seconds });
        curves.push(SetupJson {
            setup: name.to_owned(),
            key,
            engine: backend,
            kernels: verifier.description(),
            threads,
            prompt_ranking_overhead,
            prompt_tokens,
            prompt_seconds,
            model: model_file::name(&path),
            model_sha256: model_file::sha256(&path)?,
            contexts: named
                .into_iter()
                .map(|results::Cost { context, rows, seconds, .. }| ContextJson { context, rows, seconds })
                .collect(),
        });
    }
    let peer = peer.map(Peer::medians).unwrap_or_default();
    if arguments.json {
        output.json(&CostJson {
            machine: &machine,
            build: machine::build(),
            limits,
            setups: curves,
            peer,
        })?;
    } else if let (false, Some(first)) = (peer.is_empty(), &first) {
        output.line(&peer_table(&peer, first))?;
    }
    Ok(())
}

/// A loaded configuration and its timings.
struct Loaded<'a> {
    name: &'a str,
    path: PathBuf,
    model: LoadedModel,
    times: Vec<results::Cost>,
    prompt_tokens: usize,
    /// Seconds of each prefill.
    prompt_seconds: Vec<f64>,
}

fn fault(name: &str, source: VerifyError) -> BenchError {
    BenchError::Cost { setup: name.to_owned(), source }
}

/// Another program, timed in turn.
struct Peer<'a> {
    command: &'a str,
    /// Seconds by rows, one from each round.
    times: BTreeMap<usize, Vec<f64>>,
}

impl Peer<'_> {
    fn medians(self) -> BTreeMap<usize, f64> {
        self.times.into_iter().filter_map(|(rows, times)| Some((rows, median(times)?))).collect()
    }
}

/// Times all configurations until done or interrupted. Several of them, and another program, are interleaved, so that a slow moment
/// of the machine affects all of them.
fn time(
    loaded: &mut [Loaded<'_>],
    mut peer: Option<&mut Peer<'_>>,
    contexts: &[usize],
    rows: &[usize],
    rounds: usize,
) -> Result<(), BenchError> {
    let (passes, sweeps) = if loaded.len() > 1 || peer.is_some() { (rounds, 1) } else { (1, rounds) };
    for _ in 0..passes {
        for Loaded { name, model, times, prompt_tokens, prompt_seconds, .. } in &mut *loaded {
            let timing = TimingPlan { contexts, rows, repetitions: sweeps };
            let (verifier, clock) = (&mut *model.verifier, SystemClock::default());
            let timed = timing.run(verifier, &clock, &mut interrupt::requested);
            let timed = timed.map_err(|source| fault(name, source))?;
            let timed = timed.into_iter().filter(|timed| !timed.rows.is_empty());
            times.extend(timed.map(|timed| cost::named(timed, name)));
            if interrupt::requested() {
                return Ok(());
            }
            let (tokens, seconds) =
                time_prefill(verifier, &clock, PROMPT).map_err(|source| fault(name, source))?;
            *prompt_tokens = tokens;
            prompt_seconds.push(seconds);
        }
        if let Some(peer) = &mut peer {
            for (rows, seconds) in peer_command::time(peer.command)? {
                peer.times.entry(rows).or_default().push(seconds);
            }
        }
    }
    Ok(())
}

/// The configuration that the others are compared with.
struct First<'a> {
    name: &'a str,
    costs: Vec<results::Cost>,
    prompt_seconds: Option<f64>,
}

/// The times of one context as text, with multiples of t(1) and of the first configuration's t(1).
fn table(point: &results::Cost, first: Option<&First<'_>>) -> String {
    let one =
        |cost: &results::Cost| cost.rows.iter().position(|&rows| rows == 1).map(|index| cost.seconds[index]);
    let ratio = |seconds: f64, one: Option<f64>| {
        one.map_or_else(|| "-".to_owned(), |one| format!("{:.2}", seconds / one))
    };
    let mut text = format!("over {} tokens\n{:>6} {:>10} {:>10}", point.context, "rows", "ms", "t(n)/t(1)");
    if let Some(first) = first {
        let _ = write!(text, "   over t(1) of {}", first.name);
    }
    for (&rows, &seconds) in point.rows.iter().zip(&point.seconds) {
        let _ = write!(text, "\n{rows:>6} {:>10.3} {:>10}", seconds * 1e3, ratio(seconds, one(point)));
        if let Some(first) = first {
            let other = first.costs.iter().find(|cost| cost.context == point.context).and_then(one);
            let _ = write!(text, " {:>10}", ratio(seconds, other));
        }
    }
    text
}

/// What the times of one context are of the machine's limits, as text; none if the model or the limits are not known.
fn shares(point: &results::Cost, model: &Path, limits: [Option<MachineLimits>; 2]) -> Option<String> {
    let work = model_file::row_work(model)?;
    // The better of both measurements: a limit is not lower than what was seen.
    let most =
        |of: fn(&MachineLimits) -> Option<f64>| limits.iter().flatten().filter_map(of).fold(0.0, f64::max);
    let (memory, int8) = (most(|limits| limits.memory_bandwidth), most(|limits| limits.int8_peak));
    let percent = |rate: f64, limit: f64| {
        if limit > 0.0 { format!("{:.0} %", rate / limit * 100.0) } else { "-".to_owned() }
    };
    let mut text = format!("{:>6} {:>18} {:>18}", "rows", "of memory's rate", "of int8's rate");
    for (&rows, &seconds) in point.rows.iter().zip(&point.seconds) {
        let read = percent(work.bytes as f64 / seconds, memory);
        let multiplied = percent(work.multiply_adds as f64 * rows as f64 / seconds, int8);
        let _ = write!(text, "\n{rows:>6} {read:>18} {multiplied:>18}");
    }
    Some(text)
}

/// The other program's times as text, with ours over them.
fn peer_table(peer: &BTreeMap<usize, f64>, first: &First<'_>) -> String {
    let mut text = format!("\nthe peer command\n{:>6} {:>10}", "rows", "ms");
    for cost in &first.costs {
        let _ = write!(text, "   {} over {} tokens / it", first.name, cost.context);
    }
    for (&rows, &seconds) in peer {
        let _ = write!(text, "\n{rows:>6} {:>10.3}", seconds * 1e3);
        for cost in &first.costs {
            let ours = cost.rows.iter().position(|&other| other == rows).map(|index| cost.seconds[index]);
            let ratio = ours.map_or_else(|| "-".to_owned(), |ours| format!("{:.2}", ours / seconds));
            let _ = write!(text, " {ratio:>10}");
        }
    }
    text
}

/// The prefill time of a prompt as text.
fn prefill(tokens: usize, seconds: f64, first: Option<&First<'_>>) -> String {
    let mut text = format!("\nprefill of {tokens} tokens takes {:.0} ms", seconds * 1e3);
    if let Some((first, other)) = first.and_then(|first| Some((first, first.prompt_seconds?))) {
        let _ = write!(text, ", {:.2} times that of {}", seconds / other, first.name);
    }
    text
}
