//! A setup with its model loaded and its prompts encoded.

use std::path::Path;

use upcycle::{Config, ConfigBuilder, LoadedModel, Progress, PromptError, PromptStyle, Registry, Text};
use upcycle_checkpoint::gguf::Gguf;
use upcycle_core::{CostCurve, Limits, TokenId, Verifier};

use super::answer::{AnswerRequest, DecodeSettings};
use crate::error::BenchError;
use crate::plan::SetupPlan;
use crate::prompts::Prompt;
use crate::results::Skipped;
use crate::{machine, model_file};

/// A setup with its model loaded.
pub(super) struct LoadedSetup {
    pub(super) name: String,
    pub(super) builder: ConfigBuilder,
    pub(super) registry: Registry,
    pub(super) limits: Limits,
    pub(super) verifier: Option<Box<dyn Verifier>>,
    pub(super) text: Text,
    /// The encoded prompts.
    pub(super) prompts: Vec<Vec<TokenId>>,
    pub(super) tolerance: f32,
    pub(super) engine: String,
    pub(super) kernels: String,
    pub(super) threads: Option<usize>,
    pub(super) model: String,
    pub(super) model_sha256: String,
    /// Bytes that loading the model added to the process.
    pub(super) memory: u64,
    /// The last measured cost of passes, from which automatic budgets start.
    pub(super) curve: Option<CostCurve>,
    /// The last measured extra time of ranking every row of a prompt, as a share of its prefill.
    pub(super) prompt_ranking_overhead: Option<f64>,
}

impl LoadedSetup {
    pub(super) fn load(
        plan: &SetupPlan,
        registry: &Registry,
        prompts: &[Prompt],
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, BenchError> {
        let builder = plan.builder(registry)?;
        let config: Config = builder.build()?;
        let before = machine::resident_memory().unwrap_or(0);
        let LoadedModel { text, verifier, backend, path, .. } =
            LoadedModel::load(&config, registry, progress)?;
        let memory = machine::resident_memory().unwrap_or(0).saturating_sub(before);
        Ok(Self {
            name: plan.name.clone(),
            prompts: encode(&text, prompts)?,
            builder,
            registry: registry.clone(),
            limits: verifier.limits().clone(),
            tolerance: verifier.row_tolerance(),
            engine: backend,
            kernels: verifier.description(),
            threads: verifier.threads(),
            verifier: Some(verifier),
            text,
            model: model_file::name(&path),
            model_sha256: model_file::sha256(&path)?,
            memory,
            curve: None,
            prompt_ranking_overhead: None,
        })
    }

    /// The request for the prompt with this index.
    pub(super) fn request(&self, prompt: usize, settings: DecodeSettings) -> AnswerRequest<'_> {
        let DecodeSettings { max_tokens, sampling } = settings;
        let end_of_sequence = self.text.tokenizer.eos_ids();
        AnswerRequest { prompt: &self.prompts[prompt], end_of_sequence, max_tokens, sampling }
    }
}

/// Encodes the prompts for a peer, with the tokenizer and template of its model file.
pub(super) fn peer_prompts(model: &Path, prompts: &[Prompt]) -> Result<Vec<Vec<TokenId>>, BenchError> {
    let gguf = Gguf::open(model).map_err(|source| BenchError::Model { path: model.to_owned(), source })?;
    let text = Text::load(&ConfigBuilder::new(&Registry::builtin()).build()?, model, Some(&gguf))?;
    encode(&text, prompts)
}

fn encode(text: &Text, prompts: &[Prompt]) -> Result<Vec<Vec<TokenId>>, BenchError> {
    // A template that does not compile is an error.
    let raw = matches!(text.template(), Err(PromptError::NoTemplate));
    let style = if raw { PromptStyle::Raw } else { PromptStyle::Chat };
    let encode = |prompt: &Prompt| {
        text.encode(prompt.first_turn(), style)
            .map_err(|source| BenchError::Prompt { question: prompt.question(), source })
    };
    prompts.iter().map(encode).collect()
}

/// Splits prompts into those that fit `context` tokens, as indices, and the skipped ones. `lengths` are the tokens of each
/// prompt, `[setups][prompts]`.
pub(super) fn fitting(
    prompts: &[Prompt],
    lengths: &[Vec<usize>],
    context: usize,
) -> (Vec<usize>, Vec<Skipped>) {
    let (mut kept, mut skipped) = (Vec::new(), Vec::new());
    for (index, prompt) in prompts.iter().enumerate() {
        let longest = lengths.iter().filter_map(|lengths| lengths.get(index)).max().copied().unwrap_or(0);
        // At least one more token must fit, or there is nothing to measure.
        let reason = match longest {
            0 => "the prompt has no tokens".to_owned(),
            _ if longest >= context => {
                format!("the prompt has {longest} tokens and the context holds {context}")
            }
            _ => {
                kept.push(index);
                continue;
            }
        };
        skipped.push(Skipped { question: prompt.question(), group: prompt.group.clone(), reason });
    }
    (kept, skipped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompts::PromptSet;

    #[test]
    fn a_prompt_that_does_not_fit_is_skipped_with_a_reason() {
        let lines: String =
            (0..4).map(|id| format!("{{\"question_id\": {id}, \"turns\": [\"x\"]}}\n")).collect();
        let set = PromptSet::parse("test", lines.as_bytes()).unwrap();
        let lengths = [vec![3, 9, 0, 10], vec![4, 8, 0, 2]];
        let (kept, skipped) = fitting(set.prompts(), &lengths, 10);
        assert_eq!(kept, [0, 1]);
        let reasons: Vec<&str> = skipped.iter().map(|skipped| skipped.reason.as_str()).collect();
        assert_eq!(
            reasons,
            ["the prompt has no tokens", "the prompt has 10 tokens and the context holds 10"]
        );
    }
}
