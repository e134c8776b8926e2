//! Arms on our backends: each has a decoder, and all arms of a setup share its model.

use std::path::Path;
use std::sync::Arc;

use upcycle::{Config, DecoderError, DrafterConfig, RecyclingOptions, Tree, load_snapshot};
use upcycle_core::mixed::Corpus;
use upcycle_core::{Decoder, Drafter, Stats};

use crate::arm::ArmSpec;
use crate::error::{BenchError, error_chain};
use crate::machine;
use crate::results::{Arm, ArmKind, ArmState, InitialTables, SourceCount, Steps, TimeSplit};
use crate::runner::answer::{self, DecodeSettings};
use crate::runner::loaded_setup::LoadedSetup;
use crate::runner::measured::MeasuredAnswer;
use crate::runner::verifier_slot::VerifierSlot;

/// An arm on one of our backends.
pub(in crate::runner) struct BackendArm {
    name: String,
    /// Index of its setup.
    pub(super) setup: usize,
    config: Config,
    /// The setup's texts to copy from, if this arm or an earlier one uses them.
    corpus: Option<Arc<Corpus>>,
    decoder: Decoder<VerifierSlot, Box<dyn Drafter>>,
}

/// The arms of all setups.
pub(in crate::runner) fn arms(
    specs: &[ArmSpec],
    setups: &[LoadedSetup],
    tables: InitialTables,
) -> Result<Vec<(Arm, BackendArm)>, BenchError> {
    let mut arms: Vec<(Arm, BackendArm)> = Vec::new();
    // Plain decoding comes first, because it is the baseline of the others.
    let mut specs: Vec<&ArmSpec> = specs.iter().filter(|spec| !matches!(spec, ArmSpec::Peer(_))).collect();
    specs.sort_by_key(|spec| **spec != ArmSpec::Plain);
    for (index, setup) in setups.iter().enumerate() {
        let baseline = arms.len();
        // All arms of a setup share its texts, which are read once.
        let mut corpus: Option<Arc<Corpus>> = None;
        for spec in &specs {
            let config = spec.configure(&setup.builder)?;
            if arms[baseline..].iter().any(|(_, arm)| arm.config == config) {
                continue;
            }
            let drafter = config.drafter();
            let name = format!("{} {}", setup.name, label(drafter));
            if tables == InitialTables::Snapshot && !has_snapshot(drafter) {
                return Err(BenchError::NoSnapshot { arm: name });
            }
            if drafter.corpus_dir().is_some() && corpus.is_none() {
                let fault = |error| BenchError::Drafter {
                    arm: name.clone(),
                    source: Box::new(DecoderError::from(error)),
                };
                corpus = setup.text.corpus(drafter, setup.limits.vocab).map_err(fault)?;
            }
            let is_plain = drafter.is_plain_decoding();
            let arm = Arm {
                name: name.clone(),
                kind: if is_plain { ArmKind::Plain } else { ArmKind::Draft },
                baseline,
                setup: setup.name.clone(),
                engine: setup.engine.clone(),
                engine_version: (!setup.kernels.is_empty()).then(|| setup.kernels.clone()),
                model: setup.model.clone(),
                model_sha256: setup.model_sha256.clone(),
                drafter: drafter.name().to_owned(),
                nodes: drafter.budget().nodes().filter(|_| !is_plain),
                threads: setup.threads,
                config: config.to_toml().unwrap_or_else(|error| format!("# {error}")),
                state: ArmState::Measured,
            };
            let decoder = decoder(&name, &config, corpus.as_ref(), setup, InitialTables::Empty)?;
            arms.push((arm, BackendArm { name, setup: index, config, corpus: corpus.clone(), decoder }));
        }
    }
    Ok(arms)
}

/// The name of an arm within its setup. Arms with equal configurations have equal names, however they were written.
fn label(config: &DrafterConfig) -> String {
    if config.is_plain_decoding() {
        return "plain".to_owned();
    }
    if let Some(preset) = config.preset() {
        return preset.name().to_owned();
    }
    let tree = match config.options().map(|RecyclingOptions { tree, .. }| tree) {
        None | Some(Tree::Auto) => String::new(),
        Some(Tree::Template { path: None, .. }) => format!("@{}", Tree::PAPER_80),
        Some(Tree::Template { path: Some(path), .. }) => {
            format!("@{}", path.file_stem().unwrap_or_default().to_string_lossy())
        }
    };
    format!("{}:{}{tree}", config.name(), config.budget())
}

fn has_snapshot(config: &DrafterConfig) -> bool {
    config.is_plain_decoding() || config.snapshot().is_some_and(Path::is_file)
}

fn decoder(
    arm: &str,
    config: &Config,
    corpus: Option<&Arc<Corpus>>,
    setup: &LoadedSetup,
    tables: InitialTables,
) -> Result<Decoder<VerifierSlot, Box<dyn Drafter>>, BenchError> {
    let fault = |source: DecoderError| BenchError::Drafter { arm: arm.to_owned(), source: Box::new(source) };
    let config = config.drafter();
    let drafter = config.build(&setup.registry, setup.limits.vocab, setup.curve.as_ref(), corpus);
    let mut drafter = drafter.map_err(|error| fault(error.into()))?;
    // Carried tables start with the snapshot too, as in `upcycle run`.
    if tables != InitialTables::Empty {
        load_snapshot(&mut *drafter, config, &setup.text.tokenizer.fingerprint()).map_err(fault)?;
    }
    let decoder = Decoder::new(VerifierSlot::empty(setup.limits.clone()), drafter);
    Ok(config.apply_budget(decoder, setup.curve.clone()))
}

impl BackendArm {
    /// Makes a new decoder whose drafter starts with `tables`.
    pub(super) fn restart(
        &mut self,
        setups: &[LoadedSetup],
        tables: InitialTables,
    ) -> Result<(), BenchError> {
        let corpus = self.corpus.as_ref();
        self.decoder = decoder(&self.name, &self.config, corpus, &setups[self.setup], tables)?;
        Ok(())
    }

    pub(super) fn answer(
        &mut self,
        setups: &mut [LoadedSetup],
        prompt: usize,
        settings: DecodeSettings,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Option<MeasuredAnswer>, String> {
        let all_memory: u64 = setups.iter().map(|setup| setup.memory).sum();
        let setup = &mut setups[self.setup];
        let other_models = all_memory - setup.memory;
        let Some(verifier) = setup.verifier.take() else { return Err("its model is gone".to_owned()) };
        self.decoder.verifier_mut().put(verifier);
        machine::reset_peak_memory(None);
        let answered = answer::answer(&mut self.decoder, setup.request(prompt, settings), interrupted);
        let peak_memory = machine::peak_memory(None).map(|peak| peak.saturating_sub(other_models));
        setup.verifier = self.decoder.verifier_mut().take();
        let Some(answer) = answered.map_err(|error| error_chain(&error))? else { return Ok(None) };
        let stats = &answer.stats;
        Ok(Some(MeasuredAnswer {
            prompt_tokens: stats.prefilled,
            prefill_seconds: stats.time.prefill.as_secs_f64(),
            decode_tokens: stats.emitted_per_step.iter().map(|&n| n as usize).sum(),
            decode_seconds: stats.time.decode().as_secs_f64(),
            steps: Some(self.steps(stats)),
            peak_memory,
            prompt_rows: self.decoder.drafter().prompt_rows(),
            tokens: answer.tokens,
            recorded_trees: answer.recorded_trees,
        }))
    }

    fn steps(&self, stats: &Stats) -> Steps {
        let drafter = self.decoder.drafter();
        let counts = stats.drafted_by_source.iter().zip(&stats.accepted_by_source);
        let sources = drafter
            .sources()
            .into_iter()
            .zip(counts)
            .map(|(name, (&drafted, &accepted))| SourceCount { name: name.to_owned(), drafted, accepted });
        Steps {
            count: stats.steps(),
            emitted: stats.emitted_per_step.iter().map(|&n| n as usize).sum(),
            drafted: stats.drafted,
            accepted: stats.accepted,
            nodes: stats.nodes_histogram(),
            drafted_by_depth: stats.drafted_by_depth.clone(),
            accepted_by_depth: stats.accepted_by_depth.clone(),
            sources: sources.collect(),
            time: TimeSplit {
                draft: stats.time.draft.as_secs_f64(),
                forward: stats.time.forward.as_secs_f64(),
                accept: stats.time.accept.as_secs_f64(),
                commit: stats.time.commit.as_secs_f64(),
                observe: stats.time.observe.as_secs_f64(),
            },
            drafter_memory: drafter.footprint().bytes as u64,
        }
    }
}
