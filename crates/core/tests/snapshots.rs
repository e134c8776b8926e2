//! A snapshot survives whatever happens to the process that saves it. Each test runs that process.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use upcycle_core::{AdjacencyMatrix, Fingerprint, SnapshotError, TokenId};

const FINGERPRINT: Fingerprint = [7; 32];
const VOCAB: usize = 20_000;
const K: usize = 8;

/// The folder for a test that runs again as a process of its own.
const FOLDER: &str = "UPCYCLE_SNAPSHOT_TEST_FOLDER";

/// The number of the first matrix that such a process saves.
const FIRST: &str = "UPCYCLE_SNAPSHOT_TEST_FIRST";

/// Matrix number `number`: full, 720 KB on disk, and different in every row from all other numbers.
fn numbered(number: usize) -> AdjacencyMatrix {
    let mut matrix = AdjacencyMatrix::new(VOCAB, K).unwrap();
    for token in 0..VOCAB {
        let row: [TokenId; K] = std::array::from_fn(|rank| ((token + number + rank) % VOCAB) as TokenId);
        matrix.update(token as TokenId, &row);
    }
    matrix
}

fn snapshot(folder: &Path) -> PathBuf {
    folder.join("matrix.snapshot")
}

/// The number of the matrix in the snapshot, which must be complete.
fn number(folder: &Path) -> usize {
    let found = AdjacencyMatrix::load(&snapshot(folder), VOCAB, K, &FINGERPRINT).expect("a whole snapshot");
    let number = found.candidate(0, 0).expect("a full matrix") as usize;
    assert_eq!(found, numbered(number));
    number
}

/// The names in a folder, except that of the snapshot.
fn others(folder: &Path) -> BTreeSet<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.filter(|path| *path != snapshot(folder)).collect()
}

/// Runs one test of this program in a new process.
fn again(test: &str, folder: &Path, first: usize, program: &mut Command) -> Child {
    let program = program.args(["--exact", test, "--nocapture"]);
    program.env(FOLDER, folder).env(FIRST, first.to_string()).stdin(Stdio::null()).stdout(Stdio::piped());
    program.spawn().unwrap()
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

/// Where this process has to save, and which matrix first; `None` in the test itself.
fn started_again() -> Option<(PathBuf, usize)> {
    Some((std::env::var_os(FOLDER)?.into(), std::env::var(FIRST).ok()?.parse().ok()?))
}

#[test]
fn a_killed_process_leaves_the_old_file_or_the_new_one() {
    if let Some((folder, first)) = started_again() {
        for number in first.. {
            numbered(number).save(&snapshot(&folder), &FINGERPRINT).unwrap();
            println!("\nsaved {number}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut last, mut midway) = (0, 0);
    for attempt in 0..200 {
        let name = "a_killed_process_leaves_the_old_file_or_the_new_one";
        let mut child = again(name, folder.path(), last + 1, &mut this_program());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let saved = |line: String| line.strip_prefix("saved ")?.parse().ok();
        let begun: Option<usize> = lines.by_ref().find_map(saved);
        // At any moment of the saves that follow, whose time is no multiple of this.
        thread::sleep(Duration::from_micros(attempt * 173 % 20_000));
        child.kill().unwrap();
        child.wait().unwrap();
        let announced = lines.filter_map(saved).last().or(begun).expect("it saved at least once");
        let found = number(folder.path());
        assert!(found == announced || found == announced + 1, "{found} after {announced} was announced");
        last = found;
        midway += usize::from(!others(folder.path()).is_empty());
        others(folder.path()).iter().for_each(|path| fs::remove_file(path).unwrap());
    }
    // A half-written file keeps its temporary name.
    assert!(midway > 0, "no process was killed in the middle of a save, so that nothing was tried");
}

/// A limit to the size of files ends a write midway, as a full disk does.
#[cfg(unix)]
#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    if let Some((folder, first)) = started_again() {
        match numbered(first).save(&snapshot(&folder), &FINGERPRINT) {
            Err(SnapshotError::Io { action: "write", source, .. }) => {
                assert_eq!(source.kind(), ErrorKind::FileTooLarge);
            }
            found => panic!("expected an error of the system, found {found:?}"),
        }
        return println!("\nrefused");
    }
    let folder = tempfile::tempdir().unwrap();
    numbered(1).save(&snapshot(folder.path()), &FINGERPRINT).unwrap();
    // 200 blocks of 512 or 1024 bytes, depending on the shell: the start of a snapshot. Without the trap the system would kill
    // the process, which the other test covers.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 200; exec \"$0\" \"$@\""]);
    limited.arg(std::env::current_exe().unwrap());
    let name = "a_failed_write_leaves_the_old_file_and_nothing_else";
    let mut child = again(name, folder.path(), 2, &mut limited);
    let mut output = String::new();
    child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
    assert!(child.wait().unwrap().success() && output.lines().any(|line| line == "refused"), "{output}");
    assert_eq!(number(folder.path()), 1);
    assert_eq!(others(folder.path()), BTreeSet::new());
}

#[test]
fn two_processes_that_save_at_once_leave_one_complete_file() {
    if let Some((folder, first)) = started_again() {
        let matrix = numbered(first);
        for _ in 0..40 {
            matrix.save(&snapshot(&folder), &FINGERPRINT).unwrap();
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    numbered(1).save(&snapshot(folder.path()), &FINGERPRINT).unwrap();
    let name = "two_processes_that_save_at_once_leave_one_complete_file";
    let mut savers = [1, 2].map(|first| again(name, folder.path(), first, &mut this_program()));
    while savers.iter_mut().any(|saver| saver.try_wait().unwrap().is_none()) {
        assert!(matches!(number(folder.path()), 1 | 2));
    }
    for saver in savers {
        assert!(saver.wait_with_output().unwrap().status.success());
    }
    assert!(matches!(number(folder.path()), 1 | 2));
    assert_eq!(others(folder.path()), BTreeSet::new());
}
