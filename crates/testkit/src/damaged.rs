//! Runs of many damaged files in child processes, for backends over a library that may end its process.

use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::process::{Command, ExitCode, Stdio};

/// Makes the test program a child that uses a range of files.
const BATCH: &str = "--batch";

/// Of fewer files, none or all may be usable by chance.
const FEW: u64 = 20;

/// The whole `main` of a test without a harness: uses files of ascending numbers in child processes, which are this program. One
/// that ends early names its file, and the next one goes on after it. `use_files` gets a range of numbers and a function that it
/// calls before each file with its number, and after it with whether the file was usable.
///
/// `UPCYCLE_DAMAGED_FILES` sets how many files there are, instead of `files`, and `UPCYCLE_DAMAGED_FROM` the first.
///
/// # Panics
/// If no file, or every file, was usable: then the damage tests nothing. If a child cannot be started.
pub fn use_in_children(files: u64, use_files: impl FnOnce(Range<u64>, &mut dyn FnMut(Progress))) -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, batch, from, to] = arguments.as_slice()
        && batch == BATCH
    {
        let number = |text: &String| text.parse::<u64>().expect("a number");
        use_files(number(from)..number(to), &mut |progress| match progress {
            Progress::File(number) => println!("file {number}"),
            Progress::Usable => println!("usable"),
        });
        return ExitCode::SUCCESS;
    }
    let variable = |name: &str| std::env::var(name).ok()?.parse().ok();
    let from = variable("UPCYCLE_DAMAGED_FROM").unwrap_or(0);
    let to = from + variable("UPCYCLE_DAMAGED_FILES").unwrap_or(files);
    let program = std::env::current_exe().expect("the path of this program");
    let (mut next, mut ended, mut usable) = (from, 0, 0);
    while next < to {
        let mut child = Command::new(&program)
            .args([BATCH, &next.to_string(), &to.to_string()])
            // Otherwise ggml starts a debugger to print a backtrace.
            .env("GGML_NO_BACKTRACE", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        let mut file = next;
        for line in BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok) {
            match line.strip_prefix("file ") {
                Some(number) => file = number.parse().expect("a number"),
                None => usable += u64::from(line == "usable"),
            }
        }
        let status = child.wait().expect("it was started");
        if status.success() {
            break;
        }
        println!("file {file}: {status}");
        ended += 1;
        next = file + 1;
    }
    println!("{} files, {usable} of them usable, {ended} ended the process", to - from);
    assert!(to - from < FEW || usable > 0 && usable < to - from, "some damage matters, some does not");
    if ended == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a child reports.
#[derive(Clone, Copy, Debug)]
pub enum Progress {
    /// It will use the file of this number.
    File(u64),
    /// The last file could be loaded and used.
    Usable,
}
