//! Values that are one of a few names, and paths that must lead to something.

use std::path::{Path, PathBuf};

use super::error::Problem;
use super::keys::nearest;
use crate::engine::{CONFIG_FILE, GRAPH_FILE};
use crate::hub;
use crate::texts::Files;

/// Checks that a value is one of `names`.
pub(crate) fn one_of<'a>(key: &'static str, found: &str, names: &[&'a str]) -> Result<&'a str, Problem> {
    if let Some(&name) = names.iter().find(|&&name| name == found) {
        return Ok(name);
    }
    let all = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let hint = match nearest(found, names.iter().copied()) {
        Some(near) => format!("one of {all}; did you mean `{near}`?"),
        None => format!("one of {all}"),
    };
    Err(Problem::UnknownName { key, found: found.to_owned(), hint })
}

pub(crate) fn out_of_range(key: &'static str, found: &dyn std::fmt::Display, expected: &str) -> Problem {
    Problem::OutOfRange { key, found: found.to_string(), expected: expected.to_owned() }
}

/// Declares an enum of names that stand in the configuration.
macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in the configuration.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            pub(crate) fn parse(key: &'static str, found: &str) -> Result<Self, Problem> {
                let names: Vec<&str> = Self::ALL.iter().map(|choice| choice.name()).collect();
                $crate::config::choices::one_of(key, found, &names)?;
                Ok(Self::ALL.iter().copied().find(|choice| choice.name() == found).unwrap_or(Self::ALL[0]))
            }
        }
    };
}
pub(crate) use names;

/// A file that must be there.
pub(crate) fn existing_file(key: &'static str, path: PathBuf) -> Result<PathBuf, Problem> {
    if path.is_file() {
        return Ok(path);
    }
    let hint = if path.is_dir() {
        "that is a folder: name a file in it".to_owned()
    } else if !folder_of(&path).is_dir() {
        format!("its folder {} does not exist either", folder_of(&path).display())
    } else {
        match near_file(&path) {
            Some(near) => format!("did you mean {}?", near.display()),
            None => "no file there has a name like it".to_owned(),
        }
    };
    Err(Problem::NoSuchFile { key, path, hint })
}

/// A model: a file, or a folder with a graph or the configuration of a model in it.
pub(crate) fn existing_model(key: &'static str, path: PathBuf) -> Result<PathBuf, Problem> {
    if hub::is_on_hub(&path) {
        return match hub::problem(&path) {
            None => Ok(path),
            Some(hint) => Err(Problem::NoSuchFile { key, path, hint }),
        };
    }
    if [GRAPH_FILE, CONFIG_FILE].iter().any(|name| path.join(name).is_file()) {
        return Ok(path);
    }
    existing_file(key, path)
}

/// A file that may be written: it is there, or its folder is.
pub(crate) fn writable_file(key: &'static str, path: PathBuf) -> Result<PathBuf, Problem> {
    let folder = folder_of(&path);
    let hint = if path.is_dir() {
        "that is a folder: name a file in it".to_owned()
    } else if !folder.is_dir() {
        format!("create its folder {} first", folder.display())
    } else {
        return Ok(path);
    };
    Err(Problem::NoSuchFile { key, path, hint })
}

/// A folder with a file in it, or in a folder below it, that may be a text.
pub(crate) fn folder_of_texts(key: &'static str, path: PathBuf) -> Result<PathBuf, Problem> {
    let (found, expected) = if path.is_file() {
        ("is a file".to_owned(), "a folder of texts: name the one that it lies in")
    } else if !path.is_dir() {
        ("is not there".to_owned(), "a folder of texts")
    } else {
        match Files::below(&path).map(|mut files| files.next()) {
            Ok(Some(Ok(_))) => return Ok(path),
            Ok(None) => {
                let found = "holds no file that is not hidden".to_owned();
                (found, "texts in it or in folders below it; symbolic links are not followed")
            }
            Ok(Some(Err(error))) | Err(error) => {
                (format!("cannot be used ({error})"), "a folder that can be read")
            }
        }
    };
    Err(Problem::NoTexts { key, path, found, expected })
}

/// How many entries of a folder are looked at for a name like the one that was written.
const MANY_FILES: usize = 1000;

fn near_file(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let names: Vec<String> = std::fs::read_dir(folder_of(path))
        .ok()?
        .take(MANY_FILES)
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_file())?.file_name().into_string().ok())
        .collect();
    nearest(name, names.iter().map(String::as_str)).map(|near| path.with_file_name(near))
}

/// The folder in which a path lies.
fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}
