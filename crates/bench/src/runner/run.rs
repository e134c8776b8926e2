//! The measuring loop.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use upcycle_core::SystemClock;
use upcycle_core::cost::{TimingPlan, time_prompt_ranking};

use super::answer::DecodeSettings;
use super::arm_runner::ArmRunner;
use super::journal::{Journal, JournalLine, PromptAnswers};
use super::loaded_setup::LoadedSetup;
use super::manifest::RunManifest;
use super::measured::MeasuredAnswer;
use super::observer::RunObserver;
use crate::cost;
use crate::error::{BenchError, error_chain};
use crate::machine::{self, CpuUsage};
use crate::plan::RunPlan;
use crate::prompts::Prompt;
use crate::results::{
    Arm, ArmState, Cost, InitialTables, Machine, Record, Results, SCHEMA, Settings, Skipped,
};
use crate::summary;

/// A run that is ready to be measured.
pub struct Runner {
    pub(super) plan: RunPlan,
    pub(super) manifest: RunManifest,
    pub(super) machine: Machine,
    pub(super) settings: Settings,
    pub(super) decode: DecodeSettings,
    pub(super) setups: Vec<LoadedSetup>,
    pub(super) runners: Vec<ArmRunner>,
    pub(super) prompts: Vec<Prompt>,
    pub(super) skipped: Vec<Skipped>,
    pub(super) journal: Journal,
    /// By round and prompt.
    pub(super) answers: BTreeMap<(usize, usize), PromptAnswers>,
    /// By round.
    pub(super) costs: BTreeMap<usize, Vec<Cost>>,
    pub(super) warnings: Vec<String>,
}

/// A round waits while other programs keep more processors busy.
const IDLE_THRESHOLD: f64 = 0.25;
/// Sweeps over the sizes of a pass at the start of each round.
const SWEEPS: usize = 3;
/// Sweeps over passes of at most [`SMALL`] rows.
const SMALL_SWEEPS: usize = 7;
const SMALL: usize = 8;
/// Tokens of a warm-up answer.
const WARM_UP: usize = 16;

impl Runner {
    pub(super) fn warn_busy(&mut self, round: usize, processors: f64) {
        self.warnings.push(format!(
            "other programs kept {processors:.2} processors busy when round {} began",
            round + 1
        ));
    }

    pub(super) fn fail(&mut self, arm: usize, reason: String) {
        self.manifest.arms[arm].state = ArmState::Failed { reason };
        self.runners[arm] = ArmRunner::Inactive;
    }

    /// The skipped prompts.
    #[must_use]
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The arms, in the order of the report.
    #[must_use]
    pub fn arms(&self) -> &[Arm] {
        &self.manifest.arms
    }

    /// Measures everything that is not measured yet, or until `observer` interrupts.
    ///
    /// # Errors
    /// [`BenchError::Drafter`]. An arm that fails to answer is marked as failed, and the others continue.
    pub fn run(mut self, observer: &mut dyn RunObserver) -> Result<FinishedRun, BenchError> {
        let mut complete = true;
        self.warm_up(observer)?;
        'rounds: for round in 0..self.plan.rounds {
            if (0..self.prompts.len()).all(|prompt| self.answers.contains_key(&(round, prompt))) {
                continue;
            }
            self.wait_for_quiet(round, observer);
            if !self.costs.contains_key(&round) {
                let costs = self.measure_costs(observer);
                if observer.interrupted() {
                    complete = false;
                    break;
                }
                self.journal.write(&JournalLine::Costs { round, costs: costs.clone() });
                self.costs.insert(round, costs);
            }
            self.set_curves(round);
            for runner in &mut self.runners {
                runner.restart(&self.setups, self.plan.tables)?;
            }
            for prompt in 0..self.prompts.len() {
                if self.answers.contains_key(&(round, prompt)) {
                    continue;
                }
                let Some(answers) = self.measure(round, prompt, observer)? else {
                    complete = false;
                    break 'rounds;
                };
                self.journal.write(&JournalLine::Answers(answers.clone()));
                self.answers.insert((round, prompt), answers);
            }
        }
        Ok(self.finish(complete))
    }

    fn warm_up(&mut self, observer: &mut dyn RunObserver) -> Result<(), BenchError> {
        let settings = DecodeSettings { max_tokens: self.decode.max_tokens.min(WARM_UP), ..self.decode };
        for arm in 0..self.runners.len() {
            if observer.interrupted() {
                return Ok(());
            }
            observer.measuring(0, 0, &self.manifest.arms[arm].name);
            self.runners[arm].restart(&self.setups, self.plan.tables)?;
            let interrupted = || observer.interrupted();
            let answered = self.runners[arm].answer(&mut self.setups, 0, settings, &interrupted);
            if let Err(reason) = answered {
                observer.notify(&format!("{} failed: {reason}", self.manifest.arms[arm].name));
                self.fail(arm, reason);
            }
        }
        Ok(())
    }

    fn peer_processes(&self) -> Vec<u32> {
        self.runners.iter().filter_map(ArmRunner::process).collect()
    }

    fn wait_for_quiet(&mut self, round: usize, observer: &mut dyn RunObserver) {
        let peers = self.peer_processes();
        let limit = Duration::from_secs(self.plan.max_wait_seconds);
        let (mut waited, mut pause) = (Duration::ZERO, Duration::from_secs(1));
        loop {
            let Some(busy) = machine::busy_during(pause, &peers) else { return };
            if busy <= IDLE_THRESHOLD || observer.interrupted() {
                return;
            }
            waited += pause;
            pause = Duration::from_secs(4);
            let others = format!("other programs keep {busy:.2} processors busy");
            if waited > limit {
                observer.notify(&format!("{others}; measuring anyway"));
                self.journal.write(&JournalLine::Busy { round, processors: busy });
                self.warn_busy(round, busy);
                return;
            }
            observer.notify(&format!("waiting for other programs to finish: {others}"));
        }
    }

    fn measure_costs(&mut self, observer: &mut dyn RunObserver) -> Vec<Cost> {
        let mut costs = Vec::new();
        for setup in &mut self.setups {
            observer.measuring(0, 0, &format!("the cost of passes, {}", setup.name));
            let arms = self.manifest.arms.iter().filter(|arm| arm.setup == setup.name);
            let more: Vec<usize> = arms.filter_map(|arm| Some(arm.nodes? + 1)).collect();
            let half_answer = self.plan.max_tokens / 2;
            let tokens: usize = setup.prompts.iter().map(Vec::len).sum();
            let mean = tokens / setup.prompts.len().max(1) + half_answer;
            let Some(verifier) = &mut setup.verifier else { continue };
            let lengths = || setup.prompts.iter().map(|prompt| prompt.len() + half_answer);
            // The mean context comes first: predictions use it.
            let mut contexts = vec![mean];
            contexts.extend(lengths().min().into_iter().chain(lengths().max()));
            contexts.dedup();
            // A large pass slows the next one, so the small sizes, which budgets mostly choose, are timed apart.
            let (small, large): (Vec<_>, Vec<_>) =
                cost::rows(&more).into_iter().partition(|&rows| rows <= SMALL);
            let timings = [
                TimingPlan { contexts: &contexts, rows: &small, repetitions: SMALL_SWEEPS },
                TimingPlan { contexts: &contexts[..1], rows: &large, repetitions: SWEEPS },
            ];
            let clock = SystemClock::default();
            setup.prompt_ranking_overhead = time_prompt_ranking(&mut **verifier, &clock).ok();
            for timing in timings {
                match timing.run(&mut **verifier, &clock, &mut || observer.interrupted()) {
                    Ok(timed) => costs.extend(timed.into_iter().map(|timed| cost::named(timed, &setup.name))),
                    // Each arm of this setup will report the same failure.
                    Err(error) => observer.notify(&format!(
                        "cannot measure the cost of passes of {}: {}",
                        setup.name,
                        error_chain(&error)
                    )),
                }
            }
        }
        cost::merge(costs)
    }

    /// Sets the cost curves from which automatic budgets start a round.
    fn set_curves(&mut self, round: usize) {
        let costs = self.costs.get(&round).map(Vec::as_slice).unwrap_or_default();
        for setup in &mut self.setups {
            let own: Vec<Cost> = costs.iter().filter(|cost| cost.setup == setup.name).cloned().collect();
            let curve = cost::curve(setup.name.clone(), &own).ok();
            setup.curve = curve.map(|curve| match setup.prompt_ranking_overhead {
                // A measured share is always valid for a curve.
                Some(share) => curve.clone().with_prompt_ranking_overhead(share).unwrap_or(curve),
                None => curve,
            });
        }
    }

    /// Measures all arms on one prompt; none if interrupted.
    fn measure(
        &mut self,
        round: usize,
        prompt: usize,
        observer: &mut dyn RunObserver,
    ) -> Result<Option<PromptAnswers>, BenchError> {
        let active: Vec<usize> = (0..self.runners.len())
            .filter(|&arm| !matches!(self.runners[arm], ArmRunner::Inactive))
            .collect();
        let done = self.answers.len() * active.len();
        let total = self.plan.rounds * self.prompts.len() * active.len();
        let (mut failed, mut others) = (Vec::new(), Vec::new());
        let mut found: Vec<Option<MeasuredAnswer>> = self.runners.iter().map(|_| None).collect();
        for position in 0..active.len() {
            let arm = active[(round + prompt + position) % active.len()];
            observer.measuring(done + position, total, &self.manifest.arms[arm].name);
            if self.plan.tables != InitialTables::Carried {
                self.runners[arm].restart(&self.setups, self.plan.tables)?;
            }
            let peers = self.peer_processes();
            let before = CpuUsage::now(&peers);
            let interrupted = || observer.interrupted();
            match self.runners[arm].answer(&mut self.setups, prompt, self.decode, &interrupted) {
                Ok(measured) => found[arm] = measured,
                Err(reason) => {
                    let name = &self.manifest.arms[arm].name;
                    observer.notify(&format!("{name} failed and is not measured any more: {reason}"));
                    failed.push((arm, reason.clone()));
                    self.fail(arm, reason);
                }
            }
            let usage = before.zip(CpuUsage::now(&peers));
            others.extend(
                usage.and_then(|(before, now)| now.other_programs_load(&before, self.machine.processors)),
            );
            if observer.interrupted() {
                return Ok(None);
            }
        }
        let mut records = Vec::new();
        for (arm, measured) in found.iter().enumerate() {
            let Some(measured) = measured else { continue };
            let plain = found[self.manifest.arms[arm].baseline].as_ref();
            let equality = self.runners[arm].judge(&mut self.setups, prompt, self.decode, measured, plain);
            records.push(measured.record(arm, round, &self.prompts[prompt], equality));
        }
        Ok(Some(PromptAnswers { round, prompt, records, others: mean(&others), failed }))
    }

    fn finish(self, complete: bool) -> FinishedRun {
        let Self {
            manifest, mut machine, mut settings, answers, costs, mut warnings, journal, skipped, ..
        } = self;
        machine.load_end = machine::load();
        machine.others_busy =
            mean(&answers.values().filter_map(|answers| answers.others).collect::<Vec<_>>());
        let rounds = (0..settings.rounds)
            .take_while(|&round| answers.range((round, 0)..(round + 1, 0)).count() == settings.prompts_count);
        settings.rounds_done = rounds.count();
        let records: Vec<Record> = answers.into_values().flat_map(|answers| answers.records).collect();
        let costs = cost::merge(costs.into_values().flatten());
        let summaries = summary::summarize(&manifest.arms, &settings.groups, &records, &costs);
        let mut results = Results {
            schema: SCHEMA,
            complete,
            started: manifest.started,
            finished: now(),
            build: manifest.build,
            machine,
            settings,
            arms: manifest.arms,
            skipped,
            costs,
            summaries,
            warnings: Vec::new(),
            records,
        };
        warnings.extend(summary::warnings(&results));
        results.warnings = warnings;
        FinishedRun { results, journal_fault: journal.fault }
    }
}

/// A finished or interrupted run.
#[derive(Debug)]
pub struct FinishedRun {
    /// Its results.
    pub results: Results,
    /// Why not all measurements were saved during the run.
    pub journal_fault: Option<std::io::Error>,
}

impl FinishedRun {
    /// The number of prompts with a wrong answer, over all arms.
    #[must_use]
    pub fn wrong(&self) -> usize {
        let overall = self.results.summaries.iter().filter(|summary| summary.group.is_none());
        overall.map(|summary| summary.equality.wrong).sum()
    }
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner")
            .field("plan", &self.plan)
            .field("prompts", &self.prompts.len())
            .field("answers", &self.answers.len())
            .finish_non_exhaustive()
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

pub(super) fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}
