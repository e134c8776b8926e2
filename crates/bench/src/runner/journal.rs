//! What is measured is written down at once, so that neither Ctrl-C nor a crash loses it, and a run can be resumed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::BenchError;
use crate::plan::Begun;
use crate::results::{Cost, Record, SCHEMA};

const BEGUN: &str = "run.json";
const CELLS: &str = "measurements.jsonl";

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    /// All arms on one prompt in one round.
    Cell(Cell),
    /// What passes cost, measured at the start of a round.
    Costs {
        round: usize,
        /// One sweep over all sizes.
        costs: Vec<Cost>,
    },
    /// Others kept the machine busy.
    Busy { round: usize, processors: f64 },
}

/// All arms on one prompt in one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Cell {
    pub(super) round: usize,
    /// Index among the prompts that are asked.
    pub(super) prompt: usize,
    pub(super) records: Vec<Record>,
    /// Mean processors that others kept busy meanwhile.
    pub(super) others: Option<f64>,
    /// Arms that have failed by now, and their last words.
    pub(super) failed: Vec<(usize, String)>,
}

/// The folder of a run.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    file: File,
    /// The first write that failed; nothing is written after it.
    pub(super) fault: Option<io::Error>,
}

/// Makes sure that a folder can hold a run, before anything is loaded: it is there or can be made, is writable, and
/// holds no other run.
///
/// # Errors
/// [`BenchError::Io`], [`BenchError::Occupied`].
pub fn prepare_folder(folder: &Path) -> Result<(), BenchError> {
    let fault = |doing| move |source| BenchError::Io { doing, path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(fault("create"))?;
    if folder.join(BEGUN).exists() || folder.join(CELLS).exists() {
        return Err(BenchError::Occupied { folder: folder.to_owned() });
    }
    tempfile::tempfile_in(folder).and_then(|mut file| file.write_all(b"x")).map_err(fault("write into"))
}

/// What a folder says of its run.
///
/// # Errors
/// [`BenchError::Io`], [`BenchError::NotARun`].
pub fn read_begun(folder: &Path) -> Result<Begun, BenchError> {
    let path = folder.join(BEGUN);
    let text = fs::read_to_string(&path).map_err(|source| BenchError::Io {
        doing: "read",
        path: path.clone(),
        source,
    })?;
    parse_versioned(&path, &text)
}

/// Reads a file of this crate, whose version stands in it.
///
/// # Errors
/// [`BenchError::OtherSchema`] if it is of another version, [`BenchError::NotARun`] if it is not of its form.
pub(crate) fn parse_versioned<T: serde::de::DeserializeOwned>(
    path: &Path,
    text: &str,
) -> Result<T, BenchError> {
    #[derive(Deserialize)]
    struct Version {
        schema: u32,
    }
    let not = |source| BenchError::NotARun { path: path.to_owned(), source };
    let Version { schema } = serde_json::from_str(text).map_err(not)?;
    if schema != SCHEMA {
        return Err(BenchError::OtherSchema { path: path.to_owned(), found: schema });
    }
    serde_json::from_str(text).map_err(not)
}

impl Journal {
    /// Begins one.
    pub(super) fn begin(folder: &Path, begun: &Begun) -> Result<Self, BenchError> {
        let path = folder.join(BEGUN);
        let fault = |source| BenchError::Io { doing: "write", path: path.clone(), source };
        fs::write(&path, serde_json::to_vec_pretty(begun).map_err(io::Error::from).map_err(fault)?)
            .map_err(fault)?;
        Self::open(folder)
    }

    fn open(folder: &Path) -> Result<Self, BenchError> {
        let path = folder.join(CELLS);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|source| BenchError::Io { doing: "write", path, source })?;
        Ok(Self { folder: folder.to_owned(), file, fault: None })
    }

    /// Opens one that was begun, and reads what it holds. A last line that was cut off is dropped.
    pub(super) fn resume(folder: &Path) -> Result<(Self, Vec<Line>), BenchError> {
        let path = folder.join(CELLS);
        let fault = |source| BenchError::Io { doing: "read", path: path.clone(), source };
        let (mut lines, mut sound) = (Vec::new(), 0);
        if path.exists() {
            let mut reader = BufReader::new(File::open(&path).map_err(fault)?);
            let mut text = String::new();
            loop {
                text.clear();
                let read = reader.read_line(&mut text).map_err(fault)?;
                if read == 0 || !text.ends_with('\n') {
                    break;
                }
                let line = serde_json::from_str(&text);
                lines.push(line.map_err(|source| BenchError::NotARun { path: path.clone(), source })?);
                sound += read as u64;
            }
            OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(sound)).map_err(fault)?;
        }
        Ok((Self::open(folder)?, lines))
    }

    /// Writes a line down. A fault is kept, not returned: what is measured still counts, and is told in the end.
    pub(super) fn write(&mut self, line: &Line) {
        if self.fault.is_some() {
            return;
        }
        let written = serde_json::to_vec(line).map_err(io::Error::from).and_then(|mut bytes| {
            bytes.push(b'\n');
            self.file.write_all(&bytes)?;
            self.file.flush()
        });
        if let Err(fault) = written {
            tracing::error!(folder = %self.folder.display(), %fault, "what is measured is no longer written down");
            self.fault = Some(fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(round: usize) -> Line {
        Line::Busy { round, processors: 0.5 }
    }

    #[test]
    fn a_journal_gives_back_what_was_written_and_drops_a_line_that_was_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        let cell =
            Cell { round: 1, prompt: 2, records: Vec::new(), others: None, failed: vec![(3, "x".into())] };
        journal.write(&busy(0));
        journal.write(&Line::Cell(cell.clone()));
        journal.file.write_all(b"{\"cell\":{\"rou").unwrap();
        drop(journal);
        let (mut journal, lines) = Journal::resume(folder.path()).unwrap();
        assert_eq!(lines, [busy(0), Line::Cell(cell.clone())]);
        journal.write(&busy(7));
        drop(journal);
        let (_, lines) = Journal::resume(folder.path()).unwrap();
        assert_eq!(lines, [busy(0), Line::Cell(cell), busy(7)]);
    }

    #[test]
    fn a_line_in_the_middle_that_is_none_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CELLS), "{}\n{}\n").unwrap();
        assert!(matches!(Journal::resume(folder.path()), Err(BenchError::NotARun { .. })));
    }

    #[test]
    fn a_folder_with_a_run_is_not_overwritten_and_one_that_cannot_be_written_is_said() {
        let folder = tempfile::tempdir().unwrap();
        prepare_folder(folder.path()).unwrap();
        prepare_folder(&folder.path().join("new/deep")).unwrap();
        fs::write(folder.path().join(CELLS), "").unwrap();
        assert!(matches!(prepare_folder(folder.path()), Err(BenchError::Occupied { .. })));
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(prepare_folder(&file), Err(BenchError::Io { doing: "create", .. })));
    }

    #[test]
    fn another_version_is_named() {
        let error =
            parse_versioned::<Begun>(Path::new("x.json"), "{\"schema\": 99, \"more\": 1}").unwrap_err();
        assert!(error.to_string().contains("version 99"), "{error}");
        let error = parse_versioned::<Begun>(Path::new("x.json"), "[]").unwrap_err();
        assert!(matches!(error, BenchError::NotARun { .. }));
    }
}
