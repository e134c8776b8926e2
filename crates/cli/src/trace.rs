//! `upcycle trace`.

use std::ops::ControlFlow;

use upcycle::{Progress, PromptStyle, Registry};
use upcycle_bench::trace::{About, RecordingDrafter, TraceError, collect, page};
use upcycle_core::{FinishReason, Session};

use crate::args::Trace;
use crate::failure::Failure;
use crate::output::Output;
use crate::output_file::OutputFile;
use crate::progress::Bar;
use crate::{answer, config, interrupt, prompts, run};

pub(crate) fn trace(arguments: Trace, registry: &Registry, output: &mut Output) -> Result<(), Failure> {
    let config = config::load(&arguments.settings, registry)?;
    let target = OutputFile::new("--out", arguments.out).map_err(Failure::usage)?;
    let prompt = prompts::one(arguments.prompt, arguments.prompt_file)?;

    let model = run::load(&config, registry)?;
    interrupt::listen();
    let (decoder, text) = run::decoder(model, &config, registry)?;
    let mut decoder = decoder.map_drafter(RecordingDrafter::new);
    let style = if arguments.raw { PromptStyle::Raw } else { PromptStyle::Chat };
    let prompt = text.encode(&prompt, style).map_err(Failure::usage)?;
    let stop = text.stop_strings(config.decode()).map_err(Failure::usage)?;
    let request = text.request(config.decode(), &stop);

    let bar = Bar::new("decoding");
    let total = prompt.len().saturating_add(request.max_tokens);
    let mut watch = |session: &Session| {
        let done = session.prefilled() + session.output().len();
        bar.set(Progress { done: done as u64, total: total as u64 });
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let trace =
        collect(&mut decoder, &text.tokenizer, &prompt, request, About::from_config(&config), &mut watch)
            .map_err(|error| match error {
                TraceError::Decode(error) => answer::failure(error),
                other => Failure::failed(other),
            })?;
    drop(bar);

    target.write(page(&trace).as_bytes(), output)?;
    // A pipe may be standard output.
    if let Some(path) = target.path().filter(|path| path.is_file()) {
        output.line(&path.display().to_string())?;
    }
    if trace.finish == FinishReason::Cancelled.name() { Err(Failure::Interrupted) } else { Ok(()) }
}
