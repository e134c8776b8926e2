//! `upcycle run`.

use std::error::Error;

use upcycle::{
    AnyDecoder, Config, CostCache, DrafterConfig, LoadMeter, LoadedModel, PromptStyle, Registry, Text,
};
use upcycle_core::{Drafter, TokenId, Verifier};

use crate::answer::Responder;
use crate::args::Run;
use crate::failure::Failure;
use crate::output::{Output, print_status};
use crate::progress::Bar;
use crate::prompts::{FilePrompt, Prompts};
use crate::stats::{self, AnswerJson};
use crate::{compare, config, interrupt};

pub(crate) fn run(arguments: Run, registry: &Registry, output: &mut Output) -> Result<(), Failure> {
    let config = config::load(&arguments.settings, registry)?;
    if arguments.empty_tables && config.drafter().written_snapshot().is_some() {
        return Err(Failure::usage(
            "--empty-tables clears the tables before each prompt, so drafter.snapshot would save only the last one; use one of \
             the two",
        ));
    }
    if arguments.compare && config.drafter().is_plain_decoding() {
        return Err(Failure::usage(
            "--compare compares a drafter with plain decoding; the drafter is `none`, choose another",
        ));
    }
    let empty_tables = arguments.empty_tables || !config.drafter().share_across_prompts();
    let prompts = Prompts::read(arguments.prompt)?;

    let model = load(&config, registry)?;
    interrupt::listen();
    let (mut decoder, text) = decoder(model, &config, registry)?;
    let ending = Ending::before_answers(&config, &decoder);
    let responder = Responder::new(&config, &text)?.with_system(arguments.system.as_deref());
    let style = if arguments.raw { PromptStyle::Raw } else { PromptStyle::Chat };
    let names = (config.backend().name.as_str(), config.drafter().name());
    match prompts {
        Prompts::One(prompt) => {
            let prompt = responder.encode(&prompt, style).map_err(Failure::usage)?;
            if arguments.compare {
                return compare::compare(&config, &responder, decoder, &prompt, output);
            }
            let mut show = |text: &str| if arguments.json { Ok(()) } else { output.text(text) };
            let answer = responder.answer(&mut decoder, &prompt, &mut show)?;
            if arguments.json {
                output.json(&AnswerJson::new(&answer, names, None))?;
            } else if !answer.text.ends_with('\n') {
                output.line("")?;
            }
            if arguments.stats {
                print_status(stats::to_text(&answer, names).trim_end());
            }
            ending.after_answers(&decoder, &text)?;
            answer.check_interrupt()
        }
        Prompts::Many(questions) => {
            let prompts = encode_all(&responder, &questions, style, decoder.verifier().limits().max_context)?;
            for (question, prompt) in questions.iter().zip(&prompts) {
                if empty_tables {
                    decoder.drafter_mut().clear();
                }
                let answer = responder.answer(&mut decoder, prompt, &mut |_| Ok(()))?;
                output.json(&AnswerJson::new(&answer, names, Some(&question.id)))?;
                if arguments.stats {
                    print_status(stats::to_text(&answer, names).trim_end());
                }
                if answer.check_interrupt().is_err() {
                    ending.after_answers(&decoder, &text)?;
                    return Err(Failure::Interrupted);
                }
            }
            ending.after_answers(&decoder, &text)
        }
    }
}

/// Loads the model and shows a progress bar.
pub(crate) fn load(config: &Config, registry: &Registry) -> Result<LoadedModel, Failure> {
    let bar = Bar::new("loading the model");
    Ok(LoadedModel::load(config, registry, &mut |progress| bar.set(progress))?)
}

/// Encodes all prompts. Fails if one cannot be encoded or does not fit the context.
pub(crate) fn encode_all(
    responder: &Responder<'_>,
    questions: &[FilePrompt],
    style: PromptStyle,
    context: usize,
) -> Result<Vec<Vec<TokenId>>, Failure> {
    questions
        .iter()
        .map(|question| {
            let tokens = responder
                .encode(&question.prompt, style)
                .map_err(|error| question.location.usage_error(error))?;
            if tokens.len() > context {
                let reason =
                    format!("the prompt has {} tokens and the context holds {context}", tokens.len());
                return Err(question.location.usage_error(reason));
            }
            Ok(tokens)
        })
        .collect()
}

/// The decoder of a loaded model. If passes have to be timed, a line says so meanwhile.
pub(crate) fn decoder(
    model: LoadedModel,
    config: &Config,
    registry: &Registry,
) -> Result<(AnyDecoder, Text), Failure> {
    let costs = CostCache::user_cache();
    let times = model.times_passes(config.drafter(), &costs);
    let bar = times.then(|| Bar::without_length("timing passes, once for this model and backend"));
    let decoder = model.into_decoder(config.drafter(), registry, &costs).map_err(Failure::failed);
    drop(bar);
    decoder
}

/// What is done once all answers are there.
#[derive(Debug)]
pub(crate) struct Ending {
    drafter: DrafterConfig,
    /// Whether the snapshot can be written.
    saves: bool,
    load: LoadMeter,
}

impl Ending {
    /// Warns if what the drafter learns cannot be kept.
    pub(crate) fn before_answers(config: &Config, decoder: &AnyDecoder) -> Self {
        let checked = upcycle::check_snapshot(config.drafter());
        if let Err(error) = &checked {
            let reason = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            tracing::warn!(
                "{error}{reason}; it is only read (drafter.snapshot_mode = \"read-only\" says so)"
            );
        }
        let threads = decoder.verifier().threads().unwrap_or(1);
        Self { drafter: config.drafter().clone(), saves: checked.is_ok(), load: LoadMeter::start(threads) }
    }

    /// Saves the drafter's tables, if they can be, and forgets costs of passes that did not hold.
    pub(crate) fn after_answers(&self, decoder: &AnyDecoder, text: &Text) -> Result<(), Failure> {
        if let Some(budget) = decoder.auto_budget() {
            CostCache::user_cache().review(budget, self.load.load());
        }
        if self.saves { save_snapshot(decoder, &self.drafter, text) } else { Ok(()) }
    }
}

/// Saves the drafter's tables to `drafter.snapshot`, if it is set.
pub(crate) fn save_snapshot(
    decoder: &AnyDecoder,
    config: &DrafterConfig,
    text: &Text,
) -> Result<(), Failure> {
    let fingerprint = text.tokenizer.fingerprint();
    upcycle::save_snapshot(&**decoder.drafter(), config, &fingerprint).map_err(Failure::failed)
}
