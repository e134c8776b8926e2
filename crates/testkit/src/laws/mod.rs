//! The laws that every verifier must obey, each as a function of a [`Subject`].

mod batches;
mod errors;
mod failed_commit;
mod finite;
mod fork;
mod ids;
mod kv;
mod paths;
mod ranking;
mod text;

pub use batches::neighbours_do_not_matter;
pub use errors::errors_change_nothing;
pub use failed_commit::failed_commit_changes_nothing;
pub use finite::not_finite_is_an_error;
pub use fork::forks_are_copies;
pub use ids::closed_ids_are_dead;
pub use kv::{chunks_do_not_matter, commit_equals_prefill, truncate_forgets};
pub use paths::{paths_are_chains, siblings_are_invisible};
pub use ranking::top_is_the_head;
pub use text::{Agreement, text_is_plain, text_is_plain_with};

use crate::law::{Broken, Law};
use crate::subject::Subject;

/// Tests one law.
///
/// # Errors
/// [`Broken`] names the case, what was expected and what was found.
pub fn check(subject: &Subject, law: Law) -> Result<(), Broken> {
    match law {
        Law::PathsAreChains => paths_are_chains(subject),
        Law::SiblingsAreInvisible => siblings_are_invisible(subject),
        Law::CommitEqualsPrefill => commit_equals_prefill(subject),
        Law::TruncateForgets => truncate_forgets(subject),
        Law::ChunksDoNotMatter => chunks_do_not_matter(subject),
        Law::NeighboursDoNotMatter => neighbours_do_not_matter(subject),
        Law::TopIsTheHead => top_is_the_head(subject),
        Law::ErrorsChangeNothing => errors_change_nothing(subject),
        Law::ClosedIdsAreDead => closed_ids_are_dead(subject),
        Law::TextIsPlain => text_is_plain(subject).map(drop),
        Law::NotFiniteIsAnError => not_finite_is_an_error(subject),
        Law::FailedCommitChangesNothing => failed_commit_changes_nothing(subject),
        Law::ForksAreCopies => forks_are_copies(subject),
    }
}
