//! Prompts: the built-in set, and JSONL files.
//!
//! Each line of a file is a JSON object: `{"question_id": 1, "group": "code", "turns": ["…", "…"]}`.
//!
//! - `question_id` is a number (64 bits) or a string. It is returned unchanged.
//! - `group` is optional; the default is [`UNGROUPED`].
//! - `turns` are the messages of the user. The first must not be empty.
//! - Other fields, blank lines and byte order marks are ignored. UTF-16 with a mark is converted.
//!
//! Only the first turn is used. A second turn follows an answer, so arms with different answers would get different prompts.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// The group of lines without a group.
pub const UNGROUPED: &str = "all";

/// The expected form of a line, for messages.
const SHAPE: &str = r#"{"question_id": …, "turns": ["…"]}"#;

/// The name of the built-in set, in messages and results.
const BUILT_IN_NAME: &str = "built-in";

/// The built-in set: 7 groups of 8 prompts, written for this project.
const BUILT_IN: &[u8] = include_bytes!("../prompts/own.jsonl");

/// Some editors and shells begin files with it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// One prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Its id, as written in the file: a number or a string.
    pub id: Value,
    /// Its group; [`UNGROUPED`] by default.
    pub group: String,
    /// The messages of the user: at least one, and the first is not empty.
    pub turns: Vec<String>,
    /// Its line in the file, from 1.
    pub line: usize,
}

impl Prompt {
    /// Its id as text.
    #[must_use]
    pub fn question(&self) -> String {
        self.id.as_str().map_or_else(|| self.id.to_string(), str::to_owned)
    }

    /// The first message, which is the only one used.
    #[must_use]
    pub fn first_turn(&self) -> &str {
        self.turns.first().map_or("", String::as_str)
    }
}

/// At least one prompt, with unique ids.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptSet {
    name: String,
    sha256: String,
    prompts: Vec<Prompt>,
}

/// Why a file of prompts is invalid.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptsError {
    /// The file cannot be read.
    #[error("cannot read {file}; check the path and its permissions")]
    Unreadable {
        /// The file.
        file: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A line is not a prompt.
    #[error("{file}:{line}: column {column}: {reason}; expected {SHAPE}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1, in characters.
        column: usize,
        /// The parser's message.
        reason: String,
    },
    /// An id has another type.
    #[error("{file}:{line}: `question_id` must be a number or a string, found {found}")]
    Id {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The type found.
        found: &'static str,
    },
    /// A group is blank.
    #[error("{file}:{line}: `group` must not be blank; name it, or omit it for the group `{UNGROUPED}`")]
    Group {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// A line has no prompt text.
    #[error("{file}:{line}: `turns` must begin with a text that is not empty")]
    Turns {
        /// The file.
        file: String,
        /// The line, from 1.
        line: usize,
    },
    /// Two prompts have the same id, or a number and a string with the same text.
    #[error("{file}:{line}: question_id {id} is already used in line {first}; use unique ids")]
    DuplicateId {
        /// The file.
        file: String,
        /// The line of the second, from 1.
        line: usize,
        /// The line of the first, from 1.
        first: usize,
        /// The id, as [`Prompt::question`] has it.
        id: String,
    },
    /// The file has no prompts.
    #[error("{file} has no prompts; expected one JSON object per line: {SHAPE}")]
    Empty {
        /// The file.
        file: String,
    },
}

/// A line of the file.
#[derive(Deserialize)]
#[serde(expecting = "an object")]
struct Line {
    question_id: Value,
    group: Option<String>,
    turns: Vec<String>,
    /// All other fields. This also rejects a JSON list, which serde would otherwise accept.
    #[serde(flatten)]
    _others: IgnoredAny,
}

/// Reads all prompts of a file: at least one, in file order. Ids may repeat.
///
/// # Errors
/// [`PromptsError`].
pub fn read(path: &Path) -> Result<Vec<Prompt>, PromptsError> {
    let file = path.display().to_string();
    parse(&file, &bytes(path)?)
}

/// Like [`read`], from `bytes`. `name` is the file in messages.
///
/// # Errors
/// [`PromptsError`].
pub fn parse(name: &str, bytes: &[u8]) -> Result<Vec<Prompt>, PromptsError> {
    let bytes = upcycle::utf8(bytes.to_vec());
    // Joined files have a byte order mark inside.
    let lines =
        bytes.split(|&byte| byte == b'\n').map(|line| line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line));
    let lines = lines.zip(1..).filter(|(text, _)| !text.trim_ascii().is_empty());
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

/// The parser's message without its position.
fn reason(error: &serde_json::Error) -> String {
    let said = error.to_string();
    said.split(" at line ").next().unwrap_or_default().to_owned()
}

/// The column in characters; the parser counts bytes.
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
    /// The built-in set: 8 prompts each of `multi-turn`, `translation`, `summarization`, `question-answering`,
    /// `mathematics`, `retrieval-augmented` and `code`.
    #[must_use]
    pub fn built_in() -> Self {
        Self::parse(BUILT_IN_NAME, BUILT_IN).expect("a test checks the built-in prompts")
    }

    /// Reads a file. Its name without folders is the name of the set.
    ///
    /// # Errors
    /// [`PromptsError`].
    pub fn read(path: &Path) -> Result<Self, PromptsError> {
        let mut set = Self::parse(&path.display().to_string(), &bytes(path)?)?;
        if let Some(name) = path.file_name() {
            set.name = name.to_string_lossy().into_owned();
        }
        Ok(set)
    }

    /// Like [`read`](Self::read), from `bytes`. `name` is the name of the set.
    ///
    /// # Errors
    /// [`PromptsError`].
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, PromptsError> {
        let prompts = parse(name, bytes)?;
        let mut lines = HashMap::with_capacity(prompts.len());
        for prompt in &prompts {
            if let Some(first) = lines.insert(prompt.question(), prompt.line) {
                let (file, id) = (name.to_owned(), prompt.question());
                return Err(PromptsError::DuplicateId { file, line: prompt.line, first, id });
            }
        }
        Ok(Self { name: name.to_owned(), sha256: format!("{:x}", Sha256::digest(bytes)), prompts })
    }

    /// `built-in`, or the file name.
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

    /// The groups in order of their first prompts.
    #[must_use]
    pub fn groups(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        self.prompts.iter().map(|prompt| prompt.group.as_str()).filter(|group| seen.insert(*group)).collect()
    }

    /// The first `n` prompts of each group, in file order.
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
