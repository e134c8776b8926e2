//! `upcycle warm`: saves what a drafter learns from a file of prompts or from the model's vocabulary.

use std::ops::ControlFlow;
use std::path::Path;

use upcycle::{
    DEFAULT_K, DrafterConfig, LoadedModel, Progress, PromptStyle, RecyclingOptions, Registry, snapshot_exists,
};
use upcycle_core::{AdjacencyMatrix, Drafter, Verifier, warm_up};

use crate::answer::Responder;
use crate::args::{PromptSource, Warm};
use crate::failure::Failure;
use crate::input::is_stdio;
use crate::output::{Output, print_status};
use crate::progress::Bar;
use crate::prompts::Prompts;
use crate::run::{decoder, encode_all, load, save_snapshot};
use crate::{config, interrupt};

pub(crate) fn warm(arguments: Warm, registry: &Registry, output: &mut Output) -> Result<(), Failure> {
    let mut builder = config::builder(&arguments.settings, registry)?;
    if !builder.build()?.drafter().share_across_prompts() {
        return Err(Failure::usage(
            "`drafter.share_across_prompts` is false, so each prompt would clear the tables that `warm` saves; set it to true or \
             remove it",
        ));
    }
    // A snapshot for standard output is written to a file first.
    let streamed =
        is_stdio(Path::new(&arguments.out)).then(tempfile::tempdir).transpose().map_err(Failure::failed)?;
    let out = streamed
        .as_ref()
        .map_or_else(|| arguments.out.clone(), |folder| folder.path().join("snapshot").display().to_string());
    builder.flag("--out", "drafter.snapshot", &out)?;
    builder.flag("--out", "drafter.snapshot_mode", "read-write")?;
    let written = builder.build()?;
    if written.drafter().preset().is_none() {
        builder.flag("--out", "drafter.prompt_rows", "all")?;
    }
    let config = builder.build()?;
    config::start_log(&builder, &config, Some(&arguments.settings));
    let Some(file) = config.drafter().snapshot() else {
        let name = config.drafter().name();
        return Err(Failure::usage(format!(
            "the drafter `{name}` has no tables to save; choose `recycling` or `mixed`"
        )));
    };
    upcycle::check_snapshot(config.drafter()).map_err(Failure::usage)?;
    let done = |report: String, output: &mut Output| match &streamed {
        None => output.line(&format!("{}: {report}", arguments.out)),
        Some(_) => {
            print_status(&report);
            output.bytes(&std::fs::read(file).map_err(Failure::failed)?)
        }
    };
    let questions = match arguments.prompts {
        Some(file) => {
            let source = PromptSource { prompt: None, prompt_file: None, prompts: Some(file) };
            let Prompts::Many(questions) = Prompts::read(source)? else { return Ok(()) };
            questions
        }
        None => Vec::new(),
    };

    let mut model = load(&config, registry)?;
    let style = if arguments.raw { PromptStyle::Raw } else { PromptStyle::Chat };
    let max_context = model.verifier.limits().max_context;
    let prompts = encode_all(&Responder::new(&config, &model.text)?, &questions, style, max_context)?;
    interrupt::listen();
    let mut learned = String::new();
    if arguments.vocabulary {
        let (rows, filled) = fill_from_vocabulary(&mut model, config.drafter(), file, style)?;
        learned = format!(", {filled} of them from single tokens of the vocabulary");
        if prompts.is_empty() || interrupt::requested() {
            done(format!("{rows} rows{learned}"), output)?;
            return if interrupt::requested() { Err(Failure::Interrupted) } else { Ok(()) };
        }
    }
    let (mut decoder, text) = decoder(model, &config, registry)?;
    let responder = Responder::new(&config, &text)?;
    let (mut tokens, mut steps) = (0, 0);
    let mut interrupted = Ok(());
    for (index, prompt) in prompts.iter().enumerate() {
        let answer = responder.answer(&mut decoder, prompt, &mut |_| Ok(()))?;
        tokens += answer.tokens.len();
        steps += answer.stats.steps();
        tracing::info!(done = index + 1, of = prompts.len(), "answered");
        interrupted = answer.check_interrupt();
        if interrupted.is_err() {
            break;
        }
    }
    save_snapshot(&decoder, config.drafter(), &text)?;
    let rows = decoder.drafter().footprint().filled_matrix_rows;
    let mean = tokens as f64 / (steps as f64).max(1.0);
    done(format!("{rows} rows{learned}, after {tokens} tokens at {mean:.2} a step"), output)?;
    interrupted
}

/// Fills the snapshot's empty rows with what the model predicts after each token alone, at the start of its answer to an
/// empty message, and saves the snapshot. Returns the number of all rows and of new rows. A signal stops after the current
/// pass.
fn fill_from_vocabulary(
    model: &mut LoadedModel,
    config: &DrafterConfig,
    file: &Path,
    style: PromptStyle,
) -> Result<(usize, usize), Failure> {
    let fingerprint = model.text.tokenizer.fingerprint();
    let vocab = model.verifier.limits().vocab;
    let k = config.options().map_or(DEFAULT_K, |recycling: &RecyclingOptions| recycling.k);
    let mut matrix = match snapshot_exists(file) {
        true => AdjacencyMatrix::load(file, vocab, k, &fingerprint).map_err(Failure::failed)?,
        false => AdjacencyMatrix::new(vocab, k).map_err(Failure::failed)?,
    };
    let context = model.text.encode("", style).map_err(Failure::usage)?;
    let before = matrix.filled_rows();
    let bar = Bar::new("asking the model");
    warm_up::fill_empty_rows(&mut matrix, &mut *model.verifier, &context, |done, total| {
        bar.set(Progress { done: done as u64, total: total as u64 });
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .map_err(Failure::failed)?;
    matrix.save(file, &fingerprint).map_err(Failure::failed)?;
    Ok((matrix.filled_rows(), matrix.filled_rows() - before))
}
