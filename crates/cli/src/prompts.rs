//! Reads prompts from a flag, a text file, standard input or a JSONL file.

use std::path::{Path, PathBuf};

use serde_json::Value;
use upcycle_bench::prompts::{self, Prompt};

use crate::args::PromptSource;
use crate::failure::Failure;
use crate::input;

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
    file: String,
    line: usize,
}

impl LineLocation {
    /// A usage error at this line.
    pub(crate) fn usage_error(&self, reason: impl std::fmt::Display) -> Failure {
        Failure::usage(format!("{}:{}: {reason}", self.file, self.line))
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
        (None, Some(path)) => without_line_end(input::text("--prompt-file", &path)?),
        (None, None) => without_line_end(input::text("the prompt", Path::new("-"))?),
    };
    if prompt.is_empty() {
        return Err(Failure::usage(
            "the prompt is empty; give --prompt TEXT, --prompt-file FILE, or text on standard input",
        ));
    }
    Ok(prompt)
}

/// Drops one line break at the end, which editors and `echo` add.
fn without_line_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// Takes the first turn of each line. Ids may repeat.
fn questions(path: &Path) -> Result<Vec<FilePrompt>, Failure> {
    let (name, bytes) = (input::name(path), input::bytes("--prompts", path)?);
    let prompts = prompts::parse(&name, &bytes).map_err(Failure::usage)?;
    let question = |prompt: Prompt| FilePrompt {
        prompt: prompt.first_turn().to_owned(),
        id: prompt.id,
        location: LineLocation { file: name.clone(), line: prompt.line },
    };
    Ok(prompts.into_iter().map(question).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

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
        let cut = |text: &str| without_line_end(text.to_owned());
        assert_eq!([cut("a\n"), cut("a\r\n"), cut("a\n\n"), cut("a")], ["a", "a", "a\n", "a"]);
    }

    #[test]
    fn a_prompt_file_may_begin_with_a_byte_order_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.txt");
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            one(None, Some(path.clone()))
        };
        assert_eq!(read(b"\xef\xbb\xbfHi\r\n").unwrap(), "Hi");
        assert_eq!(read(b"\xff\xfeH\0i\0\r\0\n\0").unwrap(), "Hi");
        for refused in [&b"\xef\xbb\xbf"[..], b"\xef\xbb\xbf\n", b"\xff\xfeH", b"caf\xe9"] {
            assert!(matches!(read(refused), Err(Failure::Usage(_))), "{refused:?}");
        }
    }
}
