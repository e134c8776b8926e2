//! Runs targets on inputs.

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

/// One run at a time: memory is measured for the whole process.
static ALONE: Mutex<()> = Mutex::new(());

/// The memory that an input may take beyond its own size, in bytes.
pub const MEMORY_LIMIT: usize = 200 << 20;

/// The result of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// The inputs tried.
    pub inputs: u64,
    /// The valid ones.
    pub valid: u64,
    /// The most memory for one input, in bytes.
    pub memory: usize,
    /// The longest time for one input.
    pub longest: Duration,
}

/// A failing input. It is saved to the corpus, so later runs try it first.
#[derive(Debug)]
pub struct FailingInput {
    /// The problem.
    pub problem: String,
    /// The saved input.
    pub path: PathBuf,
}

impl std::fmt::Display for FailingInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.problem)
    }
}
impl std::error::Error for FailingInput {}

/// The folder with saved inputs.
#[must_use]
pub fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// The file with the current input, in case it ends the process.
#[must_use]
pub fn current_input(target: &Target) -> PathBuf {
    std::env::temp_dir().join(format!("upcycle-fuzz-{}", target.name))
}

/// Tries the corpus and seeds of `target`, and these inputs of its sequence.
///
/// # Errors
/// The first [`FailingInput`]: it panicked, took more memory than [`MEMORY_LIMIT`], or more time than `time_limit`.
pub fn run(target: &Target, inputs: Range<u64>, time_limit: Duration) -> Result<Report, FailingInput> {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty(), "{} has seeds", target.name);
    let mut report = Report::default();
    let entries = fs::read_dir(corpus(target)).into_iter().flatten().flatten();
    let mut saved: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    saved.sort();
    for path in saved {
        let Ok(bytes) = fs::read(&path) else { continue };
        try_one(target, &bytes, time_limit, &mut report).map_err(|problem| FailingInput { problem, path })?;
    }
    let mutated = inputs.map(|index| mutate::input(&seeds, index));
    for bytes in seeds.iter().cloned().chain(mutated) {
        // An input that ends the process can only be saved before. Errors are ignored: it is tried anyway.
        let _ = fs::write(current_input(target), &bytes);
        try_one(target, &bytes, time_limit, &mut report).map_err(|problem| save(target, &bytes, problem))?;
    }
    Ok(report)
}

fn try_one(target: &Target, bytes: &[u8], time_limit: Duration, report: &mut Report) -> Result<(), String> {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let start = Instant::now();
    let read = panic::catch_unwind(AssertUnwindSafe(|| (target.read)(bytes)));
    let took = start.elapsed();
    let memory = ALLOCATOR.peak_usage().saturating_sub(before);
    report.inputs += 1;
    report.memory = report.memory.max(memory);
    report.longest = report.longest.max(took);
    let valid = read.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        format!("panicked: {text}")
    })?;
    report.valid += u64::from(valid);
    if memory > MEMORY_LIMIT + bytes.len() {
        return Err(format!("took {} MB of memory for {} bytes", memory >> 20, bytes.len()));
    }
    if took > time_limit {
        return Err(format!("took {:.1} s", took.as_secs_f64()));
    }
    Ok(())
}

fn save(target: &Target, bytes: &[u8], problem: String) -> FailingInput {
    let folder = corpus(target);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let path = folder.join(format!("{hash:016x}"));
    let saved = fs::create_dir_all(&folder).and_then(|()| fs::write(&path, bytes));
    let problem = match saved {
        Ok(()) => problem,
        Err(error) => format!("{problem} (saving the input failed: {error})"),
    };
    FailingInput { problem, path }
}
