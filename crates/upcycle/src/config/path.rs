//! Values that are paths, and the checks of them.

use std::path::{Path, PathBuf};

use upcycle_core::TreeTemplate;

use super::error::{Problem, TreeFileError};
use crate::corpus::Files;
use crate::drafters::Tree;
use crate::hub;
use crate::model_files::{CONFIG_FILE, GRAPH_FILE};
use crate::suggest::nearest;

/// What must exist at a path. A field declares it with `#[schemars(extend("path" = "file"))]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PathRule {
    /// `file`: an existing file.
    File,
    /// `new-file`: a file that can be written. It exists, or its folder does.
    NewFile,
    /// `model`: a file, a folder with a model's graph or configuration, or a name on the hub.
    Model,
    /// `tree`: a file with a tree template, or the name of a built-in tree.
    Tree,
    /// `corpus`: a folder that contains a file, directly or in a subfolder.
    Corpus,
}

impl PathRule {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "file" => Self::File,
            "new-file" => Self::NewFile,
            "model" => Self::Model,
            "tree" => Self::Tree,
            "corpus" => Self::Corpus,
            _ => return None,
        })
    }

    /// `text` as a path relative to `folder`. A name that is not a path does not change.
    pub(crate) fn resolve(self, folder: &Path, text: &str) -> String {
        let is_path = match self {
            Self::Tree => !Tree::is_name(text),
            Self::Model => !hub::is_on_hub(Path::new(text)),
            _ => true,
        };
        if is_path { folder.join(text).display().to_string() } else { text.to_owned() }
    }

    /// Checks that the path has the expected kind of file or folder.
    pub(crate) fn check(self, key: &str, text: &str) -> Result<(), Problem> {
        let path = Path::new(text);
        match self {
            Self::File => existing_file(key, path),
            Self::NewFile => writable_file(key, path),
            Self::Model => existing_model(key, path),
            Self::Tree if Tree::is_name(text) => Ok(()),
            Self::Tree => tree_file(key, path),
            Self::Corpus => corpus_folder(key, path),
        }
    }
}

fn existing_file(key: &str, path: &Path) -> Result<(), Problem> {
    // A pipe is a file too: `<(command)` in shells.
    if path.exists() && !path.is_dir() {
        return Ok(());
    }
    let hint = if path.is_dir() {
        "that is a folder: name a file in it".to_owned()
    } else if !folder_of(path).is_dir() {
        format!("the folder {} does not exist", folder_of(path).display())
    } else {
        match near_file(path) {
            Some(near) => format!("did you mean {}?", near.display()),
            None => "no file there has a similar name".to_owned(),
        }
    };
    Err(Problem::NoSuchFile { key: key.to_owned(), path: path.to_owned(), hint })
}

fn existing_model(key: &str, path: &Path) -> Result<(), Problem> {
    if hub::is_on_hub(path) {
        return match hub::hub_reference_error(path) {
            None => Ok(()),
            Some(hint) => Err(Problem::NoSuchFile { key: key.to_owned(), path: path.to_owned(), hint }),
        };
    }
    if path.as_os_str() == "-" {
        let hint = "a model cannot be read from standard input: name a file".to_owned();
        return Err(Problem::NoSuchFile { key: key.to_owned(), path: path.to_owned(), hint });
    }
    if [GRAPH_FILE, CONFIG_FILE].iter().any(|name| path.join(name).is_file()) {
        return Ok(());
    }
    existing_file(key, path)
}

fn writable_file(key: &str, path: &Path) -> Result<(), Problem> {
    let folder = folder_of(path);
    let hint = if path.is_dir() {
        "that is a folder: name a file in it".to_owned()
    } else if !folder.is_dir() {
        format!("create its folder {} first", folder.display())
    } else {
        return Ok(());
    };
    Err(Problem::NoSuchFile { key: key.to_owned(), path: path.to_owned(), hint })
}

fn tree_file(key: &str, path: &Path) -> Result<(), Problem> {
    existing_file(key, path).map_err(|problem| match problem {
        Problem::NoSuchFile { key, path, hint } => {
            let hint = format!("{hint} (`auto` and the built-in tree `paper-80` need none)");
            Problem::NoSuchFile { key, path, hint }
        }
        problem => problem,
    })?;
    // A pipe can be read only once, for the tree itself.
    if !path.is_file() {
        return Ok(());
    }
    let read = std::fs::read_to_string(path).map_err(TreeFileError::from);
    match read.and_then(|text| Ok(TreeTemplate::parse(&text)?)) {
        Ok(_) => Ok(()),
        Err(source) => Err(Problem::Tree { key: key.to_owned(), path: path.to_owned(), source }),
    }
}

fn corpus_folder(key: &str, path: &Path) -> Result<(), Problem> {
    let (found, expected) = if path.is_file() {
        ("is a file".to_owned(), "a folder of texts: name the folder that holds it")
    } else if !path.is_dir() {
        ("is not there".to_owned(), "a folder of texts")
    } else {
        match Files::below(path).map(|mut files| files.next()) {
            Ok(Some(Ok(_))) => return Ok(()),
            Ok(None) => {
                let found = "has no files".to_owned();
                (found, "texts in it or in its subfolders (hidden files and symbolic links are ignored)")
            }
            Ok(Some(Err(error))) | Err(error) => {
                (format!("cannot be used ({error})"), "a folder that can be read")
            }
        }
    };
    Err(Problem::NoTexts { key: key.to_owned(), path: path.to_owned(), found, expected })
}

/// How many entries of a folder are searched for a similar name.
const MAX_ENTRIES: usize = 1000;

fn near_file(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let names: Vec<String> = std::fs::read_dir(folder_of(path))
        .ok()?
        .take(MAX_ENTRIES)
        .filter_map(|entry| entry.ok().filter(|entry| entry.path().is_file())?.file_name().into_string().ok())
        .collect();
    nearest(name, names.iter().map(String::as_str)).map(|near| path.with_file_name(near))
}

/// The folder in which a path lies.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}
