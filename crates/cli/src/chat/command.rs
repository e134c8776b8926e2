//! What a line of a conversation means.

use std::path::PathBuf;

/// `/help`.
pub(super) const HELP: &str = "\
/system [TEXT]     show the instructions to the model, or set them; `-` takes them away
/reset             begin a new conversation, with the same instructions
/retry             answer the last message again; another answer only if sampling is on
/save FILE         keep the conversation
/load FILE         go on with a kept one
/stats             what the last answer took
/set [KEY VALUE]   show how tokens are chosen, or set a key of [decode]: /set temperature 0.7
                   or what the template is told: /set template_variables.enable_thinking false
/help              this list
/quit              leave; so does Ctrl-D
A line that begins with two slashes is said with one. Alt-Enter begins a new line; Ctrl-C ends an answer.";

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Nothing but whitespace.
    Empty,
    /// What is said to the model.
    Say(String),
    Command(Command),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    ShowSystem,
    /// None takes it away.
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

/// A line that begins with a slash and is no command.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error(
        "there is no command `/{found}`; /help lists those that are, and `//{found}` says it to the model"
    )]
    Unknown { found: String },
    #[error("/{command} needs {what}; /help shows how")]
    Missing { command: &'static str, what: &'static str },
    #[error("/{command} takes nothing, found `{found}`; /help shows how")]
    TooMuch { command: &'static str, found: String },
}

impl Line {
    pub(super) fn parse(line: &str) -> Result<Self, CommandError> {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return Ok(if line.is_empty() { Self::Empty } else { Self::Say(line.to_owned()) });
        };
        if command.starts_with('/') {
            return Ok(Self::Say(command.to_owned()));
        }
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        let alone = |command: &'static str, found: Command| match rest {
            "" => Ok(found),
            rest => Err(CommandError::TooMuch { command, found: rest.to_owned() }),
        };
        let file = |command: &'static str| match rest {
            "" => Err(CommandError::Missing { command, what: "the name of a file" }),
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
                None => return Err(CommandError::Missing { command: "set", what: "a key and its value" }),
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
        let say = |text: &str| Ok(Line::Say(text.to_owned()));
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
            ("/load", Err(CommandError::Missing { command: "load", what: "the name of a file" })),
            ("/set seed", Err(CommandError::Missing { command: "set", what: "a key and its value" })),
            ("/etc/hosts", Err(CommandError::Unknown { found: "etc/hosts".to_owned() })),
            ("/", Err(CommandError::Unknown { found: String::new() })),
        ] {
            assert_eq!(Line::parse(line), expected, "{line:?}");
        }
    }
}
