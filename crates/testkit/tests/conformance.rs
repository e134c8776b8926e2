//! The naive verifier obeys every law, with any trees and limits.

use upcycle_core::{Limits, Support};
use upcycle_testkit::{Failure, Fault, Faulty, NaiveVerifier, Subject, Tolerance};

fn subject(make: impl Fn() -> NaiveVerifier + Clone + 'static) -> Subject {
    let (not_finite, failing) = (make.clone(), make.clone());
    Subject::new(make)
        .not_finite(move || not_finite().failing(Failure::NotFinite, 0))
        .failing_commit(move || failing().failing(Failure::SecondCommit, 0))
}

fn chain() -> Support {
    Support::Chain { reason: "a test".into() }
}

fn plain() -> Support {
    Support::Plain { reason: "a test".into() }
}

upcycle_testkit::conformance! {
    mod trees;
    subject: || subject(|| NaiveVerifier::new(64, 1)),
    exempt: [],
}

upcycle_testkit::conformance! {
    mod chains;
    subject: || subject(|| NaiveVerifier::new(64, 2).with_support(chain())).seed(2),
    exempt: [],
}

upcycle_testkit::conformance! {
    mod plain_alone;
    subject: || subject(|| NaiveVerifier::new(64, 3).with_support(plain())).seed(3),
    exempt: [],
}

upcycle_testkit::conformance! {
    mod one_narrow_sequence;
    subject: || {
        subject(|| {
            let limits = Limits {
                vocab: 31,
                max_context: 40,
                max_rows: 16,
                max_leaves: 4,
                max_seqs: 1,
                support: Support::Tree,
            };
            NaiveVerifier::new(31, 4).with_limits(limits)
        })
        .cases(20)
    },
    exempt: [],
}

upcycle_testkit::conformance! {
    mod within_a_tolerance;
    subject: || subject(|| NaiveVerifier::new(64, 5)).tolerance(Tolerance::Within(1e-2)),
    exempt: [],
}

upcycle_testkit::conformance! {
    mod many_cases;
    subject: || subject(|| NaiveVerifier::new(97, 6)).cases(40).sizes(30, 40).output(120),
    exempt: [],
}

// The wrapper alone adds no fault.
upcycle_testkit::conformance! {
    mod wrapped;
    subject: || subject(|| NaiveVerifier::new(64, 7)).wrapped(|verifier| Faulty::new(verifier, Fault::None)),
    exempt: [],
}
