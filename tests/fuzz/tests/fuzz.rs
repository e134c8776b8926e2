//! Damaged inputs of every kind, and that the sound ones are sound.

use std::ops::Range;
use std::time::Duration;

use upcycle_fuzz::{TARGETS, mutate, run};

/// Damaged inputs of each target; `scripts/fuzz.sh` tries more.
const INPUTS: Range<u64> = 0..10_000;

#[test]
fn every_seed_is_sound() {
    for target in TARGETS {
        for (index, seed) in (target.seeds)().iter().enumerate() {
            assert!((target.read)(seed), "{} {index}", target.name);
        }
    }
}

#[test]
fn inputs_are_the_same_on_every_run_and_differ_from_each_other() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        let input = |index| mutate::input(&seeds, index);
        assert_eq!(input(7), input(7), "{}", target.name);
        let distinct: std::collections::HashSet<_> = (0..200).map(input).collect();
        assert!(distinct.len() > 100, "{}: {}", target.name, distinct.len());
    }
}

#[test]
fn damaged_inputs_end_in_a_value_or_an_error() {
    for target in TARGETS {
        // How long one takes is for scripts/fuzz.sh to watch.
        match run::run(target, INPUTS, Duration::MAX) {
            Ok(report) => {
                println!("{}: {report:?}", target.name);
                assert!(report.sound < report.inputs, "{}: some are damaged", target.name);
            }
            Err(wrong) => panic!("{}: {wrong}", target.name),
        }
    }
}

#[test]
fn a_panic_and_too_much_memory_are_noticed_and_kept() {
    use upcycle_fuzz::Target;
    let panics = Target { name: "test-panics", seeds: || vec![vec![1]], read: |_| panic!("on purpose") };
    let hoards = Target {
        name: "test-hoards",
        seeds: || vec![vec![1]],
        read: |_| std::hint::black_box(vec![1_u8; run::MEMORY + 2]).len() == 3,
    };
    for (target, expected) in [(panics, "panicked: on purpose"), (hoards, "MB of memory for 1 bytes")] {
        let wrong = run::run(&target, 0..1, Duration::MAX).unwrap_err();
        assert!(wrong.what.contains(expected), "{wrong}");
        assert_eq!(std::fs::read(&wrong.path).unwrap(), [1]);
        std::fs::remove_dir_all(run::corpus(&target)).unwrap();
    }
}
