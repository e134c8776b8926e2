//! Writing to standard output and standard error.
//!
//! Every write to standard output is checked and flushed, so text streams and no error is lost.

use std::io::{self, IsTerminal, Stdout, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output(Stdout);

impl Output {
    pub(crate) fn stdout() -> Self {
        Self(io::stdout())
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write_all(bytes).and_then(|()| self.0.flush()).map_err(Failure::write)
    }

    pub(crate) fn text(&mut self, text: &str) -> Result<(), Failure> {
        if text.is_empty() { Ok(()) } else { self.bytes(text.as_bytes()) }
    }

    pub(crate) fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.bytes(format!("{line}\n").as_bytes())
    }

    /// One JSON value on one line.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(value).map_err(Failure::failed)?;
        line.push(b'\n');
        self.bytes(&line)
    }
}

/// Whether escape codes may be written to a stream: a terminal that understands them, unless `NO_COLOR` is set.
pub(crate) fn colors(stream: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_smart(stream) && !set("NO_COLOR")
}

/// Whether a stream is a terminal that can move the cursor.
pub(crate) fn is_smart(stream: &impl IsTerminal) -> bool {
    stream.is_terminal()
        && std::env::var_os("TERM").map_or(cfg!(windows), |term| term != "dumb" && !term.is_empty())
}

/// Writes a line to standard error. Errors are ignored: a closed standard error must not end a command.
pub(crate) fn print_status(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}
