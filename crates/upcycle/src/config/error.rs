//! What is wrong with a configuration, and where it was written.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use upcycle_core::TemplateError;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// At a place of a file; line and column count from 1, in characters.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
        /// The column.
        column: usize,
    },
    /// In a file, as a whole.
    WholeFile(PathBuf),
    /// In an environment variable.
    Variable(String),
    /// In a flag.
    Flag(String),
    /// In a [`Raw`](crate::Raw) that a program has made, or nowhere: a default.
    Program,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { path, line, column } => write!(f, "{}:{line}:{column}: ", path.display()),
            Origin::WholeFile(path) => write!(f, "{}: ", path.display()),
            Origin::Variable(name) => write!(f, "environment variable {name}: "),
            Origin::Flag(flag) => write!(f, "{flag}: "),
            Origin::Program => Ok(()),
        }
    }
}

/// A configuration that cannot be used; says where, what was expected, what was found and what may have been meant.
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
        /// What the parser said.
        message: String,
    },
    /// There is no such key.
    #[error("unknown key `{key}`; {hint}")]
    UnknownKey {
        /// The key, with its tables.
        key: String,
        /// The nearest valid name, or all that may stand there.
        hint: String,
    },
    /// There is no such environment variable.
    #[error("no key has this variable; {hint}")]
    UnknownVariable {
        /// The nearest valid name, or how they are made.
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
        key: &'static str,
        /// The value.
        found: String,
        /// The range.
        expected: String,
    },
    /// A name that is not one of those that the key takes.
    #[error("`{key}` is {found:?}; expected {hint}")]
    UnknownName {
        /// The key.
        key: &'static str,
        /// The value.
        found: String,
        /// All valid names, the nearest one first where one is near.
        hint: String,
    },
    /// A path that leads to no file.
    #[error("`{key}`: there is no file {path}; {hint}", path = path.display())]
    NoSuchFile {
        /// The key.
        key: &'static str,
        /// The path, as resolved.
        path: PathBuf,
        /// The nearest file in that folder, or what else may help.
        hint: String,
    },
    /// A path that leads to no folder of texts.
    #[error("`{key}`: {path} {found}; expected {expected}", path = path.display())]
    NoTexts {
        /// The key.
        key: &'static str,
        /// The path, as resolved.
        path: PathBuf,
        /// What it is or lacks.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A file that cannot be used for what it is named for.
    #[error("`{key}`: {path} is not a tree template", path = path.display())]
    Tree {
        /// The key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: TreeFileError,
    },
    /// A key that a preset fixes at another value.
    #[error(
        "`{key}` is {found}, but `drafter.preset = \"{preset}\"` fixes it at {fixed}; remove one of the two"
    )]
    FixedByPreset {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// The preset.
        preset: &'static str,
        /// The preset's value.
        fixed: &'static str,
    },
}

/// Why a file gives no tree.
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
    /// The key that is at fault, where it is one that exists.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Problem::NotUnicode { key } | Problem::WrongType { key, .. } => Some(key),
            Problem::OutOfRange { key, .. }
            | Problem::UnknownName { key, .. }
            | Problem::NoSuchFile { key, .. }
            | Problem::NoTexts { key, .. }
            | Problem::Tree { key, .. }
            | Problem::FixedByPreset { key, .. } => Some(key),
            Problem::Unreadable(_)
            | Problem::Syntax { .. }
            | Problem::UnknownKey { .. }
            | Problem::UnknownVariable { .. }
            | Problem::NotAnAssignment => None,
        }
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self::new(Origin::Program, problem)
    }
}
