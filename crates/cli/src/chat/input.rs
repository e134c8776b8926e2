//! Reads lines: with an editor in a terminal, else from standard input.
//!
//! A thread reads them, so that a signal can end a conversation that waits for the next line.

use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use etcetera::BaseStrategy;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Cmd, Config, Editor, EventHandler, KeyCode, KeyEvent, Modifiers};

use crate::failure::Failure;
use crate::{input, interrupt};

/// Lines in the history.
const HISTORY: usize = 1000;

/// How long a signal may go unnoticed.
const POLL: Duration = Duration::from_millis(50);

/// What the user entered.
#[derive(Debug)]
pub(super) enum InputEvent {
    /// One line or more.
    Message(String),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D, the end of standard input, or a signal that ends the program.
    End,
}

/// The source of lines.
pub(super) struct Input {
    terminal: bool,
    /// Restores the terminal when a signal ends the conversation in the middle of a line.
    _mode: Option<TerminalMode>,
    /// Asks for a line.
    requests: SyncSender<()>,
    events: Receiver<Result<InputEvent, Failure>>,
}

impl Input {
    /// An editor if standard input is a terminal.
    pub(super) fn new() -> Result<Self, Failure> {
        input::take_standard_input("the conversation")?;
        let terminal = io::stdin().is_terminal();
        let mode = if terminal { TerminalMode::now() } else { None };
        let mut next = if terminal { editor()? } else { pipe() };
        let (requests, requested) = sync_channel(1);
        let (sender, events) = sync_channel(1);
        thread::spawn(move || while requested.recv().is_ok() && sender.send(next()).is_ok() {});
        Ok(Self { terminal, _mode: mode, requests, events })
    }

    /// Whether a user can correct mistakes.
    pub(super) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// The next line. The editor returns several if they were pasted or separated with Alt-Enter.
    pub(super) fn next(&mut self) -> Result<InputEvent, Failure> {
        if self.requests.send(()).is_err() {
            return Ok(InputEvent::End);
        }
        loop {
            match self.events.recv_timeout(POLL) {
                Ok(event) => return event,
                Err(RecvTimeoutError::Timeout) if !interrupt::terminated() => {}
                Err(_) => return Ok(InputEvent::End),
            }
        }
    }
}

/// The modes of the terminal at standard input. The editor changes them while it reads a line, and its thread does not end with the
/// conversation.
struct TerminalMode {
    #[cfg(unix)]
    mode: nix::sys::termios::Termios,
}

impl TerminalMode {
    #[cfg(unix)]
    fn now() -> Option<Self> {
        nix::sys::termios::tcgetattr(io::stdin()).ok().map(|mode| Self { mode })
    }

    #[cfg(not(unix))]
    fn now() -> Option<Self> {
        None
    }
}

#[cfg(unix)]
impl Drop for TerminalMode {
    fn drop(&mut self) {
        use nix::sys::termios::{SetArg, tcgetattr, tcsetattr};
        if tcgetattr(io::stdin()).is_ok_and(|mode| mode != self.mode) {
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.mode);
            // Ends bracketed paste and the line.
            println!("\u{1b}[?2004l");
            let _ = io::stdout().flush();
        }
    }
}

type NextLine = Box<dyn FnMut() -> Result<InputEvent, Failure> + Send>;

/// Reads lines with an editor. Each is added to the history at once, so that none is lost.
fn editor() -> Result<NextLine, Failure> {
    let config = Config::builder().auto_add_history(true).max_history_size(HISTORY);
    let config = config.map_err(Failure::failed)?.bracketed_paste(true).build();
    let mut editor = Editor::<(), FileHistory>::with_config(config).map_err(Failure::failed)?;
    editor.bind_sequence(KeyEvent(KeyCode::Enter, Modifiers::ALT), EventHandler::Simple(Cmd::Newline));
    let mut history = history_file();
    if let Some(path) = history.as_deref().filter(|path| path.exists())
        && let Err(error) = editor.load_history(path)
    {
        tracing::warn!(path = %path.display(), %error, "cannot read the history; starting without one");
    }
    Ok(Box::new(move || match editor.readline("> ") {
        Ok(text) => {
            if let Some(path) = &history
                && let Err(error) = save_history(&mut editor, path)
            {
                tracing::warn!(path = %path.display(), %error, "cannot save the history");
                history = None;
            }
            Ok(InputEvent::Message(text))
        }
        Err(ReadlineError::Interrupted) => Ok(InputEvent::Interrupt),
        Err(ReadlineError::Eof) => Ok(InputEvent::End),
        Err(error) => Err(Failure::failed(error)),
    }))
}

fn save_history(editor: &mut Editor<(), FileHistory>, path: &Path) -> rustyline::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    editor.append_history(path)
}

/// Reads lines from standard input.
fn pipe() -> NextLine {
    let mut first = true;
    Box::new(move || {
        let mut line = Vec::new();
        let read = io::stdin().lock().read_until(b'\n', &mut line).map_err(Failure::failed)?;
        if read == 0 {
            return Ok(InputEvent::End);
        }
        if std::mem::replace(&mut first, false) {
            line = upcycle::utf8(line);
        }
        let line = String::from_utf8(line)
            .map_err(|_| Failure::usage("standard input is not UTF-8; expected one message per line"))?;
        Ok(InputEvent::Message(line))
    })
}

/// `$XDG_STATE_HOME/upcycle/history` on Linux.
fn history_file() -> Option<PathBuf> {
    let base = etcetera::choose_base_strategy().ok()?;
    Some(base.state_dir().unwrap_or_else(|| base.data_dir()).join("upcycle").join("history"))
}
