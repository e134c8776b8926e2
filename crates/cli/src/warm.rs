//! `upcycle warm`: saves what a drafter learns from a file of prompts or from the model's vocabulary.

use std::ops::ControlFlow;
use std::path::Path;

use upcycle::{
    CostCache, DEFAULT_K, DrafterConfig, Engine, Progress, PromptStyle, RecyclingOptions, Registry,
};
use upcycle_core::{AdjacencyMatrix, Drafter, Verifier, warm_up};

use crate::answer::Responder;
use crate::args::{PromptSource, Warm};
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Bar;
use crate::prompts::Prompts;
use crate::run::{encode_all, load, save_snapshot};
use crate::{config, interrupt};

pub(crate) fn warm(arguments: Warm, registry: &Registry, output: &mut Output) -> Result<(), Failure> {
    let mut builder = config::builder(&arguments.settings, registry)?;
    if !builder.build()?.drafter().share_across_prompts() {
        return Err(Failure::usage(
            "`drafter.share_across_prompts` is false, so each prompt would clear the tables that `warm` saves; set it to true or \
             remove it",
        ));
    }
    builder.flag("--out", "drafter.snapshot", &arguments.out)?;
    let written = builder.build()?;
    if written.drafter().preset().is_none() {
        builder.flag("--out", "drafter.prompt_rows", "all")?;
    }
    let config = builder.build()?;
    config::start_log(config.log_level());
    let Some(file) = config.drafter().snapshot() else {
        let name = config.drafter().name();
        return Err(Failure::usage(format!(
            "the drafter `{name}` has no tables to save; choose `recycling` or `mixed`"
        )));
    };
    let questions = match arguments.prompts {
        Some(file) => {
            let source = PromptSource { prompt: None, prompt_file: None, prompts: Some(file) };
            let Prompts::Many(questions) = Prompts::read(source)? else { return Ok(()) };
            questions
        }
        None => Vec::new(),
    };

    let mut engine = load(&config, registry)?;
    let style = if arguments.raw { PromptStyle::Raw } else { PromptStyle::Chat };
    let max_context = engine.verifier.limits().max_context;
    let prompts = encode_all(&Responder::new(&config, &engine.text)?, &questions, style, max_context)?;
    interrupt::listen()?;
    let mut learned = String::new();
    if arguments.vocabulary {
        let (rows, filled) = fill_from_vocabulary(&mut engine, config.drafter(), file, style)?;
        learned = format!(", {filled} of them from single tokens of the vocabulary");
        if prompts.is_empty() || interrupt::requested() {
            output.line(&format!("{}: {rows} rows{learned}", arguments.out))?;
            return if interrupt::requested() { Err(Failure::Interrupted) } else { Ok(()) };
        }
    }
    let (mut decoder, text) =
        engine.into_decoder(config.drafter(), registry, &CostCache::user_cache()).map_err(Failure::failed)?;
    let responder = Responder::new(&config, &text)?;
    let (mut tokens, mut steps) = (0, 0);
    let mut interrupted = Ok(());
    for (done, prompt) in prompts.iter().enumerate() {
        let answer = responder.answer(&mut decoder, prompt, &mut |_| Ok(()))?;
        tokens += answer.tokens.len();
        steps += answer.stats.steps();
        tracing::info!(done = done + 1, of = prompts.len(), "answered");
        interrupted = answer.check_interrupt();
        if interrupted.is_err() {
            break;
        }
    }
    save_snapshot(&decoder, &config, &text)?;
    let rows = decoder.drafter().footprint().rows;
    let mean = tokens as f64 / (steps as f64).max(1.0);
    output.line(&format!(
        "{}: {rows} rows{learned}, after {tokens} tokens at {mean:.2} a step",
        arguments.out
    ))?;
    interrupted
}

/// Fills the snapshot's empty rows with what the model predicts after each token alone, at the start of its answer to an
/// empty message, and saves the snapshot. Returns the number of all rows and of new rows. Ctrl-C stops after the current
/// pass.
fn fill_from_vocabulary(
    engine: &mut Engine,
    config: &DrafterConfig,
    file: &Path,
    style: PromptStyle,
) -> Result<(usize, usize), Failure> {
    let fingerprint = engine.text.tokenizer.fingerprint();
    let vocab = engine.verifier.limits().vocab;
    let k = config.options().map_or(DEFAULT_K, |recycling: &RecyclingOptions| recycling.k);
    let mut matrix = match file.exists() {
        true => AdjacencyMatrix::load(file, vocab, k, &fingerprint).map_err(Failure::failed)?,
        false => AdjacencyMatrix::new(vocab, k).map_err(Failure::failed)?,
    };
    let context = engine.text.encode("", style).map_err(Failure::usage)?;
    let before = matrix.rows();
    let bar = Bar::new("asking the model");
    warm_up::fill_empty_rows(&mut matrix, &mut *engine.verifier, &context, |done, total| {
        bar.set(Progress { done: done as u64, total: total as u64 });
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .map_err(Failure::failed)?;
    matrix.save(file, &fingerprint).map_err(Failure::failed)?;
    Ok((matrix.rows(), matrix.rows() - before))
}
