//! Trying inputs.

use std::fs;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use peak_alloc::PeakAlloc;

use crate::{Target, mutate};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Memory is that of the whole process, so that one input is tried at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// How much memory an input may take beyond its own size, in bytes.
pub const MEMORY: usize = 200 << 20;

/// What inputs took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Inputs that were tried.
    pub inputs: u64,
    /// Those that were sound.
    pub sound: u64,
    /// The most memory that one took, in bytes.
    pub memory: usize,
    /// The longest that one took.
    pub longest: Duration,
}

/// An input that went wrong. It is kept, and tried first from then on.
#[derive(Debug)]
pub struct Wrong {
    /// What happened.
    pub what: String,
    /// The input.
    pub path: PathBuf,
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}
impl std::error::Error for Wrong {}

/// The folder with what went wrong before.
#[must_use]
pub fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// The file with the input that is being tried, or was when the process ended.
#[must_use]
pub fn at_hand(target: &Target) -> PathBuf {
    std::env::temp_dir().join(format!("upcycle-fuzz-{}", target.name))
}

/// Tries the seeds of `target`, its corpus, and these inputs of its sequence.
///
/// # Errors
/// [`Wrong`], the first of them: a panic, more memory than [`MEMORY`], or more time than `patience`.
pub fn run(target: &Target, inputs: Range<u64>, patience: Duration) -> Result<Report, Wrong> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{} has seeds", target.name);
    let mut report = Report::default();
    let entries = fs::read_dir(corpus(target)).into_iter().flatten().flatten();
    let mut kept: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    kept.sort();
    for path in kept {
        let Ok(bytes) = fs::read(&path) else { continue };
        try_one(target, &bytes, patience, &mut report).map_err(|what| Wrong { what, path })?;
    }
    let damaged = inputs.map(|index| mutate::input(&seeds, index));
    for bytes in seeds.iter().cloned().chain(damaged) {
        // What ends the process can only be kept before. No error: the input is tried whether it is kept or not.
        let _ = fs::write(at_hand(target), &bytes);
        try_one(target, &bytes, patience, &mut report).map_err(|what| keep(target, &bytes, what))?;
    }
    Ok(report)
}

fn try_one(target: &Target, bytes: &[u8], patience: Duration, report: &mut Report) -> Result<(), String> {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let start = Instant::now();
    let read = panic::catch_unwind(AssertUnwindSafe(|| (target.read)(bytes)));
    let took = start.elapsed();
    let memory = ALLOCATOR.peak_usage().saturating_sub(before);
    report.inputs += 1;
    report.memory = report.memory.max(memory);
    report.longest = report.longest.max(took);
    let sound = read.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        format!("panicked: {text}")
    })?;
    report.sound += u64::from(sound);
    if memory > MEMORY + bytes.len() {
        return Err(format!("took {} MB of memory for {} bytes", memory >> 20, bytes.len()));
    }
    if took > patience {
        return Err(format!("took {:.1} s", took.as_secs_f64()));
    }
    Ok(())
}

fn keep(target: &Target, bytes: &[u8], what: String) -> Wrong {
    let folder = corpus(target);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let path = folder.join(format!("{hash:016x}"));
    let kept = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, bytes));
    let what = match kept {
        Ok(()) => what,
        Err(error) => format!("{what} (and it could not be kept: {error})"),
    };
    Wrong { what, path }
}
