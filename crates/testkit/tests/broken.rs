//! Tests of the laws themselves: broken verifiers break the laws that their fault concerns, and no others.

use std::collections::BTreeSet;

use upcycle_testkit::Law::{
    self, ChunksDoNotMatter, ClosedIdsAreDead, CommitEqualsPrefill, ErrorsChangeNothing,
    FailedCommitChangesNothing, NeighboursDoNotMatter, NotFiniteIsAnError, PathsAreChains,
    SiblingsAreInvisible, TextIsPlain, TopIsTheHead, TruncateForgets,
};
use upcycle_testkit::{
    Attention, Cause, Failure, Fault, Faulty, NaiveVerifier, Subject, broken, laws, try_law,
};

fn model() -> NaiveVerifier {
    NaiveVerifier::new(64, 1)
}

fn subject(attention: Attention) -> Subject {
    Subject::new(move || model().with_attention(attention))
        .not_finite(|| model().failing(Failure::NotFinite, 0))
        .cases(8)
}

fn broken_laws(subject: impl Fn() -> Subject) -> BTreeSet<Law> {
    Law::ALL.into_iter().filter(|&law| laws::check(&subject(), law).is_err()).collect()
}

#[test]
fn each_fault_from_outside_breaks_its_own_laws() {
    let shown = [PathsAreChains, SiblingsAreInvisible, CommitEqualsPrefill, TruncateForgets];
    let one_row = [&shown[..], &[NeighboursDoNotMatter, FailedCommitChangesNothing]].concat();
    for fault in Fault::ALL {
        let expected = match fault {
            Fault::AncestorSwapped | Fault::SiblingSeen | Fault::AncestorUnseen => one_row.clone(),
            Fault::MaskIgnored => [&one_row[..], &[ErrorsChangeNothing, TextIsPlain]].concat(),
            Fault::PositionOffByOne => vec![
                PathsAreChains,
                CommitEqualsPrefill,
                TruncateForgets,
                ChunksDoNotMatter,
                NeighboursDoNotMatter,
                ErrorsChangeNothing,
                TextIsPlain,
                FailedCommitChangesNothing,
            ],
            Fault::WrongPathCommitted => vec![
                CommitEqualsPrefill,
                TruncateForgets,
                NeighboursDoNotMatter,
                ErrorsChangeNothing,
                TextIsPlain,
                FailedCommitChangesNothing,
            ],
            Fault::TruncationKeepsOne => vec![TruncateForgets],
            Fault::RowsMixedUp => vec![NeighboursDoNotMatter, TextIsPlain],
            Fault::IdsReused => vec![ClosedIdsAreDead],
            Fault::TopUnsorted => vec![TopIsTheHead, TextIsPlain],
            // Laws 3, 4, 9 and 15 cause an error themselves.
            Fault::ErrorForgets => vec![
                CommitEqualsPrefill,
                TruncateForgets,
                ErrorsChangeNothing,
                ClosedIdsAreDead,
                FailedCommitChangesNothing,
            ],
            Fault::None => Vec::new(),
        };
        let mut found = broken_laws(|| {
            subject(upcycle_testkit::ancestors).wrapped(move |verifier| Faulty::new(verifier, fault))
        });
        if expected == one_row {
            // A text shows one wrong row only if a token is sampled from it.
            found.remove(&TextIsPlain);
        }
        assert_eq!(found, BTreeSet::from_iter(expected), "{fault:?}");
        assert!(fault.law().is_some_and(|law| found.contains(&law)), "{fault:?}");
    }
}

#[test]
fn each_fault_from_inside_breaks_its_own_laws() {
    let faults: [(&str, Attention, &[Law]); 4] = [
        ("mask ignored", broken::mask_ignored, &[PathsAreChains, SiblingsAreInvisible, TextIsPlain]),
        ("one bit set", broken::one_bit_set, &[PathsAreChains, SiblingsAreInvisible]),
        ("one bit cleared", broken::one_bit_cleared, &[PathsAreChains]),
        ("position", broken::position_off_by_one, &[PathsAreChains, ChunksDoNotMatter, TextIsPlain]),
    ];
    for (name, attention, expected) in faults {
        let mut found = broken_laws(|| subject(attention));
        if name.starts_with("one bit") {
            // As above.
            found.remove(&TextIsPlain);
        }
        assert_eq!(found, expected.iter().copied().collect(), "{name}");
    }
}

#[test]
fn laws_that_cannot_be_tested_are_not_skipped() {
    let out_of_reach = |subject: Subject, law| match laws::check(&subject, law) {
        Err(broken) => matches!(broken.cause, Cause::OutOfReach { .. }),
        Ok(()) => false,
    };
    assert!(out_of_reach(Subject::new(model), NotFiniteIsAnError));
    assert!(out_of_reach(Subject::new(|| model().with_max_context(1 << 20)), ErrorsChangeNothing));
    assert!(out_of_reach(Subject::new(|| model().with_max_context(7)), PathsAreChains));
    assert!(out_of_reach(Subject::new(model).tokens([1, 2]), PathsAreChains));
}

#[test]
fn a_missing_error_breaks_law_11() {
    let subject = Subject::new(model).not_finite(model);
    let broken = laws::check(&subject, NotFiniteIsAnError).unwrap_err();
    assert!(matches!(broken.cause, Cause::Differs { .. }), "{broken}");
}

#[test]
fn an_exemption_excuses_a_broken_law() {
    try_law(&subject(broken::mask_ignored), PathsAreChains, &[(PathsAreChains, "its mask is ignored")]);
}

#[test]
#[should_panic(expected = "remove its exemption (it was once broken)")]
fn an_exemption_of_a_law_that_holds_is_refused() {
    try_law(&subject(upcycle_testkit::ancestors), TopIsTheHead, &[(TopIsTheHead, "it was once broken")]);
}
