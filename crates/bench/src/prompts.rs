//! What is asked: the project's own set, and files of prompts.
//!
//! A file holds one JSON object a line: `{"question_id": 1, "group": "code", "turns": ["…", "…"]}`.
//!
//! - `question_id` is a number (of 64 bits) or a string, and comes back unchanged.
//! - `group` may be left out; such a line belongs to the group [`UNGROUPED`].
//! - `turns` are what the user says, one after the other; the first of them is not empty.
//! - Other fields may stand there too and are passed over, and so are blank lines.
//!
//! Only the first turn is asked today. What follows it would stand behind an answer, and two arms whose answers part
//! would then be asked different things.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The group of lines that name none.
pub const UNGROUPED: &str = "all";

/// What a line is to be, for messages.
const SHAPE: &str = r#"{"question_id": …, "turns": ["…"]}"#;

/// The name of the project's own set, in messages and in results.
const OWN_NAME: &str = "built-in";

/// The project's own set, written for it: 7 groups of 8 prompts.
const OWN: &[u8] = include_bytes!("../prompts/own.jsonl");

/// One line of a file of prompts.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Its id, as it stands in the file: a number or a string.
    pub id: Value,
    /// Its group; [`UNGROUPED`] where the line names none.
    pub group: String,
    /// What the user says, turn by turn: at least one, and the first is not empty.
    pub turns: Vec<String>,
    /// Its line in the file, from 1.
    pub line: usize,
}

impl Prompt {
    /// Its id as results write it: a string as it is, a number in its digits.
    #[must_use]
    pub fn question(&self) -> String {
        self.id.as_str().map_or_else(|| self.id.to_string(), str::to_owned)
    }

    /// What is asked.
    #[must_use]
    pub fn first_turn(&self) -> &str {
        self.turns.first().map_or("", String::as_str)
    }
}

/// Prompts to measure with: at least one, each with an id of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptSet {
    name: String,
    sha256: String,
    prompts: Vec<Prompt>,
}

/// Why a file of prompts cannot be used; nothing of it was asked yet.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptsError {
    /// The file cannot be read.
    #[error("{file} cannot be read; check that the path is right and readable")]
    Unreadable {
        /// The file.
        file: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A line that is not of the form of a prompt.
    #[error("{file}:{line}: column {column}: {reason}; expected {SHAPE}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1, in characters.
        column: usize,
        /// What the parser said.
        reason: String,
    },
    /// An id of another type.
    #[error("{file}:{line}: `question_id` must be a number or a string, found {found}")]
    Id {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What was found.
        found: &'static str,
    },
    /// A group whose name is blank.
    #[error("{file}:{line}: `group` must not be blank; name it, or leave it out for the group `{UNGROUPED}`")]
    Group {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// Nothing to ask.
    #[error("{file}:{line}: `turns` must begin with a prompt that is not empty")]
    Turns {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// One id twice in a set, or a number and a string that results would write alike.
    #[error("{file}:{line}: question_id {id} stands in line {first} already; give each question its own")]
    Twice {
        /// The file.
        file: String,
        /// The line of the second, from 1.
        line: usize,
        /// The line of the first, from 1.
        first: usize,
        /// The id, as [`Prompt::question`] has it.
        id: String,
    },
    /// Not one prompt.
    #[error("{file} holds no prompts; expected one JSON object a line: {SHAPE}")]
    Empty {
        /// The file.
        file: String,
    },
}

/// A line as it is written.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Line {
    question_id: Value,
    group: Option<String>,
    turns: Vec<String>,
    /// All other fields. With it a line must be an object; a list would else be taken for the fields in their order.
    #[serde(flatten)]
    _others: IgnoredAny,
}

/// Reads every prompt of the file at `path`, at least one, in file order; ids may repeat.
///
/// # Errors
/// [`PromptsError`] for the first line that is not sound, and for a file that cannot be read or holds no prompts.
pub fn read(path: &Path) -> Result<Vec<Prompt>, PromptsError> {
    let file = path.display().to_string();
    parse(&file, &bytes(path)?)
}

/// As [`read`], from `bytes`; `name` stands for the file in messages.
///
/// # Errors
/// [`PromptsError`], but never [`Unreadable`](PromptsError::Unreadable) or [`Twice`](PromptsError::Twice).
pub fn parse(name: &str, bytes: &[u8]) -> Result<Vec<Prompt>, PromptsError> {
    let lines = bytes.split(|&byte| byte == b'\n').zip(1..).filter(|(text, _)| !text.trim_ascii().is_empty());
    let prompts: Vec<Prompt> =
        lines.map(|(text, line)| prompt(name, line, text)).collect::<Result<_, _>>()?;
    if prompts.is_empty() {
        return Err(PromptsError::Empty { file: name.to_owned() });
    }
    Ok(prompts)
}

fn bytes(path: &Path) -> Result<Vec<u8>, PromptsError> {
    fs::read(path).map_err(|source| PromptsError::Unreadable { file: path.display().to_string(), source })
}

/// Checks one line.
fn prompt(name: &str, line: usize, text: &[u8]) -> Result<Prompt, PromptsError> {
    let file = || name.to_owned();
    let Line { question_id: id, group, turns, .. } = serde_json::from_slice(text).map_err(|error| {
        PromptsError::Line { file: file(), line, column: column(text, &error), reason: reason(&error) }
    })?;
    if !(id.is_string() || id.is_number()) {
        return Err(PromptsError::Id { file: file(), line, found: kind(&id) });
    }
    let group = group.unwrap_or_else(|| UNGROUPED.to_owned());
    if group.trim().is_empty() {
        return Err(PromptsError::Group { file: file(), line });
    }
    if turns.first().is_none_or(String::is_empty) {
        return Err(PromptsError::Turns { file: file(), line });
    }
    Ok(Prompt { id, group, turns, line })
}

/// What the parser said, without the place: it saw a single line.
fn reason(error: &serde_json::Error) -> String {
    let said = error.to_string();
    said.split(" at line ").next().unwrap_or_default().to_owned()
}

/// Where the parser stood: it counts bytes, people count characters.
fn column(text: &[u8], error: &serde_json::Error) -> usize {
    let before = &text[..error.column().min(text.len())];
    String::from_utf8_lossy(before).chars().count().max(1)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl PromptSet {
    /// The project's own set: 8 prompts each of `multi-turn`, `translation`, `summarization`, `question-answering`,
    /// `mathematics`, `retrieval-augmented` and `code`.
    #[must_use]
    pub fn own() -> Self {
        Self::parse(OWN_NAME, OWN).expect("the built-in prompts are checked by a test")
    }

    /// Reads the file at `path`; the set takes the file's name, without its folders.
    ///
    /// # Errors
    /// [`PromptsError`], as [`read`] and for an id that stands twice.
    pub fn read(path: &Path) -> Result<Self, PromptsError> {
        let mut set = Self::parse(&path.display().to_string(), &bytes(path)?)?;
        if let Some(name) = path.file_name() {
            set.name = name.to_string_lossy().into_owned();
        }
        Ok(set)
    }

    /// As [`read`](Self::read), from `bytes`; `name` is the name of the set, and stands for the file in messages.
    ///
    /// # Errors
    /// [`PromptsError`], but never [`Unreadable`](PromptsError::Unreadable).
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, PromptsError> {
        let prompts = parse(name, bytes)?;
        let mut lines = HashMap::with_capacity(prompts.len());
        for prompt in &prompts {
            if let Some(first) = lines.insert(prompt.question(), prompt.line) {
                let (file, id) = (name.to_owned(), prompt.question());
                return Err(PromptsError::Twice { file, line: prompt.line, first, id });
            }
        }
        Ok(Self { name: name.to_owned(), sha256: format!("{:x}", Sha256::digest(bytes)), prompts })
    }

    /// `built-in`, or the name of the file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the file's bytes, in hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// All prompts, in file order.
    #[must_use]
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// The groups, in order of their first prompts.
    #[must_use]
    pub fn groups(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        self.prompts.iter().map(|prompt| prompt.group.as_str()).filter(|group| seen.insert(*group)).collect()
    }

    /// The first `n` prompts of each group, or all of one that has fewer, in file order.
    #[must_use]
    pub fn first_of_each_group(&self, n: usize) -> Vec<&Prompt> {
        let mut taken: HashMap<&str, usize> = HashMap::new();
        let mut cut = Vec::new();
        for prompt in &self.prompts {
            let taken = taken.entry(&prompt.group).or_default();
            if *taken < n {
                cut.push(prompt);
            }
            *taken += 1;
        }
        cut
    }
}
