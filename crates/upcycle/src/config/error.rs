//! What is wrong with a configuration, and where it was written.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use upcycle_core::TemplateError;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a file, at a line and column. Both count from 1, in characters.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// In a file, without a position.
    WholeFile(PathBuf),
    /// In an environment variable.
    Variable(String),
    /// In a flag.
    Flag(String),
    /// Nowhere: a default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line, column } => write!(f, "{}:{line}:{column}: ", path.display()),
            Origin::WholeFile(path) => write!(f, "{}: ", path.display()),
            Origin::Variable(name) => write!(f, "environment variable {name}: "),
            Origin::Flag(flag) => write!(f, "{flag}: "),
            Origin::Default => Ok(()),
        }
    }
}

/// An error in a configuration: where it is, what was expected, what was found, and what was probably meant.
#[derive(Debug)]
pub struct ConfigError {
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong.
    pub problem: Box<Problem>,
}

impl ConfigError {
    pub(crate) fn new(origin: Origin, problem: Problem) -> Self {
        Self { origin, problem: Box::new(problem) }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.problem)
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.problem.source()
    }
}

/// A variable that belongs to no key, and is ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {variable} is ignored, since no key has it; {hint}")]
#[non_exhaustive]
pub struct ConfigWarning {
    /// Its name.
    pub variable: String,
    /// The nearest valid name, or how variables are named.
    pub hint: String,
}

/// What is wrong with a setting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file cannot be read.
    #[error("the configuration cannot be read; check that the path is right and readable")]
    Unreadable(#[source] io::Error),
    /// The file is not TOML.
    #[error("not TOML: {message}")]
    Syntax {
        /// The error of the parser.
        message: String,
    },
    /// There is no such key.
    #[error("unknown key `{key}`; {hint}")]
    UnknownKey {
        /// The key, with its tables.
        key: String,
        /// The nearest valid name, or all valid names.
        hint: String,
    },
    /// A flag without its value.
    #[error("expected KEY=VALUE, such as decode.seed=7")]
    NotAnAssignment,
    /// An environment variable that is not UTF-8.
    #[error("the value is not UTF-8; set `{key}` in a file instead")]
    NotUnicode {
        /// The key.
        key: String,
    },
    /// A value that its type refuses.
    #[error("`{key}`: {message}")]
    Invalid {
        /// The key, or its table.
        key: String,
        /// The error of the type.
        message: String,
    },
    /// A value of another type.
    #[error("`{key}` must be {expected}, found {found}")]
    WrongType {
        /// The key.
        key: String,
        /// The type of the key.
        expected: String,
        /// The value found.
        found: String,
    },
    /// A value out of its range.
    #[error("`{key}` is {found}; expected {expected}")]
    OutOfRange {
        /// The key.
        key: String,
        /// The value.
        found: String,
        /// The range.
        expected: String,
    },
    /// A name that the key does not take.
    #[error("`{key}` is {found:?}; expected {hint}")]
    UnknownName {
        /// The key.
        key: String,
        /// The value.
        found: String,
        /// All valid names, and the nearest one if it is near.
        hint: String,
    },
    /// A path without a file.
    #[error("`{key}`: there is no file {path}; {hint}", path = path.display())]
    NoSuchFile {
        /// The key.
        key: String,
        /// The path, as resolved.
        path: PathBuf,
        /// The nearest file in that folder, or what else may help.
        hint: String,
    },
    /// A path without a folder of texts.
    #[error("`{key}`: {path} {found}; expected {expected}", path = path.display())]
    NoTexts {
        /// The key.
        key: String,
        /// The path, as resolved.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A file that is not a tree.
    #[error("`{key}`: {path} is not a tree template", path = path.display())]
    Tree {
        /// The key.
        key: String,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: TreeFileError,
    },
    /// A key that a preset sets to another value.
    #[error(
        "`{key}` is {found}, but `drafter.preset = \"{preset}\"` sets it to {fixed}; remove one of the two"
    )]
    FixedByPreset {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// The preset.
        preset: &'static str,
        /// The preset's value.
        fixed: String,
    },
}

/// Why a file is not a tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeFileError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is not a template.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl Problem {
    pub(crate) fn out_of_range(key: &str, found: &dyn fmt::Display, expected: &str) -> Self {
        Self::OutOfRange { key: key.to_owned(), found: found.to_string(), expected: expected.to_owned() }
    }

    /// The key at fault, if it exists.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Problem::NotUnicode { key }
            | Problem::WrongType { key, .. }
            | Problem::Invalid { key, .. }
            | Problem::OutOfRange { key, .. }
            | Problem::UnknownName { key, .. }
            | Problem::NoSuchFile { key, .. }
            | Problem::NoTexts { key, .. }
            | Problem::Tree { key, .. }
            | Problem::FixedByPreset { key, .. } => Some(key),
            Problem::Unreadable(_)
            | Problem::Syntax { .. }
            | Problem::UnknownKey { .. }
            | Problem::NotAnAssignment => None,
        }
    }
}
