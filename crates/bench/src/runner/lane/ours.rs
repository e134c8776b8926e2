//! Our own arms: a decoder for each, over the model of its setup.

use std::path::Path;
use std::sync::Arc;

use upcycle::{AnyDrafter, Config, DrafterChoice, DrafterError, PAPER_80, Recycling, Tree};
use upcycle_core::mixed::Corpus;
use upcycle_core::{Decoder, Drafter, Sampling, Stats};

use super::{Lane, Measured, chain};
use crate::arm::ArmSpec;
use crate::machine;
use crate::results::{Arm, ArmKind, ArmState, MatrixState, SourceCount, Steps, TimeSplit};
use crate::runner::BenchError;
use crate::runner::answer::{self, Ask};
use crate::runner::seat::Seat;
use crate::runner::setup::Setup;

/// One of our arms.
pub(in crate::runner) struct Ours {
    arm: String,
    pub(super) setup: usize,
    config: Config,
    /// Of the setup's texts, if an arm so far copies from them.
    corpus: Option<Arc<Corpus>>,
    decoder: Decoder<Seat, AnyDrafter>,
}

/// The arms of our own setups, and their decoders.
pub(in crate::runner) fn arms(
    specs: &[ArmSpec],
    setups: &[Setup],
    matrix: MatrixState,
    backends: &[&str],
) -> Result<(Vec<Arm>, Vec<Lane>), BenchError> {
    let (mut arms, mut lanes): (Vec<Arm>, Vec<Lane>) = (Vec::new(), Vec::new());
    for (index, setup) in setups.iter().enumerate() {
        let mut plain = None;
        // All arms of a setup have its texts, which are read once.
        let mut read: Option<Arc<Corpus>> = None;
        let mut seen: Vec<Config> = Vec::new();
        // The first is plain decoding, so that the others can name it.
        let mut specs: Vec<&ArmSpec> =
            specs.iter().filter(|spec| !matches!(spec, ArmSpec::Peer(_))).collect();
        specs.sort_by_key(|spec| **spec != ArmSpec::Plain);
        for spec in specs {
            let config = spec.configure(&setup.layers, backends)?;
            if seen.contains(&config) {
                continue;
            }
            let name = format!("{} {}", setup.name, label(config.drafter()));
            if matrix == MatrixState::Snapshot && !has_snapshot(config.drafter()) {
                return Err(BenchError::NoSnapshot { arm: name });
            }
            let is_plain = *config.drafter() == DrafterChoice::None;
            let baseline = *plain.get_or_insert(arms.len());
            arms.push(Arm {
                name: name.clone(),
                kind: if is_plain { ArmKind::Plain } else { ArmKind::Draft },
                baseline,
                setup: setup.name.clone(),
                engine: setup.engine.clone(),
                engine_version: (!setup.kernels.is_empty()).then(|| setup.kernels.clone()),
                model: setup.model.clone(),
                model_sha256: setup.model_sha256.clone(),
                drafter: config.drafter().name().to_owned(),
                nodes: config.drafter().budget().nodes().filter(|_| !is_plain),
                threads: setup.threads,
                config: config.to_toml().unwrap_or_else(|error| format!("# {error}")),
                state: ArmState::Measured,
            });
            if config.drafter().texts().is_some() && read.is_none() {
                let corpus = setup.text.corpus(config.drafter(), setup.limits.vocab);
                let fault = |source: DrafterError| BenchError::Drafter { arm: name.clone(), source };
                read = corpus.map_err(|error| fault(error.into()))?;
            }
            let decoder = decoder(&name, &config, read.as_ref(), setup, MatrixState::Cold)?;
            lanes.push(Lane::Ours(Box::new(Ours {
                arm: name,
                setup: index,
                config: config.clone(),
                corpus: read.clone(),
                decoder,
            })));
            seen.push(config);
        }
    }
    Ok((arms, lanes))
}

/// What an arm of ours is called, by what it is and not by how it was asked for.
fn label(choice: &DrafterChoice) -> String {
    match choice {
        DrafterChoice::None => "plain".to_owned(),
        DrafterChoice::Recycling(Recycling { preset: Some(preset), .. }) => preset.name().to_owned(),
        DrafterChoice::Recycling(Recycling { tree, budget, .. }) => {
            let tree = match tree {
                Tree::Auto => String::new(),
                Tree::Template { path: None, .. } => format!("@{PAPER_80}"),
                Tree::Template { path: Some(path), .. } => {
                    format!("@{}", path.file_stem().unwrap_or_default().to_string_lossy())
                }
            };
            format!("recycling:{budget}{tree}")
        }
        choice => format!("{}:{}", choice.name(), choice.budget()),
    }
}

fn has_snapshot(choice: &DrafterChoice) -> bool {
    match choice {
        DrafterChoice::None => true,
        choice => choice.snapshot().is_some_and(Path::is_file),
    }
}

fn decoder(
    arm: &str,
    config: &Config,
    corpus: Option<&Arc<Corpus>>,
    setup: &Setup,
    matrix: MatrixState,
) -> Result<Decoder<Seat, AnyDrafter>, BenchError> {
    let (choice, vocab, costs) = (config.drafter(), setup.limits.vocab, setup.curve.as_ref());
    let drafter = match matrix {
        // Tables that are carried on begin with the snapshot, if one is configured, as those of `run` do.
        MatrixState::Snapshot | MatrixState::Carried => {
            AnyDrafter::build(choice, vocab, &setup.text.tokenizer.fingerprint(), costs, corpus)
        }
        MatrixState::Cold => AnyDrafter::cold(choice, vocab, costs, corpus),
    };
    let fault = |source: DrafterError| BenchError::Drafter { arm: arm.to_owned(), source };
    let decoder = Decoder::new(Seat::empty(setup.limits.clone()), drafter.map_err(fault)?);
    Ok(choice.budget().apply(decoder, setup.curve.clone()))
}

impl Ours {
    /// Makes the decoder anew, with what `matrix` says that it knows when a prompt begins.
    pub(super) fn restart(&mut self, setups: &[Setup], matrix: MatrixState) -> Result<(), BenchError> {
        let corpus = self.corpus.as_ref();
        self.decoder = decoder(&self.arm, &self.config, corpus, &setups[self.setup], matrix)?;
        Ok(())
    }

    pub(super) fn answer(
        &mut self,
        setups: &mut [Setup],
        prompt: usize,
        max_tokens: usize,
        sampling: Sampling,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Option<Measured>, String> {
        let others: u64 = setups
            .iter()
            .enumerate()
            .filter(|&(index, _)| index != self.setup)
            .map(|(_, setup)| setup.memory)
            .sum();
        let setup = &mut setups[self.setup];
        let Some(verifier) = setup.verifier.take() else { return Err("its model is gone".to_owned()) };
        self.decoder.verifier_mut().sit(verifier);
        machine::reset_peak_memory(None);
        let ask = Ask {
            prompt: &setup.prompts[prompt],
            end_of_sequence: setup.text.tokenizer.eos_ids(),
            max_tokens,
            sampling,
        };
        let answered = answer::answer(&mut self.decoder, ask, interrupted);
        let peak_memory = machine::peak_memory(None).map(|peak| peak.saturating_sub(others));
        setup.verifier = self.decoder.verifier_mut().rise();
        let Some(answer) = answered.map_err(|error| chain(&error))? else { return Ok(None) };
        let stats = &answer.stats;
        Ok(Some(Measured {
            prompt_tokens: stats.prefilled,
            prefill_seconds: stats.time.prefill.as_secs_f64(),
            decode_tokens: stats.emitted.iter().map(|&n| n as usize).sum(),
            decode_seconds: stats.time.decode().as_secs_f64(),
            steps: Some(self.steps(stats)),
            peak_memory,
            prompt_rows: self.decoder.drafter().prompt_rows(),
            tokens: answer.tokens,
            tape: answer.tape,
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
            emitted: stats.emitted.iter().map(|&n| n as usize).sum(),
            drafted: stats.drafted,
            accepted: stats.accepted,
            nodes: stats.sizes(),
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
