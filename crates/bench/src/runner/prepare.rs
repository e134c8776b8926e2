//! Prepares a run: loads models, starts peers, encodes prompts, opens the journal.

use std::collections::BTreeMap;
use std::path::Path;

use upcycle::Registry;
use upcycle_core::{Sampling, SamplingConfig};

use super::answer::DecodeSettings;
use super::arm_runner::{self, ArmRunner};
use super::journal::{Journal, JournalLine, read_manifest};
use super::loaded_setup::{LoadedSetup, fitting};
use super::manifest::RunManifest;
use super::observer::RunObserver;
use super::run::{Runner, now};
use crate::arm::ArmSpec;
use crate::error::BenchError;
use crate::machine;
use crate::plan::RunPlan;
use crate::prompts::{Prompt, PromptSet};
use crate::results::{Arm, InitialTables, SCHEMA, Settings};

impl Runner {
    /// Prepares a new run in `folder`, or resumes the one that is there.
    ///
    /// # Errors
    /// [`BenchError`]. Nothing has been measured then.
    pub fn prepare(
        plan: RunPlan,
        set: &PromptSet,
        folder: &Path,
        resume: bool,
        registry: &Registry,
        observer: &mut dyn RunObserver,
    ) -> Result<Self, BenchError> {
        let specs = plan.arm_specs()?;
        let sampling = Sampling::new(SamplingConfig {
            temperature: plan.temperature,
            seed: plan.seed,
            ..SamplingConfig::default()
        })?;
        let all: Vec<Prompt> =
            set.first_of_each_group(plan.per_group.unwrap_or(usize::MAX)).into_iter().cloned().collect();
        let only_peers = specs.iter().all(|spec| matches!(spec, ArmSpec::Peer(_)));
        let mut setups = Vec::new();
        for setup in plan.setups.iter().filter(|_| !only_peers) {
            let mut progress = |progress| observer.loading(&setup.name, progress);
            setups.push(LoadedSetup::load(setup, registry, &all, &mut progress)?);
        }
        let mut arms: Vec<(Arm, ArmRunner)> = arm_runner::backend_arms(&specs, &setups, plan.tables)?
            .into_iter()
            .map(|(arm, runner)| (arm, ArmRunner::Backend(Box::new(runner))))
            .collect();
        let peers = arm_runner::peer_arms(&specs, &plan, &setups, &all, arms.len(), observer)?;
        arms.extend(peers.into_iter().map(|(arm, runner)| {
            (arm, runner.map_or(ArmRunner::Inactive, |runner| ArmRunner::Peer(Box::new(runner))))
        }));
        let (arms, mut runners): (Vec<Arm>, Vec<ArmRunner>) = arms.into_iter().unzip();

        let context =
            setups.iter().map(|setup| setup.limits.max_context).min().unwrap_or(arm_runner::MAX_CONTEXT);
        let encoded = setups.iter_mut().map(|setup| &mut setup.prompts);
        let mut encoded: Vec<_> =
            encoded.chain(runners.iter_mut().filter_map(ArmRunner::peer_prompts)).collect();
        let lengths: Vec<Vec<usize>> =
            encoded.iter().map(|prompts| prompts.iter().map(Vec::len).collect()).collect();
        let (kept, skipped) = fitting(&all, &lengths, context);
        if kept.is_empty() {
            let reason = skipped.first().map_or("there are none", |first| first.reason.as_str()).to_owned();
            return Err(BenchError::NoPrompts { prompts: all.len(), reason });
        }
        let prompts: Vec<Prompt> = kept.iter().map(|&index| all[index].clone()).collect();
        for encoded in &mut encoded {
            **encoded = kept.iter().map(|&index| encoded[index].clone()).collect();
        }

        let machine = machine::describe();
        let mut manifest = RunManifest {
            schema: SCHEMA,
            started: now(),
            plan: plan.clone(),
            prompts_sha256: set.sha256().to_owned(),
            build: machine::build(),
            cpu: machine.cpu.clone(),
            arms,
        };
        let used = |group: &&str| prompts.iter().any(|prompt| prompt.group == **group);
        let settings = Settings {
            prompts: set.name().to_owned(),
            prompts_sha256: set.sha256().to_owned(),
            prompts_count: prompts.len(),
            groups: set.groups().into_iter().filter(used).map(str::to_owned).collect(),
            per_group: plan.per_group,
            max_tokens: plan.max_tokens,
            rounds: plan.rounds,
            rounds_done: 0,
            temperature: plan.temperature,
            seed: plan.seed,
            tables: plan.tables,
        };
        let (journal, lines) = if resume {
            let before = read_manifest(folder)?;
            if let Some(difference) = before.difference(&manifest) {
                return Err(BenchError::Changed { difference });
            }
            manifest.started = before.started;
            Journal::resume(folder)?
        } else {
            (Journal::create(folder, &manifest)?, Vec::new())
        };
        let decode = DecodeSettings { max_tokens: plan.max_tokens, sampling };
        let mut runner = Self {
            plan,
            manifest,
            machine,
            settings,
            decode,
            setups,
            runners,
            prompts,
            skipped,
            journal,
            answers: BTreeMap::new(),
            costs: BTreeMap::new(),
            warnings: Vec::new(),
        };
        runner.restore(lines);
        Ok(runner)
    }

    /// Restores earlier measurements.
    fn restore(&mut self, lines: Vec<JournalLine>) {
        if !lines.is_empty() {
            self.warnings.push("the run was stopped and resumed, so its rounds are apart in time".to_owned());
        }
        for line in lines {
            match line {
                JournalLine::Answers(answers) => {
                    for (arm, reason) in &answers.failed {
                        self.fail(*arm, reason.clone());
                    }
                    self.answers.insert((answers.round, answers.prompt), answers);
                }
                JournalLine::Costs { round, costs } => drop(self.costs.insert(round, costs)),
                JournalLine::Busy { round, processors } => self.warn_busy(round, processors),
            }
        }
        if self.plan.tables == InitialTables::Carried {
            // Carried tables were lost with the process, so incomplete rounds start again.
            let complete =
                |round: usize| self.answers.range((round, 0)..(round + 1, 0)).count() == self.prompts.len();
            let rounds: Vec<bool> = (0..self.plan.rounds).map(complete).collect();
            self.answers.retain(|(round, _), _| rounds.get(*round).copied().unwrap_or(true));
        }
    }
}
