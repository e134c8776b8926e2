//! Measures: arms interleaved prompt by prompt, in an order that rotates, round after round.
//!
//! 1. [`Runner::prepare`] loads every setup, starts the peers and encodes the prompts: what is wrong is known before
//!    anything is measured.
//! 2. [`Runner::run`] warms up, then measures. Each round begins with what passes cost by their rows; each prompt is
//!    answered by all arms in turn, a different one first each time, and every answer is held against plain decoding's.
//! 3. What is measured is written down line by line; [`Runner::run`] goes on where a journal ends.

mod answer;
mod error;
mod journal;
mod judge;
mod lane;
mod prepare;
mod seat;
mod setup;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use upcycle::Progress;
use upcycle_core::cost::{Timing, time_prompt_ranking};
use upcycle_core::{Sampling, SystemClock};

use crate::cost;
use crate::machine::{self, Usage};
use crate::plan::{Begun, Plan};
use crate::results::{
    Arm, ArmKind, ArmState, Cost, EqualityCount, Machine, MatrixState, Record, Results, SCHEMA, Settings,
    Skipped,
};
use crate::summary;

pub use error::BenchError;
pub(crate) use journal::parse_versioned;
pub use journal::{prepare_folder, read_begun};
pub use prepare::Prompts;
pub use setup::{Asked, sha256};

use journal::{Cell, Journal, Line};
use lane::Lane;
use setup::Setup;

/// Whoever looks on while a run is measured.
pub trait Watch {
    /// Whether to stop: what is measured is kept.
    fn interrupted(&self) -> bool;
    /// A model is being loaded.
    fn loading(&mut self, what: &str, progress: Progress);
    /// `done` of `total` answers are measured; `arm` is next.
    fn measuring(&mut self, done: usize, total: usize, arm: &str);
    /// Something that a person should know.
    fn say(&mut self, what: &str);
}

/// A run that is ready to be measured.
pub struct Runner {
    plan: Plan,
    begun: Begun,
    machine: Machine,
    settings: Settings,
    sampling: Sampling,
    setups: Vec<Setup>,
    lanes: Vec<Lane>,
    asked: Vec<Asked>,
    skipped: Vec<Skipped>,
    journal: Journal,
    cells: BTreeMap<(usize, usize), Cell>,
    costs: BTreeMap<usize, Vec<Cost>>,
    warnings: Vec<String>,
}

/// Processors that others may keep busy before a round waits.
const QUIET: f64 = 0.25;
/// Sweeps over the sizes of a pass at the start of each round.
const SWEEPS: usize = 3;
/// The same of passes of at most so many rows.
const SWEEPS_OF_FEW: usize = 7;
const FEW: usize = 8;
/// Tokens of an answer that warms up.
const WARM_UP: usize = 16;

impl Runner {
    fn warn_busy(&mut self, round: usize, processors: f64) {
        self.warnings
            .push(format!("round {}: others kept {processors:.2} processors busy when it began", round + 1));
    }

    fn fail(&mut self, arm: usize, reason: String) {
        self.begun.arms[arm].state = ArmState::Failed { reason };
        self.lanes[arm] = Lane::Silent;
    }

    /// Prompts that are not asked.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Arms, in the order in which they are shown.
    #[must_use]
    pub fn arms(&self) -> &[Arm] {
        &self.begun.arms
    }

    /// Measures what is not measured yet, until all is or `watch` interrupts.
    ///
    /// # Errors
    /// [`BenchError::Drafter`]; an arm that fails while it answers is marked and left out, and the rest goes on.
    pub fn run(mut self, watch: &mut dyn Watch) -> Result<Finished, BenchError> {
        let total = self.plan.rounds * self.asked.len();
        let mut complete = true;
        self.warm_up(watch)?;
        'rounds: for round in 0..self.plan.rounds {
            let left = (0..self.asked.len()).any(|prompt| !self.cells.contains_key(&(round, prompt)));
            if !left {
                continue;
            }
            self.wait_for_quiet(round, watch);
            if !self.costs.contains_key(&round) {
                let costs = self.measure_costs(watch);
                if watch.interrupted() {
                    complete = false;
                    break;
                }
                self.journal.write(&Line::Costs { round, costs: costs.clone() });
                self.costs.insert(round, costs);
            }
            self.know_costs(round);
            for lane in &mut self.lanes {
                lane.restart(&self.setups, self.plan.matrix)?;
            }
            for prompt in 0..self.asked.len() {
                if self.cells.contains_key(&(round, prompt)) {
                    continue;
                }
                let Some(cell) = self.measure(round, prompt, total, watch)? else {
                    complete = false;
                    break 'rounds;
                };
                self.journal.write(&Line::Cell(cell.clone()));
                self.cells.insert((round, prompt), cell);
            }
        }
        Ok(self.finish(complete))
    }

    fn warm_up(&mut self, watch: &mut dyn Watch) -> Result<(), BenchError> {
        for arm in 0..self.lanes.len() {
            if watch.interrupted() {
                return Ok(());
            }
            watch.measuring(0, 0, &self.begun.arms[arm].name);
            self.lanes[arm].restart(&self.setups, self.plan.matrix)?;
            let lane = &mut self.lanes[arm];
            if let Err(reason) =
                lane.answer(&mut self.setups, 0, self.plan.max_tokens.min(WARM_UP), self.sampling, &|| {
                    watch.interrupted()
                })
            {
                watch.say(&format!("{} failed: {reason}", self.begun.arms[arm].name));
                self.fail(arm, reason);
            }
        }
        Ok(())
    }

    fn wait_for_quiet(&mut self, round: usize, watch: &mut dyn Watch) {
        let peers: Vec<u32> = self.lanes.iter().filter_map(Lane::process).collect();
        let patience = Duration::from_secs(self.plan.patience);
        let (mut waited, mut pause) = (Duration::ZERO, Duration::from_secs(1));
        loop {
            let Some(busy) = machine::busy_during(pause, &peers) else { return };
            if busy <= QUIET || watch.interrupted() {
                return;
            }
            waited += pause;
            pause = Duration::from_secs(4);
            if waited > patience {
                watch.say(&format!("others keep {busy:.2} processors busy; measuring all the same"));
                self.journal.write(&Line::Busy { round, processors: busy });
                self.warn_busy(round, busy);
                return;
            }
            watch.say(&format!("waiting for a quiet machine: others keep {busy:.2} processors busy"));
        }
    }

    fn measure_costs(&mut self, watch: &mut dyn Watch) -> Vec<Cost> {
        let mut costs = Vec::new();
        for setup in &mut self.setups {
            watch.measuring(0, 0, &format!("the cost of passes, {}", setup.name));
            let arms = self.begun.arms.iter().filter(|arm| arm.setup == setup.name);
            let more: Vec<usize> = arms.filter_map(|arm| Some(arm.nodes? + 1)).collect();
            let tokens: usize = setup.prompts.iter().map(Vec::len).sum();
            let context = tokens / setup.prompts.len().max(1) + self.plan.max_tokens / 2;
            let Some(verifier) = &mut setup.verifier else { continue };
            let lengths = || setup.prompts.iter().map(|prompt| prompt.len() + self.plan.max_tokens / 2);
            // The mean context first, which predictions go by.
            let mut contexts = vec![context];
            contexts.extend(lengths().min().into_iter().chain(lengths().max()));
            contexts.dedup();
            // A wide pass slows the one behind it, so that those that budgets mostly choose from are timed apart.
            let (few, many): (Vec<_>, Vec<_>) = cost::rows(&more).into_iter().partition(|&rows| rows <= FEW);
            let timings = [
                Timing { contexts: &contexts, rows: &few, sweeps: SWEEPS_OF_FEW },
                Timing { contexts: &contexts[..1], rows: &many, sweeps: SWEEPS },
            ];
            let clock = SystemClock::default();
            setup.prompt_rows = time_prompt_ranking(&mut **verifier, &clock).ok();
            for timing in timings {
                match timing.run(&mut **verifier, &clock, &mut || watch.interrupted()) {
                    Ok(timed) => costs.extend(timed.into_iter().map(|timed| cost::named(timed, &setup.name))),
                    // The arms of this setup will say the same, each for itself.
                    Err(error) => {
                        watch.say(&format!("{}: no cost of passes: {}", setup.name, lane::chain(&error)));
                    }
                }
            }
        }
        cost::merge(costs)
    }

    /// Automatic budgets start a round from what passes cost when it began.
    fn know_costs(&mut self, round: usize) {
        let costs = self.costs.get(&round).map(Vec::as_slice).unwrap_or_default();
        for setup in &mut self.setups {
            let own: Vec<Cost> = costs.iter().filter(|cost| cost.setup == setup.name).cloned().collect();
            let curve = cost::curve(setup.name.clone(), &own).ok();
            setup.curve = curve.map(|curve| match setup.prompt_rows {
                // A share that was timed is always one that a curve takes.
                Some(share) => curve.clone().with_prompt_ranking_overhead(share).unwrap_or(curve),
                None => curve,
            });
        }
    }

    /// All arms on one prompt, one of `total` cells; none if it was interrupted.
    fn measure(
        &mut self,
        round: usize,
        prompt: usize,
        total: usize,
        watch: &mut dyn Watch,
    ) -> Result<Option<Cell>, BenchError> {
        let active: Vec<usize> =
            (0..self.lanes.len()).filter(|&arm| !matches!(self.lanes[arm], Lane::Silent)).collect();
        let done = self.cells.len() * active.len();
        let (mut failed, mut others) = (Vec::new(), Vec::new());
        let mut found: Vec<Option<lane::Measured>> = self.lanes.iter().map(|_| None).collect();
        for turn in 0..active.len() {
            let arm = active[(round + prompt + turn) % active.len()];
            watch.measuring(done + turn, total * active.len(), &self.begun.arms[arm].name);
            if self.plan.matrix != MatrixState::Carried {
                self.lanes[arm].restart(&self.setups, self.plan.matrix)?;
            }
            let peers: Vec<u32> = self.lanes.iter().filter_map(Lane::process).collect();
            let before = Usage::now(&peers);
            let (lane, limit) = (&mut self.lanes[arm], self.plan.max_tokens);
            match lane.answer(&mut self.setups, prompt, limit, self.sampling, &|| watch.interrupted()) {
                Ok(measured) => found[arm] = measured,
                Err(reason) => {
                    let name = &self.begun.arms[arm].name;
                    watch.say(&format!("{name} failed and is left out from here on: {reason}"));
                    failed.push((arm, reason.clone()));
                    self.fail(arm, reason);
                }
            }
            let busy = before.zip(Usage::now(&peers));
            others.extend(busy.and_then(|(before, now)| now.others_since(&before, self.machine.processors)));
            if watch.interrupted() {
                return Ok(None);
            }
        }
        let others = mean(&others);
        let mut records = Vec::new();
        for (arm, measured) in found.iter().enumerate() {
            let Some(measured) = measured else { continue };
            let baseline = found[self.begun.arms[arm].baseline].as_ref();
            let equality = self.lanes[arm].judge(
                &mut self.setups,
                prompt,
                self.plan.max_tokens,
                self.sampling,
                (measured, baseline),
            );
            let Asked { question, group, .. } = &self.asked[prompt];
            records.push(measured.record(arm, round, (question, group), equality));
        }
        Ok(Some(Cell { round, prompt, records, others, failed }))
    }

    fn finish(self, complete: bool) -> Finished {
        let Self { begun, mut machine, mut settings, cells, costs, mut warnings, journal, skipped, .. } =
            self;
        machine.load_end = machine::load();
        machine.others_busy = mean(&cells.values().filter_map(|cell| cell.others).collect::<Vec<_>>());
        let rounds = (0..settings.rounds)
            .take_while(|&round| cells.range((round, 0)..(round + 1, 0)).count() == settings.prompts_count);
        settings.rounds_done = rounds.count();
        let records: Vec<Record> = cells.into_values().flat_map(|cell| cell.records).collect();
        let costs = cost::merge(costs.into_values().flatten());
        let summaries = summary::summarize(&begun.arms, &settings.groups, &records, &costs);
        warnings.extend(summary::warnings(
            &begun.arms,
            &settings,
            &machine,
            &begun.build,
            &summaries,
            complete,
        ));
        Finished {
            results: Results {
                schema: SCHEMA,
                complete,
                started: begun.started,
                finished: now(),
                build: begun.build,
                machine,
                settings,
                arms: begun.arms,
                skipped,
                costs,
                summaries,
                warnings,
                records,
            },
            journal_fault: journal.fault,
        }
    }
}

/// What a run found.
#[derive(Debug)]
pub struct Finished {
    /// All of it.
    pub results: Results,
    /// Why not all of it could be written down while it was measured.
    pub journal_fault: Option<std::io::Error>,
}

impl Finished {
    /// Answers that are neither plain decoding's nor explained by rounding.
    #[must_use]
    pub fn wrong(&self) -> usize {
        let overall = self.results.summaries.iter().filter(|summary| summary.group.is_none());
        overall
            .map(|summary| {
                let EqualityCount { wrong, .. } = summary.equality;
                wrong
            })
            .sum()
    }
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("plan", &self.plan)
            .field("prompts", &self.asked.len())
            .field("cells", &self.cells.len())
            .finish_non_exhaustive()
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Whether an arm is one of ours.
pub(crate) fn is_ours(kind: ArmKind) -> bool {
    matches!(kind, ArmKind::Plain | ArmKind::Draft)
}
