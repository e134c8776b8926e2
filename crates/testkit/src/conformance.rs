//! What the macro [`conformance!`](crate::conformance!) expands to calls of.

use crate::faulty::{Fault, Faulty};
use crate::law::{Cause, Law};
use crate::laws;
use crate::subject::Subject;

/// Tries one law as a test does: a law that is exempt has to be broken, or its exemption is out of date.
///
/// # Panics
/// If the law does not hold, or is exempt and holds.
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
        (Ok(()), Some(reason)) => panic!("{law} holds: take its exemption ({reason}) off the list"),
    }
}

/// Sees whether `fault`, put in front of the subject's verifiers, is noticed at the subject's own tolerance by the
/// law that names it, as a difference and not as a failure.
///
/// # Errors
/// What went unnoticed.
pub fn notices(subject: Subject, fault: Fault) -> Result<(), String> {
    let Some(law) = fault.law() else { return Err("there is no fault to notice".into()) };
    let tolerance = subject.tolerance;
    match laws::check(&subject.wrapped(move |verifier| Faulty::new(verifier, fault)), law) {
        Err(broken) if matches!(broken.cause, Cause::Differs { .. }) => {
            println!("{fault:?} is noticed: {broken}");
            Ok(())
        }
        Err(broken) => Err(format!("{fault:?} was not tried to the end: {broken}")),
        Ok(()) => Err(format!("{fault:?} goes unnoticed by {law} at {tolerance:?}")),
    }
}

/// Asserts that `faults` are noticed, those that need trees only where trees are supported.
///
/// # Panics
/// If one goes unnoticed.
pub fn must_notice(subject: impl Fn() -> Subject, faults: &[Fault]) {
    let support = subject().make().limits().support.clone();
    for &fault in faults {
        match support.reason().filter(|_| fault.needs_trees()) {
            Some(reason) => println!("{fault:?} needs trees, and this backend takes none: {reason}"),
            None => notices(subject(), fault).unwrap_or_else(|unnoticed| panic!("{unnoticed}")),
        }
    }
}

/// Tests a backend: one `#[test]` for each law, and two that see whether a flipped mask bit and a position off by
/// one would be noticed at the backend's own tolerance.
///
/// `exempt` lists laws that a backend does not keep, each with the reason; an exempt law that holds after all fails
/// its test, so that the list stays true.
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
            #[allow(unused_imports, reason = "the subject may name things of the module around it, or none")]
            use super::*;

            // A name that the expression is unlikely to use for a thing of its own.
            fn subject_under_test() -> $crate::Subject {
                ($subject)()
            }

            const EXEMPT: &[($crate::Law, &str)] = &[$(($law, $reason)),*];

            $crate::conformance! { @laws
                law_1_paths_are_chains: PathsAreChains,
                law_2_siblings_are_invisible: SiblingsAreInvisible,
                law_3_commit_equals_prefill: CommitEqualsPrefill,
                law_4_truncate_forgets: TruncateForgets,
                law_5_chunks_do_not_matter: ChunksDoNotMatter,
                law_6_neighbours_do_not_matter: NeighboursDoNotMatter,
                law_7_top_is_the_head: TopIsTheHead,
                law_8_errors_change_nothing: ErrorsChangeNothing,
                law_9_closed_ids_are_dead: ClosedIdsAreDead,
                law_10_text_is_plain: TextIsPlain,
                law_11_not_finite_is_an_error: NotFiniteIsAnError,
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
