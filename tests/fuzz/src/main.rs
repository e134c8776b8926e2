//! `upcycle-fuzz N [FROM] [TARGET…]` tries N inputs of each target, starting with input FROM. `upcycle-fuzz --seeds DIR` writes the seeds of
//! each target as files, for another fuzzer.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use upcycle_fuzz::{TARGETS, run};

/// The longest time for one input, in seconds.
const TIME_LIMIT: u64 = 5;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, folder] = &words[..]
        && word == "--seeds"
    {
        return match write_seeds(Path::new(folder)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{folder}: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let numbers: Vec<u64> = words.iter().map_while(|word| word.parse().ok()).take(2).collect();
    let names = &words[numbers.len()..];
    let unknown = names.iter().find(|name| TARGETS.iter().all(|target| target.name != name.as_str()));
    let (Some(&count), None) = (numbers.first(), unknown) else {
        let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        eprintln!("usage: upcycle-fuzz N [FROM] [TARGET...], or --seeds DIR; targets: {}", known.join(", "));
        return ExitCode::from(2);
    };
    let from = numbers.get(1).copied().unwrap_or(0);
    // Panics are reported at the end.
    std::panic::set_hook(Box::new(|_| ()));
    let mut failed = false;
    for target in
        TARGETS.iter().filter(|target| names.is_empty() || names.iter().any(|name| name == target.name))
    {
        match run::run(target, from..from + count, Duration::from_secs(TIME_LIMIT)) {
            Ok(run::Report { inputs, valid, memory, longest }) => {
                let (memory, longest) = (memory as f64 / 1e6, longest.as_secs_f64() * 1e3);
                println!(
                    "{:<18} {inputs} inputs, {valid} of them valid, at most {memory:.1} MB and {longest:.0} ms",
                    target.name
                );
            }
            Err(error) => {
                failed = true;
                println!("{:<18} {error}", target.name);
            }
        }
    }
    ExitCode::from(u8::from(failed))
}

fn write_seeds(folder: &Path) -> std::io::Result<()> {
    for target in TARGETS {
        let folder = folder.join(target.name);
        std::fs::create_dir_all(&folder)?;
        for (index, seed) in (target.seeds)().into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{index}")), seed)?;
        }
    }
    Ok(())
}
