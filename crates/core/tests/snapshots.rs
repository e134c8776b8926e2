//! Snapshots and processes that end at any moment, want to write at once, or have no room.
#![cfg(unix)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use upcycle_core::AdjacencyMatrix;

const VOCAB: usize = 4096;
const K: usize = 8;
const FINGERPRINT: [u8; 32] = [9; 32];

/// Tells the test's own binary which part of another process it is to play.
const ROLE: &str = "UPCYCLE_SNAPSHOT_ROLE";
const FILE: &str = "UPCYCLE_SNAPSHOT_FILE";

/// A matrix whose every entry is `value`.
fn matrix(value: u32) -> AdjacencyMatrix {
    let mut matrix = AdjacencyMatrix::new(VOCAB, K).unwrap();
    (0..VOCAB as u32).for_each(|token| matrix.update(token, &[value; K]));
    matrix
}

/// Which whole matrix the file holds.
fn held(path: &Path) -> u32 {
    let found = AdjacencyMatrix::load(path, VOCAB, K, &FINGERPRINT).unwrap();
    let value = found.candidate(0, 0).unwrap();
    assert!((0..VOCAB as u32).all(|token| found.candidate(token, 0) == Some(value)), "all of it is {value}");
    value
}

/// This binary once more, as `role`, on `path`.
fn play(role: &str, path: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "another_process", "--nocapture"]).env(ROLE, role).env(FILE, path);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Not a test by itself: what the others start.
#[test]
fn another_process() {
    let (Ok(role), Some(path)) = (env::var(ROLE), env::var_os(FILE)) else { return };
    let path = Path::new(&path);
    match role.as_str() {
        "alternate" => loop {
            matrix(1).save(path, &FINGERPRINT).unwrap();
            matrix(2).save(path, &FINGERPRINT).unwrap();
        },
        "once" => {
            let failed = matrix(2).save(path, &FINGERPRINT).unwrap_err();
            assert!(failed.to_string().contains("cannot write"), "{failed}");
        }
        value => {
            let value = value.parse().unwrap();
            (0..50).for_each(|_| matrix(value).save(path, &FINGERPRINT).unwrap());
        }
    }
}

#[test]
fn a_process_killed_at_any_moment_leaves_the_old_file_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("matrix");
    matrix(1).save(&path, &FINGERPRINT).unwrap();
    let mut seen = [0; 3];
    for attempt in 0..200_u64 {
        let child = play("alternate", &path).spawn().unwrap();
        thread::sleep(Duration::from_micros(5_000 + attempt * 7919 % 15_000));
        end(child);
        seen[held(&path) as usize] += 1;
    }
    assert!(seen[1] > 0 && seen[2] > 0, "processes were killed at different moments: {seen:?}");
}

#[test]
fn of_two_that_save_at_once_one_is_kept_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("matrix");
    let children: Vec<Child> = ["1", "2"].map(|value| play(value, &path).spawn().unwrap()).into();
    for mut child in children {
        while child.try_wait().unwrap().is_none() {
            if path.exists() {
                held(&path);
            }
        }
        assert!(child.wait().unwrap().success());
    }
    held(&path);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

/// A limit on the size of files stands in for a full disk: writing fails in the middle in the same way.
#[test]
fn without_room_the_old_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("matrix");
    matrix(1).save(&path, &FINGERPRINT).unwrap();
    let play = play("once", &path);
    let status = Command::new("sh")
        // Blocks of 512 or 1024 bytes: either is less than the file's 147,000.
        .args(["-c", "trap '' XFSZ; ulimit -f 32; exec \"$0\" \"$@\" >/dev/null 2>&1"])
        .arg(play.get_program())
        .args(play.get_args())
        .envs(play.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .status()
        .unwrap();
    assert!(status.success(), "saving was refused with an error");
    assert_eq!(held(&path), 1);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}
