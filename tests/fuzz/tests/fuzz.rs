//! Mutated inputs of every target, and checks of the seeds.

use std::ops::Range;
use std::time::Duration;

use upcycle_fuzz::{TARGETS, mutate, run};

/// The inputs of each target; `scripts/fuzz.sh` tries more.
const INPUTS: Range<u64> = 0..10_000;

#[test]
fn every_seed_is_valid() {
    for target in TARGETS {
        for (index, seed) in (target.seeds)().iter().enumerate() {
            assert!((target.read)(seed), "{} {index}", target.name);
        }
    }
}

#[test]
fn inputs_are_reproducible_and_distinct() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        let input = |index| mutate::input(&seeds, index);
        assert_eq!(input(7), input(7), "{}", target.name);
        let distinct: std::collections::HashSet<_> = (0..200).map(input).collect();
        assert!(distinct.len() > 100, "{}: {}", target.name, distinct.len());
    }
}

#[test]
fn mutated_inputs_end_in_a_value_or_an_error() {
    for target in TARGETS {
        // Only scripts/fuzz.sh limits the time.
        match run::run(target, INPUTS, Duration::MAX) {
            Ok(report) => {
                println!("{}: {report:?}", target.name);
                assert!(report.valid < report.inputs, "{}: some are invalid", target.name);
            }
            Err(failing) => panic!("{}: {failing}", target.name),
        }
    }
}

#[test]
fn panics_and_excessive_memory_are_detected_and_saved() {
    use upcycle_fuzz::Target;
    let panics = Target { name: "test-panics", seeds: || vec![vec![1]], read: |_| panic!("on purpose") };
    let hoards = Target {
        name: "test-hoards",
        seeds: || vec![vec![1]],
        read: |_| std::hint::black_box(vec![1_u8; run::MEMORY_LIMIT + 2]).len() == 3,
    };
    for (target, expected) in [(panics, "panicked: on purpose"), (hoards, "MB of memory for 1 bytes")] {
        let failing = run::run(&target, 0..1, Duration::MAX).unwrap_err();
        assert!(failing.problem.contains(expected), "{failing}");
        assert_eq!(std::fs::read(&failing.path).unwrap(), [1]);
        std::fs::remove_dir_all(run::corpus(&target)).unwrap();
    }
}
