//! Passes timed on the naive verifier.

use upcycle_core::cost::TimingPlan;
use upcycle_core::{CostCurve, CostError, Support, SystemClock, Verifier};
use upcycle_testkit::NaiveVerifier;

#[test]
fn every_size_that_fits_is_timed_and_the_sequence_closed() {
    let mut verifier = NaiveVerifier::new(40, 1).with_max_seqs(1);
    let timing = TimingPlan { contexts: &[8, 20, 4, 5000], rows: &[1, 3, 9, 600], repetitions: 2 };
    for _ in 0..3 {
        let timed = timing.run(&mut verifier, &SystemClock::default(), &mut || false).unwrap();
        let contexts: Vec<usize> = timed.iter().map(|timed| timed.context).collect();
        assert_eq!(contexts, [8, 20, 4, 1024 - 9], "the last is cut to what leaves room");
        for timed in &timed {
            assert_eq!(timed.rows, [1, 3, 9], "600 rows are beyond the limit");
            assert!(timed.seconds.iter().all(|&seconds| seconds > 0.0));
        }
        assert!(CostCurve::from_timings("key".into(), &timed).unwrap().seconds(1, 8) > 0.0);
    }
    verifier.open().unwrap();
}

#[test]
fn a_backend_that_takes_no_trees_is_timed_on_chains() {
    let chain = Support::Chain { reason: "an example".into() };
    let mut verifier = NaiveVerifier::new(40, 1).with_support(chain);
    let timing = TimingPlan { contexts: &[4], rows: &[1, 8], repetitions: 1 };
    assert_eq!(timing.run(&mut verifier, &SystemClock::default(), &mut || false).unwrap()[0].rows, [1, 8]);
}

#[test]
fn what_was_timed_before_a_stop_is_kept() {
    let mut verifier = NaiveVerifier::new(40, 1);
    let timing = TimingPlan { contexts: &[4], rows: &[1, 2, 4], repetitions: 5 };
    for (passes, rows) in [(0_usize, &[][..]), (2, &[1, 2]), (5, &[1, 2, 4])] {
        let mut left = passes;
        let mut stop = || {
            left = left.wrapping_sub(1);
            left == usize::MAX
        };
        let timed = timing.run(&mut verifier, &SystemClock::default(), &mut stop).unwrap();
        assert_eq!(timed[0].rows, rows);
        assert_eq!(
            CostCurve::from_timings(String::new(), &timed).err(),
            rows.is_empty().then_some(CostError::Empty)
        );
    }
}
