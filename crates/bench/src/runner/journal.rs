//! Saves each measurement at once, so that neither Ctrl-C nor a crash loses it and a run can be resumed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::RunManifest;
use crate::error::BenchError;
use crate::files;
use crate::results::{Cost, Record};

const MANIFEST: &str = "run.json";
const MEASUREMENTS: &str = "measurements.jsonl";

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum JournalLine {
    Answers(PromptAnswers),
    /// The cost of passes at the start of a round.
    Costs {
        round: usize,
        costs: Vec<Cost>,
    },
    /// Other programs kept the machine busy when a round began.
    Busy {
        round: usize,
        processors: f64,
    },
}

/// The answers of all arms to one prompt in one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PromptAnswers {
    pub(super) round: usize,
    /// Index of the prompt.
    pub(super) prompt: usize,
    pub(super) records: Vec<Record>,
    /// Mean number of processors that other programs kept busy.
    pub(super) others: Option<f64>,
    /// Arms that failed so far, and why.
    pub(super) failed: Vec<(usize, String)>,
}

/// The journal in the folder of a run.
#[derive(Debug)]
pub(super) struct Journal {
    folder: PathBuf,
    file: File,
    /// The first failed write. Nothing is written after it.
    pub(super) fault: Option<io::Error>,
}

/// Checks that a folder can hold a run, before anything is loaded. Creates the folder if needed.
///
/// # Errors
/// [`BenchError::Io`], [`BenchError::FolderInUse`].
pub fn prepare_folder(folder: &Path) -> Result<(), BenchError> {
    let fault = |action| move |source| BenchError::io(action, folder, source);
    fs::create_dir_all(folder).map_err(fault("create"))?;
    if folder.join(MANIFEST).exists() || folder.join(MEASUREMENTS).exists() {
        return Err(BenchError::FolderInUse { folder: folder.to_owned() });
    }
    tempfile::tempfile_in(folder).and_then(|mut file| file.write_all(b"x")).map_err(fault("write into"))
}

/// Reads the manifest of a run from its folder.
///
/// # Errors
/// [`BenchError::Io`], [`BenchError::OtherSchema`], [`BenchError::InvalidFile`].
pub fn read_manifest(folder: &Path) -> Result<RunManifest, BenchError> {
    files::read_versioned(&folder.join(MANIFEST))
}

impl Journal {
    /// Creates the journal of a new run.
    pub(super) fn create(folder: &Path, manifest: &RunManifest) -> Result<Self, BenchError> {
        let path = folder.join(MANIFEST);
        let written = serde_json::to_vec_pretty(manifest).map_err(io::Error::from);
        let written = written.and_then(|bytes| fs::write(&path, bytes));
        written.map_err(|source| BenchError::io("write", &path, source))?;
        Self::open(folder)
    }

    fn open(folder: &Path) -> Result<Self, BenchError> {
        let path = folder.join(MEASUREMENTS);
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(|source| BenchError::io("write", &path, source))?;
        Ok(Self { folder: folder.to_owned(), file, fault: None })
    }

    /// Opens the journal of an earlier run and reads its lines. An incomplete last line is dropped.
    pub(super) fn resume(folder: &Path) -> Result<(Self, Vec<JournalLine>), BenchError> {
        let path = folder.join(MEASUREMENTS);
        let fault = |source| BenchError::io("read", &path, source);
        let (mut lines, mut complete) = (Vec::new(), 0);
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
                lines.push(line.map_err(|source| BenchError::InvalidFile { path: path.clone(), source })?);
                complete += read as u64;
            }
            OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_len(complete))
                .map_err(fault)?;
        }
        Ok((Self::open(folder)?, lines))
    }

    /// Appends a line. A failure is kept in `fault` and reported at the end, because the measurement still counts.
    pub(super) fn write(&mut self, line: &JournalLine) {
        if self.fault.is_some() {
            return;
        }
        let written = serde_json::to_vec(line).map_err(io::Error::from).and_then(|mut bytes| {
            bytes.push(b'\n');
            self.file.write_all(&bytes)?;
            self.file.flush()
        });
        if let Err(fault) = written {
            tracing::error!(folder = %self.folder.display(), %fault, "measurements are no longer saved");
            self.fault = Some(fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(round: usize) -> JournalLine {
        JournalLine::Busy { round, processors: 0.5 }
    }

    #[test]
    fn a_journal_returns_its_lines_and_drops_an_incomplete_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(folder.path()).unwrap();
        let answers = JournalLine::Answers(PromptAnswers {
            round: 1,
            prompt: 2,
            records: Vec::new(),
            others: None,
            failed: vec![(3, "x".into())],
        });
        journal.write(&busy(0));
        journal.write(&answers);
        journal.file.write_all(b"{\"answers\":{\"rou").unwrap();
        drop(journal);
        let (mut journal, lines) = Journal::resume(folder.path()).unwrap();
        assert_eq!(lines, [busy(0), answers.clone()]);
        journal.write(&busy(7));
        drop(journal);
        let (_, lines) = Journal::resume(folder.path()).unwrap();
        assert_eq!(lines, [busy(0), answers, busy(7)]);
    }

    #[test]
    fn an_invalid_line_in_the_middle_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(MEASUREMENTS), "{}\n{}\n").unwrap();
        assert!(matches!(Journal::resume(folder.path()), Err(BenchError::InvalidFile { .. })));
    }

    #[test]
    fn a_folder_with_a_run_is_refused_and_so_is_one_that_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        prepare_folder(folder.path()).unwrap();
        prepare_folder(&folder.path().join("new/deep")).unwrap();
        fs::write(folder.path().join(MEASUREMENTS), "").unwrap();
        assert!(matches!(prepare_folder(folder.path()), Err(BenchError::FolderInUse { .. })));
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(prepare_folder(&file), Err(BenchError::Io { action: "create", .. })));
    }
}
