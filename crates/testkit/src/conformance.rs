//! The macro [`conformance!`](crate::conformance!) and the functions that it calls.

use crate::faulty::{Fault, Faulty};
use crate::law::{Cause, Law};
use crate::laws;
use crate::subject::Subject;

/// Tests one law. An exempt law must be broken, or its exemption is out of date.
///
/// # Panics
/// If a law without exemption is broken, or an exempt law holds.
pub fn try_law(subject: &Subject, law: Law, exempt: &[(Law, &str)]) {
    let reason = exempt.iter().find(|(other, _)| *other == law).map(|(_, reason)| reason);
    let found = match law {
        Law::TextIsPlain => laws::text_is_plain(subject).map(|agreement| println!("{law}: {agreement:?}")),
        _ => laws::check(subject, law),
    };
    match (found, reason) {
        (Ok(()), None) => {}
        (Err(broken), None) => panic!("{broken}"),
        (Err(broken), Some(reason)) => println!("exempt ({reason}): {broken}"),
        (Ok(()), Some(reason)) => panic!("{law} holds: remove its exemption ({reason})"),
    }
}

/// Checks that the law of `fault` detects it in the subject's verifiers at the subject's own tolerance, as a difference and
/// not as a failed call.
///
/// # Errors
/// A description of the fault that was not detected.
pub fn notices(subject: Subject, fault: Fault) -> Result<(), String> {
    let Some(law) = fault.law() else { return Err("Fault::None cannot be detected".into()) };
    let tolerance = subject.tolerance;
    match laws::check(&subject.wrapped(move |verifier| Faulty::new(verifier, fault)), law) {
        Err(broken) if broken.law == law && matches!(broken.cause, Cause::Differs { .. }) => {
            println!("{fault:?} is detected: {broken}");
            Ok(())
        }
        Err(broken) => Err(format!("the test of {fault:?} did not run to its end: {broken}")),
        Ok(()) => Err(format!("{law} does not detect {fault:?} at {tolerance:?}")),
    }
}

/// Asserts that `faults` are detected. Faults that need trees are skipped if the backend does not support trees, or none large
/// enough.
///
/// # Panics
/// If one is not detected.
pub fn must_notice(subject: impl Fn() -> Subject, faults: &[Fault]) {
    let limits = subject().make().limits().clone();
    for &fault in faults {
        let (rows, leaves) = fault.smallest_tree();
        if let Some(reason) = limits.support.reason().filter(|_| leaves > 1) {
            println!("skipped: {fault:?} needs trees, which this backend does not support: {reason}");
        } else if limits.max_rows < rows || limits.max_leaves < leaves || limits.max_context / 4 < rows {
            println!(
                "skipped: {fault:?} needs a pass of {rows} rows and {leaves} leaves, and a context of {}",
                4 * rows
            );
        } else {
            notices(subject(), fault).unwrap_or_else(|undetected| panic!("{undetected}"));
        }
    }
}

/// Tests a backend: one `#[test]` for each law, and two that check that a flipped mask bit and a position off by one would be
/// detected at the backend's own tolerance.
///
/// `exempt` lists the laws that the backend does not obey, each with the reason. An exempt law that holds fails its test, so
/// the list stays correct.
///
/// ```
/// use upcycle_testkit::{NaiveVerifier, Subject, Failure};
///
/// upcycle_testkit::conformance! {
///     mod naive;
///     subject: || Subject::new(|| NaiveVerifier::new(64, 1))
///         .not_finite(|| NaiveVerifier::new(64, 1).failing(Failure::NotFinite, 0)),
///     exempt: [],
/// }
/// ```
#[macro_export]
macro_rules! conformance {
    (
        mod $name:ident;
        subject: $subject:expr,
        exempt: [$(($law:expr, $reason:expr)),* $(,)?] $(,)?
    ) => {
        #[cfg(test)]
        mod $name {
            #[allow(unused_imports, reason = "the subject may use items of the surrounding module")]
            use super::*;

            // A name that the expression is unlikely to use itself.
            fn subject_under_test() -> $crate::Subject {
                ($subject)()
            }

            const EXEMPT: &[($crate::Law, &str)] = &[$(($law, $reason)),*];

            $crate::conformance! { @laws
                law_01_paths_are_chains: PathsAreChains,
                law_02_siblings_are_invisible: SiblingsAreInvisible,
                law_03_commit_equals_prefill: CommitEqualsPrefill,
                law_04_truncate_forgets: TruncateForgets,
                law_05_chunks_do_not_matter: ChunksDoNotMatter,
                law_06_neighbours_do_not_matter: NeighboursDoNotMatter,
                law_07_top_is_the_head: TopIsTheHead,
                law_08_errors_change_nothing: ErrorsChangeNothing,
                law_09_closed_ids_are_dead: ClosedIdsAreDead,
                law_10_text_is_plain: TextIsPlain,
                law_11_not_finite_is_an_error: NotFiniteIsAnError,
                law_15_failed_commit_changes_nothing: FailedCommitChangesNothing,
                law_16_forks_are_copies: ForksAreCopies,
            }

            #[test]
            fn a_flipped_mask_bit_is_noticed() {
                use $crate::Fault::{AncestorSwapped, AncestorUnseen, SiblingSeen};
                $crate::must_notice(subject_under_test, &[AncestorSwapped, SiblingSeen, AncestorUnseen]);
            }

            #[test]
            fn a_position_off_by_one_is_noticed() {
                $crate::must_notice(subject_under_test, &[$crate::Fault::PositionOffByOne]);
            }
        }
    };
    (@laws $($test:ident: $law:ident,)*) => {
        $(
            #[test]
            fn $test() {
                $crate::try_law(&subject_under_test(), $crate::Law::$law, EXEMPT);
            }
        )*
    };
}
