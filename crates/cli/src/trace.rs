//! `upcycle trace`.

use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;
use upcycle_backends::{CostCache, Progress, PromptStyle, Registry};
use upcycle_bench::trace::{About, Recorded, TraceError, collect, page};
use upcycle_core::{Finish, Session};

use crate::args::Trace;
use crate::failure::Failure;
use crate::output::Output;
use crate::progress::Bar;
use crate::{answer, config, interrupt, prompts, run};

pub(crate) fn trace(arguments: Trace, output: &mut Output) -> Result<(), Failure> {
    let registry = Registry::builtin();
    let config = config::load(&arguments.settings, &registry)?;
    config::start_log(config.log_level());
    let target = Target::new(arguments.out)?;
    let prompt = prompts::one(arguments.prompt, arguments.prompt_file)?;

    let engine = run::load(&config, &registry)?;
    let (decoder, text) =
        engine.into_decoder(config.drafter(), &CostCache::of_user()).map_err(Failure::failed)?;
    let mut decoder = decoder.map_drafter(Recorded::new);
    let style = if arguments.raw { PromptStyle::Raw } else { PromptStyle::Chat };
    let prompt = text.encode(&prompt, style).map_err(Failure::usage)?;
    let stop = text.stop_strings(config.decode()).map_err(Failure::usage)?;
    let request = text.request(config.decode(), &stop);

    interrupt::listen()?;
    let bar = Bar::new("decoding");
    let total = prompt.len().saturating_add(request.max_tokens);
    let mut watch = |session: &Session| {
        let done = session.prefilled() + session.output().len();
        bar.set(Progress { done: done as u64, total: total as u64 });
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let trace = collect(&mut decoder, &text.tokenizer, &prompt, request, About::of(&config), &mut watch)
        .map_err(|error| match error {
            TraceError::Decode(error) => answer::failure(error),
            other => Failure::failed(other),
        })?;
    drop(bar);

    target.write(page(&trace).as_bytes())?;
    output.line(&target.path.display().to_string())?;
    if trace.finish == Finish::Cancelled.name() { Err(Failure::Interrupted) } else { Ok(()) }
}

/// A file that is to be written as a whole, or not at all.
#[derive(Debug)]
struct Target {
    /// As it was given.
    path: PathBuf,
    /// Where it is, links followed.
    place: PathBuf,
    folder: PathBuf,
}

#[derive(Debug, thiserror::Error)]
enum TargetError {
    #[error("--out {0:?} is no name of a file; give that of the page to write")]
    NoFile(PathBuf),
    #[error("--out {} cannot be written; name a file in a folder that exists and may be written to", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} cannot be written", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Target {
    /// Tries that a file can be written there, before anything takes time.
    fn new(path: PathBuf) -> Result<Self, Failure> {
        let place = match fs::metadata(&path) {
            // A rename would put a file in the place of a folder or of a device.
            Ok(found) if !found.is_file() => return Err(Failure::usage(TargetError::NoFile(path))),
            Ok(_) => fs::canonicalize(&path).unwrap_or_else(|_| path.clone()),
            Err(_) if path.file_name().is_none() => return Err(Failure::usage(TargetError::NoFile(path))),
            Err(_) => path.clone(),
        };
        let folder = match place.parent() {
            Some(folder) if folder != Path::new("") => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let target = Self { path, place, folder };
        // Not kept until the page is there: Ctrl-C while the model is loaded would leave it behind.
        target
            .temporary()
            .map_err(|source| Failure::usage(TargetError::Folder { path: target.path.clone(), source }))?;
        Ok(target)
    }

    /// Replaces what is there once all is written.
    fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.temporary().and_then(|mut file| {
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&self.place).map_err(|error| error.error)
        });
        written.map_err(|source| Failure::failed(TargetError::Write { path: self.path.clone(), source }))?;
        Ok(())
    }

    /// A new file in the same folder, which may be read by whoever may read other files there.
    fn temporary(&self) -> io::Result<NamedTempFile> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".trace");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder.tempfile_in(&self.folder)
    }
}
