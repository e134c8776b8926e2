//! Reads prompts from a flag, a text file, standard input or a JSONL file.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;
use upcycle_bench::prompts::{self, Prompt};

use crate::args::PromptSource;
use crate::failure::Failure;
use crate::output::print_status;

/// The prompts of one command.
#[derive(Debug)]
pub(crate) enum Prompts {
    /// One prompt.
    One(String),
    /// The prompts of a JSONL file.
    Many(Vec<FilePrompt>),
}

/// One line of a JSONL file of prompts.
#[derive(Debug)]
pub(crate) struct FilePrompt {
    pub(crate) id: Value,
    pub(crate) prompt: String,
    /// For messages.
    pub(crate) location: LineLocation,
}

/// A line of a file, for messages.
#[derive(Clone, Debug)]
pub(crate) struct LineLocation {
    path: PathBuf,
    line: usize,
}

impl LineLocation {
    /// A usage error at this line.
    pub(crate) fn usage_error(&self, reason: impl std::fmt::Display) -> Failure {
        Failure::usage(format!("{}:{}: {reason}", self.path.display(), self.line))
    }
}

impl Prompts {
    /// Reads and checks all prompts.
    pub(crate) fn read(source: PromptSource) -> Result<Self, Failure> {
        if let Some(path) = source.prompts {
            return questions(&path).map(Self::Many);
        }
        one(source.prompt, source.prompt_file).map(Self::One)
    }
}

/// Reads one prompt: the given text, else the file, else standard input.
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
        print_status("reading the prompt from the terminal; press Ctrl-D to end it");
    }
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).map_err(|error| Failure::failed(format!("standard input: {error}")))?;
    Ok(bytes)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// Decodes UTF-8 and drops one line break at the end, which editors and `echo` add.
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

/// Takes the first turn of each line. Ids may repeat.
fn questions(path: &Path) -> Result<Vec<FilePrompt>, Failure> {
    let prompts = prompts::read(path).map_err(Failure::usage)?;
    let question = |prompt: Prompt| FilePrompt {
        prompt: prompt.first_turn().to_owned(),
        id: prompt.id,
        location: LineLocation { path: path.to_owned(), line: prompt.line },
    };
    Ok(prompts.into_iter().map(question).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a prompts file with this text.
    fn many(text: &str) -> Result<Prompts, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("q.jsonl");
        fs::write(&path, text).unwrap();
        Prompts::read(PromptSource { prompt: None, prompt_file: None, prompts: Some(path) })
    }

    #[test]
    fn the_first_turn_of_each_line_is_read_and_ids_may_repeat() {
        let text = "{\"question_id\": 7, \"turns\": [\"a\", \"b\"], \"group\": \"x\"}\n\n\
                    {\"turns\": [\"c\"], \"question_id\": \"q\"}\r\n\
                    {\"turns\": [\"a\"], \"question_id\": 7}";
        let Ok(Prompts::Many(found)) = many(text) else { panic!("three prompts") };
        let found: Vec<_> =
            found.iter().map(|q| (q.id.to_string(), q.prompt.as_str(), q.location.line)).collect();
        let (seven, q) = ("7".to_owned(), "\"q\"".to_owned());
        assert_eq!(found, [(seven.clone(), "a", 1), (q, "c", 3), (seven, "a", 4)]);
    }

    #[test]
    fn an_invalid_file_is_a_usage_error_with_its_line() {
        let location = |text: &str| match many(text) {
            Err(Failure::Usage(error)) => {
                error.to_string().split_once("q.jsonl").expect("names the file").1.to_owned()
            }
            other => panic!("{other:?}"),
        };
        let good = "{\"question_id\": 7, \"turns\": [\"a\"]}\n";
        let broken = location(&format!("{good}{{\"question_id\": 1, \"turns\": [}}"));
        assert!(broken.starts_with(":2: column 30: expected value"), "{broken}");
        assert!(location("\n").starts_with(" has no prompts"));
    }

    #[test]
    fn one_line_break_at_the_end_is_dropped() {
        let cut = |bytes: &[u8]| text("x", bytes.to_vec()).unwrap();
        assert_eq!([cut(b"a\n"), cut(b"a\r\n"), cut(b"a\n\n"), cut(b"a")], ["a", "a", "a\n", "a"]);
        assert!(text("x", vec![0xff]).is_err());
    }
}
