//! `upcycle run`.

use upcycle::{AnyDecoder, Config, CostCache, Engine, PromptStyle, Registry, Text};
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
    config::start_log(config.log_level());
    if arguments.empty_tables && config.drafter().snapshot().is_some() {
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

    let engine = load(&config, registry)?;
    let (mut decoder, text) =
        engine.into_decoder(config.drafter(), registry, &CostCache::user_cache()).map_err(Failure::failed)?;
    let responder = Responder::new(&config, &text)?;
    let style = if arguments.raw { PromptStyle::Raw } else { PromptStyle::Chat };
    let names = (config.backend().name.as_str(), config.drafter().name());
    interrupt::listen()?;
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
            save_snapshot(&decoder, &config, &text)?;
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
                    save_snapshot(&decoder, &config, &text)?;
                    return Err(Failure::Interrupted);
                }
            }
            save_snapshot(&decoder, &config, &text)
        }
    }
}

/// Loads the model and shows a progress bar.
pub(crate) fn load(config: &Config, registry: &Registry) -> Result<Engine, Failure> {
    let bar = Bar::new("loading the model");
    Ok(Engine::load(config, registry, &mut |progress| bar.set(progress))?)
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

/// Saves the drafter's tables to `drafter.snapshot`, if it is set.
pub(crate) fn save_snapshot(decoder: &AnyDecoder, config: &Config, text: &Text) -> Result<(), Failure> {
    let fingerprint = text.tokenizer.fingerprint();
    upcycle::save_snapshot(&**decoder.drafter(), config.drafter(), &fingerprint).map_err(Failure::failed)
}
