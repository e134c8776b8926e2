//! Where prompts come from: a flag, a file, standard input, or a file of many.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::args::PromptSource;
use crate::failure::Failure;

/// What to answer.
#[derive(Debug)]
pub(crate) enum Prompts {
    /// One prompt.
    One(String),
    /// A file of them.
    Many(Vec<Question>),
}

/// One line of a file of prompts.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) id: Value,
    pub(crate) prompt: String,
    /// Where it stands, for messages.
    pub(crate) place: Place,
}

/// A line of a file.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: PathBuf,
    line: usize,
}

impl Place {
    /// Wrong usage, there.
    pub(crate) fn fault(&self, reason: impl std::fmt::Display) -> Failure {
        Failure::usage(format!("{}:{}: {reason}", self.path.display(), self.line))
    }
}

impl Prompts {
    /// Reads them all, so that what is wrong is known before anything runs.
    pub(crate) fn read(source: PromptSource) -> Result<Self, Failure> {
        if let Some(path) = source.prompts {
            return questions(&path, &read(&path)?).map(Self::Many);
        }
        let prompt = match (source.prompt, source.prompt_file) {
            (Some(prompt), _) => prompt,
            (None, Some(path)) => text(&path.display().to_string(), read(&path)?)?,
            (None, None) => text("standard input", standard_input()?)?,
        };
        if prompt.is_empty() {
            return Err(Failure::usage(
                "the prompt is empty; give --prompt TEXT, --prompt-file FILE, or text on standard input",
            ));
        }
        Ok(Self::One(prompt))
    }
}

fn standard_input() -> Result<Vec<u8>, Failure> {
    let mut input = io::stdin();
    if input.is_terminal() {
        eprintln_quiet("reading the prompt from the terminal; end it with Ctrl-D");
    }
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|error| Failure::failed(format!("standard input: {error}")))?;
    Ok(bytes)
}

/// To standard error, whether or not anybody listens.
pub(crate) fn eprintln_quiet(line: &str) {
    let _ = io::Write::write_all(&mut io::stderr(), format!("{line}\n").as_bytes());
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// The text without the line end that editors and `echo` leave.
fn text(from: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    let mut text = String::from_utf8(bytes).map_err(|error| Failure::usage(format!("{from}: {error}")))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

/// A line as it is written; fields that are not needed may stand there too.
#[derive(Deserialize)]
struct Line {
    question_id: Value,
    turns: Vec<String>,
}

fn questions(path: &Path, bytes: &[u8]) -> Result<Vec<Question>, Failure> {
    let mut questions = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        let place = Place { path: path.to_owned(), line: index + 1 };
        let parsed: Line = serde_json::from_slice(line).map_err(|error| place.fault(reason(&error)))?;
        if !(parsed.question_id.is_string() || parsed.question_id.is_number()) {
            return Err(place.fault("`question_id` must be a number or a string"));
        }
        let Some(prompt) = parsed.turns.into_iter().next().filter(|turn| !turn.is_empty()) else {
            return Err(place.fault("`turns` must begin with a prompt that is not empty"));
        };
        questions.push(Question { id: parsed.question_id, prompt, place });
    }
    if questions.is_empty() {
        return Err(Failure::usage(format!("{} holds no prompts", path.display())));
    }
    Ok(questions)
}

/// What the parser said; its line is always 1 here, so only its column is kept.
fn reason(error: &serde_json::Error) -> String {
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or_default();
    format!("column {}: {said}; expected {{\"question_id\": …, \"turns\": [\"…\"]}}", error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &[u8]) -> String {
        match questions(Path::new("q.jsonl"), text) {
            Err(Failure::Usage(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn good_lines_are_read_in_order_and_blank_ones_skipped() {
        let text = b"{\"question_id\": 7, \"turns\": [\"a\", \"b\"], \"group\": \"x\"}\n\n\
                     {\"turns\": [\"c\"], \"question_id\": \"q\"}\r\n";
        let found = questions(Path::new("q.jsonl"), text).unwrap();
        let found: Vec<_> =
            found.iter().map(|q| (q.id.to_string(), q.prompt.as_str(), q.place.line)).collect();
        assert_eq!(found, [("7".to_owned(), "a", 1), ("\"q\"".to_owned(), "c", 3)]);
    }

    #[test]
    fn a_broken_line_is_named_with_its_reason() {
        let good = b"{\"question_id\": 7, \"turns\": [\"a\"]}\n";
        let with = |line: &[u8]| message(&[good, line].concat());
        let syntax = with(b"{\"question_id\": 1, \"turns\": [}");
        assert!(syntax.starts_with("q.jsonl:2: column 30: expected value"), "{syntax}");
        assert!(with(b"{\"question_id\": 1}").contains("missing field `turns`"));
        assert!(
            with(b"{\"question_id\": null, \"turns\": [\"a\"]}").contains("must be a number or a string")
        );
        assert!(with(b"{\"question_id\": 1, \"turns\": []}").contains("begin with a prompt"));
        assert!(with(b"{\"question_id\": 1, \"turns\": [\"\"]}").contains("begin with a prompt"));
        assert!(with(b"\xff").starts_with("q.jsonl:2: column "));
        assert_eq!(message(b"\n"), "q.jsonl holds no prompts");
    }

    #[test]
    fn one_line_end_is_left_out() {
        let cut = |bytes: &[u8]| text("x", bytes.to_vec()).unwrap();
        assert_eq!([cut(b"a\n"), cut(b"a\r\n"), cut(b"a\n\n"), cut(b"a")], ["a", "a", "a\n", "a"]);
        assert!(text("x", vec![0xff]).is_err());
    }
}
