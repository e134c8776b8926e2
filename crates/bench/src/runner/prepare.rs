//! Everything that a run needs, made before anything is measured.

use std::collections::BTreeMap;
use std::path::Path;

use upcycle::Registry;
use upcycle_core::{Sampling, SamplingConfig};

use super::journal::{Cell, Journal, Line, read_begun};
use super::lane::{self, Lane};
use super::setup::{self, Asked, Setup};
use super::{BenchError, Runner, Watch, now};
use crate::arm::ArmSpec;
use crate::machine;
use crate::plan::{self, Begun, Plan};
use crate::results::{MatrixState, SCHEMA, Settings};

/// The prompts of a run.
#[derive(Clone, Debug)]
pub struct Prompts {
    /// What to call them in the report: `built-in`, or the name of a file.
    pub name: String,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// What is asked.
    pub asked: Vec<Asked>,
}

impl Runner {
    /// Loads, starts and encodes everything, and begins or resumes the journal in `folder`.
    ///
    /// # Errors
    /// [`BenchError`]; nothing has been measured then.
    pub fn prepare(
        plan: Plan,
        prompts: Prompts,
        folder: &Path,
        resume: bool,
        registry: &Registry,
        watch: &mut dyn Watch,
    ) -> Result<Self, BenchError> {
        let specs = plan::arms(&plan)?;
        let sampling = Sampling::new(SamplingConfig {
            temperature: plan.temperature,
            seed: plan.seed,
            ..SamplingConfig::default()
        })?;
        let ours = specs.iter().any(|spec| !matches!(spec, ArmSpec::Peer(_)));
        let mut setups = Vec::new();
        for setup in plan.setups.iter().filter(|_| ours) {
            let mut progress = |progress| watch.loading(&setup.name, progress);
            setups.push(Setup::load(setup, registry, &prompts.asked, &mut progress)?);
        }
        let (mut arms, mut lanes) = lane::ours(&specs, &setups, plan.matrix, &registry.names())?;
        lane::peers(&specs, &plan, &setups, &prompts.asked, (&mut arms, &mut lanes), watch)?;

        let context = setups.iter().map(|setup| setup.limits.max_context).min().unwrap_or(lane::PEER_CONTEXT);
        let lengths: Vec<Vec<usize>> = setups
            .iter()
            .map(|setup| &setup.prompts)
            .chain(lanes.iter().filter_map(Lane::peer_prompts))
            .map(|prompts| prompts.iter().map(Vec::len).collect())
            .collect();
        let (kept, skipped) = setup::fitting(&prompts.asked, &lengths, context);
        if kept.is_empty() {
            let reason = skipped.first().map_or("there are none", |first| first.reason.as_str()).to_owned();
            return Err(BenchError::NothingToAsk { asked: prompts.asked.len(), reason });
        }
        let asked: Vec<Asked> = kept.iter().map(|&index| prompts.asked[index].clone()).collect();
        let keep = |all: &mut Vec<Vec<u32>>| *all = kept.iter().map(|&index| all[index].clone()).collect();
        setups.iter_mut().for_each(|setup| keep(&mut setup.prompts));
        lanes.iter_mut().filter_map(Lane::peer_prompts_mut).for_each(keep);

        let machine = machine::describe();
        let mut begun = Begun {
            schema: SCHEMA,
            started: now(),
            plan: plan.clone(),
            prompts_sha256: prompts.sha256.clone(),
            build: machine::build(),
            cpu: machine.cpu.clone(),
            arms,
        };
        let mut groups: Vec<String> = Vec::new();
        for asked in &asked {
            if !groups.contains(&asked.group) {
                groups.push(asked.group.clone());
            }
        }
        let settings = Settings {
            prompts: prompts.name,
            prompts_sha256: prompts.sha256,
            prompts_count: asked.len(),
            groups,
            per_group: plan.per_group,
            max_tokens: plan.max_tokens,
            rounds: plan.rounds,
            rounds_done: 0,
            temperature: plan.temperature,
            seed: plan.seed,
            matrix: plan.matrix,
        };
        let (journal, lines) = if resume {
            let before = read_begun(folder)?;
            if let Some(what) = before.differs(&begun) {
                return Err(BenchError::Changed { what });
            }
            begun.started = before.started;
            Journal::resume(folder)?
        } else {
            (Journal::begin(folder, &begun)?, Vec::new())
        };
        let mut runner = Self {
            plan,
            begun,
            machine,
            settings,
            sampling,
            setups,
            lanes,
            asked,
            skipped,
            journal,
            cells: BTreeMap::new(),
            costs: BTreeMap::new(),
            warnings: Vec::new(),
        };
        runner.take_up(lines);
        Ok(runner)
    }

    /// Takes up what was measured before.
    fn take_up(&mut self, lines: Vec<Line>) {
        if !lines.is_empty() {
            self.warnings
                .push("the run was stopped and resumed: its rounds were not measured in one go".to_owned());
        }
        for line in lines {
            match line {
                Line::Cell(cell) => {
                    for (arm, reason) in &cell.failed {
                        self.fail(*arm, reason.clone());
                    }
                    self.cells.insert((cell.round, cell.prompt), cell);
                }
                Line::Costs { round, costs } => drop(self.costs.insert(round, costs)),
                Line::Busy { round, processors } => self.warn_busy(round, processors),
            }
        }
        if self.plan.matrix == MatrixState::Carried {
            // What the prompts of a round taught is gone with the process: its round begins anew.
            let prompts = self.asked.len();
            let whole = |round: usize, cells: &BTreeMap<(usize, usize), Cell>| {
                cells.range((round, 0)..(round + 1, 0)).count() == prompts
            };
            let partial: Vec<usize> =
                (0..self.plan.rounds).filter(|&round| !whole(round, &self.cells)).collect();
            self.cells.retain(|(round, _), _| !partial.contains(round));
        }
    }
}
