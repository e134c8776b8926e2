//! Reads lines: with an editor in a terminal, else from standard input.

use std::fs;
use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use etcetera::BaseStrategy;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Cmd, Config, Editor, EventHandler, KeyCode, KeyEvent, Modifiers};

use crate::failure::Failure;

/// Lines in the history.
const HISTORY: usize = 1000;

/// What the user entered.
#[derive(Debug)]
pub(super) enum InputEvent {
    /// One line or more.
    Message(String),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D, or the end of standard input.
    End,
}

/// The source of lines.
pub(super) enum Input {
    Terminal { editor: Box<Editor<(), FileHistory>>, history: Option<PathBuf> },
    Pipe,
}

impl Input {
    /// An editor if standard input is a terminal.
    pub(super) fn new() -> Result<Self, Failure> {
        if !io::stdin().is_terminal() {
            return Ok(Self::Pipe);
        }
        let config = Config::builder().auto_add_history(true).max_history_size(HISTORY);
        let config = config.map_err(Failure::failed)?.bracketed_paste(true).build();
        let mut editor = Editor::with_config(config).map_err(Failure::failed)?;
        editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), EventHandler::Simple(Cmd::Newline));
        let history = history_file();
        if let Some(path) = history.as_deref().filter(|path| path.exists())
            && let Err(error) = editor.load_history(path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot read the history; starting without one");
        }
        Ok(Self::Terminal { editor: Box::new(editor), history })
    }

    /// Whether a user can correct mistakes.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// The next line. The editor returns several if they were pasted or separated with Alt-Enter.
    pub(super) fn next(&mut self) -> Result<InputEvent, Failure> {
        match self {
            Self::Terminal { editor, .. } => match editor.readline("> ") {
                Ok(text) => Ok(InputEvent::Message(text)),
                Err(ReadlineError::Interrupted) => Ok(InputEvent::Interrupt),
                Err(ReadlineError::Eof) => Ok(InputEvent::End),
                Err(error) => Err(Failure::failed(error)),
            },
            Self::Pipe => {
                let mut line = Vec::new();
                let read = io::stdin().lock().read_until(b'\n', &mut line).map_err(Failure::failed)?;
                if read == 0 {
                    return Ok(InputEvent::End);
                }
                let line = String::from_utf8(line).map_err(|_| {
                    Failure::usage("standard input is not UTF-8; expected one message per line")
                })?;
                Ok(InputEvent::Message(line))
            }
        }
    }

    /// Saves the history. A failure is only logged.
    pub(super) fn save_history(&mut self) {
        let Self::Terminal { editor, history: Some(path) } = self else { return };
        let folder = path.parent().unwrap_or(Path::new("."));
        let saved =
            fs::create_dir_all(folder).map_err(ReadlineError::from).and_then(|()| editor.save_history(path));
        if let Err(error) = saved {
            tracing::warn!(path = %path.display(), %error, "cannot save the history");
        }
    }
}

/// `$XDG_STATE_HOME/upcycle/history` on Linux.
fn history_file() -> Option<PathBuf> {
    let base = etcetera::choose_base_strategy().ok()?;
    Some(base.state_dir().unwrap_or_else(|| base.data_dir()).join("upcycle").join("history"))
}
