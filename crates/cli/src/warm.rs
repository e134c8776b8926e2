//! `upcycle warm`: a snapshot of what a drafter learns from a file of prompts.

use upcycle_backends::{CostCache, DrafterChoice, PromptStyle, Recycling, Registry};
use upcycle_core::Verifier;

use crate::answer::Speaker;
use crate::args::{PromptSource, Warm};
use crate::failure::Failure;
use crate::output::Output;
use crate::prompts::Prompts;
use crate::run::{encode_all, keep, load};
use crate::{config, interrupt};

pub(crate) fn warm(arguments: Warm, output: &mut Output) -> Result<(), Failure> {
    let registry = Registry::builtin();
    let mut layers = config::layers(&arguments.settings)?;
    if !layers.load(&registry.names())?.shared() {
        return Err(Failure::usage(
            "`drafter.shared` is false, so that every prompt would empty what `warm` is to keep; expected true, or \
             nothing, here",
        ));
    }
    layers.flag("--out", "drafter.snapshot", &arguments.out)?;
    let written = layers.load(&registry.names())?;
    if !matches!(written.drafter(), DrafterChoice::Recycling(Recycling { preset: Some(_), .. })) {
        layers.flag("--out", "drafter.prompt_rows", "all")?;
    }
    let config = layers.load(&registry.names())?;
    config::start_log(config.log_level());
    if config.drafter().snapshot().is_none() {
        let name = config.drafter().name();
        return Err(Failure::usage(format!(
            "the drafter `{name}` has no matrix to keep; choose `recycling` or `mixed`"
        )));
    }
    let source = PromptSource { prompt: None, prompt_file: None, prompts: Some(arguments.prompts) };
    let Prompts::Many(questions) = Prompts::read(source)? else { return Ok(()) };

    let engine = load(&config, &registry)?;
    let (mut decoder, text) =
        engine.into_decoder(config.drafter(), &CostCache::of_user()).map_err(Failure::failed)?;
    let speaker = Speaker::new(&config, &text)?;
    let style = if arguments.raw { PromptStyle::Raw } else { PromptStyle::Chat };
    let prompts = encode_all(&speaker, &questions, style, decoder.verifier().limits().max_context)?;
    interrupt::listen()?;
    let (mut tokens, mut steps) = (0, 0);
    let mut interrupted = Ok(());
    for (done, prompt) in prompts.iter().enumerate() {
        let answer = speaker.answer(&mut decoder, prompt, &mut |_| Ok(()))?;
        tokens += answer.tokens.len();
        steps += answer.stats.steps();
        tracing::info!(done = done + 1, of = prompts.len(), "answered");
        interrupted = answer.check_interrupt();
        if interrupted.is_err() {
            break;
        }
    }
    keep(&decoder, &config, &text)?;
    let rows = decoder.drafter().matrix().map_or(0, |matrix| matrix.rows());
    let mean = tokens as f64 / (steps as f64).max(1.0);
    let line = format!("{}: {rows} rows, after {tokens} tokens at {mean:.2} a step", arguments.out);
    output.line(&line)?;
    interrupted
}
