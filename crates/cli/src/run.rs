//! `upcycle run`.

use upcycle::{AnyDecoder, Config, CostCache, DrafterChoice, Engine, PromptStyle, Registry, Text};
use upcycle_core::{Drafter, TokenId, Verifier};

use crate::answer::Speaker;
use crate::args::Run;
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Bar;
use crate::prompts::{Prompts, Question, eprintln_quiet};
use crate::report::{self, Report};
use crate::{compare, config, interrupt};

pub(crate) fn run(arguments: Run, output: &mut Output) -> Result<(), Failure> {
    let registry = Registry::builtin();
    let config = config::load(&arguments.settings, &registry)?;
    config::start_log(config.log_level());
    if arguments.cold && config.drafter().snapshot().is_some() {
        return Err(Failure::usage(
            "--cold empties the matrix that drafter.snapshot is to keep; leave out one of the two",
        ));
    }
    if arguments.compare && *config.drafter() == DrafterChoice::None {
        return Err(Failure::usage(
            "--compare holds a drafter against plain decoding; choose another than `none`",
        ));
    }
    let cold = arguments.cold || !config.shared();
    let prompts = Prompts::read(arguments.prompt)?;

    let engine = load(&config, &registry)?;
    let (mut decoder, text) =
        engine.into_decoder(config.drafter(), &CostCache::of_user()).map_err(Failure::failed)?;
    let speaker = Speaker::new(&config, &text)?;
    let style = if arguments.raw { PromptStyle::Raw } else { PromptStyle::Chat };
    let names = (config.backend().name.as_str(), config.drafter().name());
    interrupt::listen()?;
    match prompts {
        Prompts::One(prompt) => {
            let prompt = speaker.encode(&prompt, style).map_err(Failure::usage)?;
            if arguments.compare {
                return compare::compare(&config, &speaker, decoder, &prompt, output);
            }
            let mut show = |text: &str| if arguments.json { Ok(()) } else { output.text(text) };
            let answer = speaker.answer(&mut decoder, &prompt, &mut show)?;
            if arguments.json {
                output.json(&Report::new(&answer, names, None))?;
            } else if !answer.text.ends_with('\n') {
                output.line("")?;
            }
            if arguments.stats {
                eprintln_quiet(report::for_people(&answer, names).trim_end());
            }
            keep(&decoder, &config, &text)?;
            answer.check_interrupt()
        }
        Prompts::Many(questions) => {
            let prompts = encode_all(&speaker, &questions, style, decoder.verifier().limits().max_context)?;
            for (question, prompt) in questions.iter().zip(&prompts) {
                if cold {
                    decoder.drafter_mut().clear();
                }
                let answer = speaker.answer(&mut decoder, prompt, &mut |_| Ok(()))?;
                output.json(&Report::new(&answer, names, Some(&question.id)))?;
                if arguments.stats {
                    eprintln_quiet(report::for_people(&answer, names).trim_end());
                }
                if answer.check_interrupt().is_err() {
                    keep(&decoder, &config, &text)?;
                    return Err(Failure::Interrupted);
                }
            }
            keep(&decoder, &config, &text)
        }
    }
}

/// Loads the model, behind a progress bar.
pub(crate) fn load(config: &Config, registry: &Registry) -> Result<Engine, Failure> {
    let bar = Bar::new("loading the model");
    Ok(Engine::load(config, registry, &mut |progress| bar.set(progress))?)
}

/// Every prompt's tokens, so that a prompt which cannot be answered is known before anything runs.
pub(crate) fn encode_all(
    speaker: &Speaker<'_>,
    questions: &[Question],
    style: PromptStyle,
    context: usize,
) -> Result<Vec<Vec<TokenId>>, Failure> {
    questions
        .iter()
        .map(|question| {
            let tokens =
                speaker.encode(&question.prompt, style).map_err(|error| question.place.fault(error))?;
            if tokens.len() > context {
                let reason =
                    format!("the prompt has {} tokens and the context holds {context}", tokens.len());
                return Err(question.place.fault(reason));
            }
            Ok(tokens)
        })
        .collect()
}

/// Keeps the matrix, where a snapshot is configured.
pub(crate) fn keep(decoder: &AnyDecoder, config: &Config, text: &Text) -> Result<(), Failure> {
    decoder.drafter().save(config.drafter(), &text.tokenizer.fingerprint()).map_err(Failure::failed)
}
