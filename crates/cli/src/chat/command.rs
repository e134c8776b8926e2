//! Parses the lines of a conversation.

use std::path::PathBuf;

/// `/help`.
pub(super) const HELP: &str = "\
/system [TEXT]     show or set the system prompt; `-` removes it
/reset             start a new conversation with the same system prompt
/retry             answer the last message again (with sampling, differently)
/save FILE         save the conversation
/load FILE         load a saved conversation
/stats             show statistics of the last answer
/set [KEY VALUE]   show or set the keys of [decode], for example /set temperature 0.7,
                   or a template variable: /set template_variables.enable_thinking false
/help              show this list
/quit              quit (also Ctrl-D)
To send a line that begins with a slash, type two. Alt-Enter starts a new line; Ctrl-C ends an answer.";

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Only white space.
    Empty,
    /// A message to the model.
    Message(String),
    Command(Command),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    ShowSystem,
    /// `None` removes it.
    System(Option<String>),
    Reset,
    Retry,
    Save(PathBuf),
    Load(PathBuf),
    Stats,
    ShowSettings,
    Set {
        key: String,
        value: String,
    },
    Help,
    Quit,
}

/// A line that begins with a slash and is not a command.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error("unknown command `/{found}`; /help lists the commands, and `//{found}` sends it as a message")]
    Unknown { found: String },
    #[error("/{command} needs {what}; see /help")]
    Missing { command: &'static str, what: &'static str },
    #[error("/{command} takes no argument, found `{found}`; see /help")]
    TooMuch { command: &'static str, found: String },
}

impl Line {
    pub(super) fn parse(line: &str) -> Result<Self, CommandError> {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return Ok(if line.is_empty() { Self::Empty } else { Self::Message(line.to_owned()) });
        };
        if command.starts_with('/') {
            return Ok(Self::Message(command.to_owned()));
        }
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        let alone = |command: &'static str, found: Command| match rest {
            "" => Ok(found),
            rest => Err(CommandError::TooMuch { command, found: rest.to_owned() }),
        };
        let file = |command: &'static str| match rest {
            "" => Err(CommandError::Missing { command, what: "a file name" }),
            rest => Ok(PathBuf::from(rest)),
        };
        let command = match name {
            "system" => match rest {
                "" => Command::ShowSystem,
                "-" => Command::System(None),
                text => Command::System(Some(text.to_owned())),
            },
            "reset" => alone("reset", Command::Reset)?,
            "retry" => alone("retry", Command::Retry)?,
            "save" => Command::Save(file("save")?),
            "load" => Command::Load(file("load")?),
            "stats" => alone("stats", Command::Stats)?,
            "set" if rest.is_empty() => Command::ShowSettings,
            "set" => match rest.split_once(char::is_whitespace) {
                Some((key, value)) => {
                    Command::Set { key: key.to_owned(), value: value.trim_start().to_owned() }
                }
                None => return Err(CommandError::Missing { command: "set", what: "a key and a value" }),
            },
            "help" => alone("help", Command::Help)?,
            "quit" | "exit" => alone("quit", Command::Quit)?,
            found => return Err(CommandError::Unknown { found: found.to_owned() }),
        };
        Ok(Self::Command(command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let say = |text: &str| Ok(Line::Message(text.to_owned()));
        let command = |command| Ok(Line::Command(command));
        for (line, expected) in [
            ("  \t", Ok(Line::Empty)),
            (" hello\nyou ", say("hello\nyou")),
            ("//etc/hosts ", say("/etc/hosts")),
            ("/system", command(Command::ShowSystem)),
            ("/system -", command(Command::System(None))),
            ("/system Be\nbrief.", command(Command::System(Some("Be\nbrief.".to_owned())))),
            ("/save  a b.json", command(Command::Save("a b.json".into()))),
            ("/set", command(Command::ShowSettings)),
            (
                "/set stop  [\"a\", \"b\"]",
                command(Command::Set { key: "stop".to_owned(), value: "[\"a\", \"b\"]".to_owned() }),
            ),
            ("/exit", command(Command::Quit)),
            ("/reset now", Err(CommandError::TooMuch { command: "reset", found: "now".to_owned() })),
            ("/load", Err(CommandError::Missing { command: "load", what: "a file name" })),
            ("/set seed", Err(CommandError::Missing { command: "set", what: "a key and a value" })),
            ("/etc/hosts", Err(CommandError::Unknown { found: "etc/hosts".to_owned() })),
            ("/", Err(CommandError::Unknown { found: String::new() })),
        ] {
            assert_eq!(Line::parse(line), expected, "{line:?}");
        }
    }
}
