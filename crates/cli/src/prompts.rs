//! Where prompts come from: a flag, a file, standard input, or a file of many.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use upcycle_bench::prompts::{self, Prompt};

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
            return questions(&path).map(Self::Many);
        }
        one(source.prompt, source.prompt_file).map(Self::One)
    }
}

/// One prompt: as it is given, from a file, or else from standard input.
pub(crate) fn one(prompt: Option<String>, file: Option<PathBuf>) -> Result<String, Failure> {
    let prompt = match (prompt, file) {
        (Some(prompt), _) => prompt,
        (None, Some(path)) => text(&path.display().to_string(), read(&path)?)?,
        (None, None) => text("standard input", standard_input()?)?,
    };
    if prompt.is_empty() {
        return Err(Failure::usage(
            "the prompt is empty; give --prompt TEXT, --prompt-file FILE, or text on standard input",
        ));
    }
    Ok(prompt)
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

/// The first turn of each line; an id may stand there more than once.
fn questions(path: &Path) -> Result<Vec<Question>, Failure> {
    let prompts = prompts::read(path).map_err(Failure::usage)?;
    let question = |prompt: Prompt| Question {
        prompt: prompt.first_turn().to_owned(),
        id: prompt.id,
        place: Place { path: path.to_owned(), line: prompt.line },
    };
    Ok(prompts.into_iter().map(question).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `--prompts` gives for a file of this text.
    fn many(text: &str) -> Result<Prompts, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.jsonl");
        fs::write(&path, text).unwrap();
        Prompts::read(PromptSource { prompt: None, prompt_file: None, prompts: Some(path) })
    }

    #[test]
    fn each_line_asks_its_first_turn_and_ids_may_repeat() {
        let text = "{\"question_id\": 7, \"turns\": [\"a\", \"b\"], \"group\": \"x\"}\n\n\
                    {\"turns\": [\"c\"], \"question_id\": \"q\"}\r\n\
                    {\"turns\": [\"a\"], \"question_id\": 7}";
        let Ok(Prompts::Many(found)) = many(text) else { panic!("three prompts") };
        let found: Vec<_> =
            found.iter().map(|q| (q.id.to_string(), q.prompt.as_str(), q.place.line)).collect();
        let (seven, q) = ("7".to_owned(), "\"q\"".to_owned());
        assert_eq!(found, [(seven.clone(), "a", 1), (q, "c", 3), (seven, "a", 4)]);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_wrong_usage_and_says_where() {
        let place = |text: &str| match many(text) {
            Err(Failure::Usage(error)) => {
                error.to_string().split_once("q.jsonl").expect("names the file").1.to_owned()
            }
            other => panic!("{other:?}"),
        };
        let good = "{\"question_id\": 7, \"turns\": [\"a\"]}\n";
        let broken = place(&format!("{good}{{\"question_id\": 1, \"turns\": [}}"));
        assert!(broken.starts_with(":2: column 30: expected value"), "{broken}");
        assert!(place("\n").starts_with(" holds no prompts"));
    }

    #[test]
    fn one_line_end_is_left_out() {
        let cut = |bytes: &[u8]| text("x", bytes.to_vec()).unwrap();
        assert_eq!([cut(b"a\n"), cut(b"a\r\n"), cut(b"a\n\n"), cut(b"a")], ["a", "a", "a\n", "a"]);
        assert!(text("x", vec![0xff]).is_err());
    }
}
