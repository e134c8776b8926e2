//! Bugs planted in a backend, each of which a law must find.

mod backend;

use backend::{Bug, Planted};
use upcycle_core::Support;
use upcycle_testkit::Law::{
    self, ChunksDoNotMatter, ClosedIdsAreDead, CommitEqualsPrefill, ErrorsChangeNothing,
    FailedCommitChangesNothing, ForksAreCopies, NeighboursDoNotMatter, NotFiniteIsAnError, PathsAreChains,
    TopIsTheHead, TruncateForgets,
};
use upcycle_testkit::{Broken, Cause, Subject, laws};

/// Rows of a pass and tokens of the context.
type Size = (usize, usize);

const LARGE: Size = (96, 400);
const SMALL: Size = (8, 28);

/// Each bug, the law that must find it, and whether that law finds it on a [`SMALL`] subject too.
const BUGS: [(Bug, Law, bool); 48] = [
    (Bug::PositionByIndex, PathsAreChains, true),
    (Bug::PositionsRestart, PathsAreChains, true),
    (Bug::SiblingsSeen, PathsAreChains, true),
    (Bug::MaskOf64Bits, PathsAreChains, false),
    (Bug::DeepAncestorsUnseen, PathsAreChains, false),
    (Bug::LeafUnseen, PathsAreChains, true),
    (Bug::FirstUnseenBeyond64, ChunksDoNotMatter, false),
    (Bug::WindowOf256, ChunksDoNotMatter, false),
    (Bug::CloseLeavesCache, PathsAreChains, true),
    (Bug::RowsReversed, PathsAreChains, true),
    (Bug::StaleRowsReused, ChunksDoNotMatter, true),
    (Bug::CommitLeavesPending, CommitEqualsPrefill, true),
    (Bug::EmptyCommitLeavesPending, CommitEqualsPrefill, true),
    (Bug::CommitKeepsFirstRows, CommitEqualsPrefill, true),
    (Bug::CommitKeepsNextNode, CommitEqualsPrefill, true),
    (Bug::CommitKeepsAll, CommitEqualsPrefill, true),
    (Bug::CommitLosesLast, CommitEqualsPrefill, true),
    (Bug::CommitReversesPath, CommitEqualsPrefill, true),
    (Bug::PendingNotReplaced, CommitEqualsPrefill, true),
    (Bug::TenthCommitLosesLast, ChunksDoNotMatter, true),
    (Bug::TruncateKeepsOne, TruncateForgets, true),
    (Bug::TruncateLeavesPending, TruncateForgets, true),
    (Bug::TruncateKeepsPositions, TruncateForgets, true),
    (Bug::TruncateToZeroIgnored, TruncateForgets, true),
    (Bug::InputsReversed, NeighboursDoNotMatter, true),
    (Bug::PositionsOfFirstInput, NeighboursDoNotMatter, true),
    (Bug::NeighboursSeen, NeighboursDoNotMatter, true),
    (Bug::CommitsSwapped, NeighboursDoNotMatter, true),
    (Bug::PassDropsOthers, NeighboursDoNotMatter, true),
    (Bug::RowsReadByNode, TopIsTheHead, true),
    (Bug::LastCandidatesSwapped, TopIsTheHead, true),
    (Bug::SumOfCandidates, TopIsTheHead, true),
    (Bug::StaleRowsReadable, ErrorsChangeNothing, true),
    (Bug::RefusedPassDropsPending, ErrorsChangeNothing, true),
    (Bug::RefusedCommitKeepsFirst, ErrorsChangeNothing, true),
    (Bug::ContextOneTooLong, ErrorsChangeNothing, true),
    (Bug::RowsUnlimited, ErrorsChangeNothing, true),
    (Bug::TokensWrap, ErrorsChangeNothing, true),
    (Bug::OneSequenceTooMany, ErrorsChangeNothing, true),
    (Bug::IdsReused, ClosedIdsAreDead, true),
    (Bug::NewestClosed, ClosedIdsAreDead, true),
    (Bug::NanIsLow, NotFiniteIsAnError, true),
    (Bug::RefusedCommitKeepsFirst, FailedCommitChangesNothing, true),
    (Bug::FailedCommitKeepsFirst, FailedCommitChangesNothing, true),
    (Bug::FailedCommitDropsPending, FailedCommitChangesNothing, true),
    (Bug::ForkKeepsOne, ForksAreCopies, true),
    (Bug::ForkCutsOriginal, ForksAreCopies, true),
    (Bug::ForkDropsPending, ForksAreCopies, true),
];

fn subject(bug: Bug, size: Size, support: &Support) -> Subject {
    let support = support.clone();
    let make = move || Planted::new(bug, size).with_support(support.clone());
    let (not_finite, failing) = (make.clone(), make.clone());
    Subject::new(make).not_finite(move || not_finite().poisoned()).failing_commit(move || failing().failing())
}

fn check(bug: Bug, size: Size, law: Law) -> Result<(), Broken> {
    laws::check(&subject(bug, size, &Support::Tree), law)
}

/// Whether a law found a bug, and did not merely fail to run.
fn found(result: Result<(), Broken>) -> bool {
    result.is_err_and(|broken| !matches!(broken.cause, Cause::OutOfReach { .. }))
}

#[test]
fn each_bug_breaks_its_law() {
    let missed: Vec<_> = BUGS.iter().filter(|(bug, law, _)| !found(check(*bug, LARGE, *law))).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn small_subjects_show_bugs_too() {
    let missed: Vec<_> =
        BUGS.iter().filter(|(bug, law, small)| *small && !found(check(*bug, SMALL, *law))).collect();
    assert!(missed.is_empty(), "{missed:?}");
}

#[test]
fn passes_that_are_shorter_than_the_prefix_show_what_depends_on_its_length() {
    for rows in [7, 16, 48, 64] {
        let found = check(Bug::FirstUnseenBeyond64, (rows, 128), ChunksDoNotMatter);
        assert!(found.is_err(), "{rows} rows");
        let sizes = subject(Bug::FirstUnseenBeyond64, (rows, 200), &Support::Tree).sizes(120, 6);
        assert!(laws::check(&sizes, ChunksDoNotMatter).is_err(), "{rows} rows, a set prefix");
    }
}

#[test]
fn sizes_that_do_not_fit_are_an_error() {
    for (size, prefix, nodes) in [((96, 100), 80, 12), ((8, 400), 12, 12)] {
        let subject = subject(Bug::None, size, &Support::Tree).sizes(prefix, nodes);
        let broken = laws::check(&subject, PathsAreChains).unwrap_err();
        assert!(matches!(broken.cause, Cause::OutOfReach { .. }), "{broken}");
    }
}

#[test]
fn subjects_of_any_size_obey_every_law() {
    let chain = Support::Chain { reason: "a test".into() };
    let plain = Support::Plain { reason: "a test".into() };
    for support in [Support::Tree, chain, plain] {
        for size in
            [1, 2, 3, 4, 5, 8, 11, 13].into_iter().flat_map(|r| [8, 9, 12, 17, 31, 40].map(|c| (r, c)))
        {
            for law in Law::ALL {
                let result = laws::check(&subject(Bug::None, size, &support), law);
                assert!(result.is_ok(), "{size:?}, {support:?}: {}", result.unwrap_err());
            }
        }
    }
}

#[test]
fn laws_have_the_numbers_of_their_tests() {
    let numbers: Vec<usize> = Law::ALL.iter().map(|law| law.number()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 15, 16]);
}

#[test]
fn a_wrong_commit_is_not_blamed_on_the_truncation_after_it() {
    let broken = check(Bug::CommitKeepsFirstRows, LARGE, TruncateForgets).unwrap_err();
    assert_eq!(broken.law, CommitEqualsPrefill, "{broken}");
    assert!(broken.place.contains("before a truncation"), "{broken}");
}

#[test]
fn law_3_shows_the_tree_and_the_commit_before_it() {
    let broken = check(Bug::CommitKeepsNextNode, LARGE, CommitEqualsPrefill).unwrap_err().to_string();
    for part in ["the tree with parents [", "and tokens [", "after a commit of the path [", "with tokens ["] {
        assert!(broken.contains(part), "{part}: {broken}");
    }
}

#[test]
fn law_10_shows_the_tokens() {
    let broken = check(Bug::CommitLosesLast, LARGE, Law::TextIsPlain).unwrap_err().to_string();
    let (expected, found) = broken.split_once(" as in plain decoding after the tokens [").expect(&broken);
    assert!(expected.contains("expected token ") && found.contains("found token "), "{broken}");
}
