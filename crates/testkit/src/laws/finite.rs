//! Law 11: NaN and infinity.

use upcycle_core::{DraftTree, RowSelection, TopK, TreeInput, VerifyError};

use crate::law::{Broken, Law};
use crate::probe::Probe;
use crate::subject::Subject;

/// Law 11: a row that is not finite is an error that names a requested row, and nothing can be committed afterwards.
/// Needs [`Subject::not_finite`].
///
/// # Errors
/// [`Broken`].
pub fn not_finite_is_an_error(subject: &Subject) -> Result<(), Broken> {
    let Some(verifier) = subject.make_not_finite() else {
        let probe = Probe::new(subject, Law::NotFiniteIsAnError)?;
        return Err(probe.out_of_reach(
            "give Subject::not_finite a verifier whose first pass has a NaN, or exempt this law",
        ));
    };
    let mut probe = Probe::with(subject, Law::NotFiniteIsAnError, verifier)?;
    probe.at("the first pass");
    let seq = probe.open()?;
    let rows = probe.verifier.limits().max_rows.min(4);
    let chain = DraftTree::chain(&probe.tokens(rows));
    let input = TreeInput { seq, tree: &chain, rows: RowSelection::All };
    match probe.verifier.forward(&[input], &mut TopK::new(1)) {
        Err(VerifyError::NotFinite { row }) if row.input == 0 && row.node < chain.len() => {}
        found => {
            return Err(
                probe.differs("NotFinite with a row that was requested", format!("{:?}", found.err()))
            );
        }
    }
    probe.nothing_to_commit(seq, "a failed pass")
}
