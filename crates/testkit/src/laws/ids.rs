//! Law 9: ids of sequences.

use std::collections::HashSet;

use upcycle_core::{Commit, NodeId, RowSelection, SeqId, TopK, TreeInput, VerifyError};

use crate::law::{Broken, Law};
use crate::probe::{Checked, Probe};
use crate::subject::Subject;

/// Law 9: a closed id is invalid and never given again, and closing it changes no other sequence.
///
/// # Errors
/// [`Broken`].
pub fn closed_ids_are_dead(subject: &Subject) -> Result<(), Broken> {
    let mut probe = Probe::new(subject, Law::ClosedIdsAreDead)?;
    let (prefix, tree) = (probe.prefix(), probe.tree(1));
    let expected = probe.in_new_sequence(&prefix, &tree)?;
    let many = probe.verifier.limits().max_seqs.min(4);
    let mut given: HashSet<SeqId> = HashSet::new();
    for round in 0..3 {
        let mut open = Vec::new();
        for _ in 0..many {
            let seq = probe.open()?;
            probe.at(format!("round {round}, {seq} just opened"));
            if !given.insert(seq) {
                return Err(probe.differs("an id that was never given", format!("{seq} again")));
            }
            open.push(seq);
        }
        let survivor = open.remove(round % many);
        probe.prefill(survivor, &prefix)?;
        for &seq in &open {
            probe.prefill(seq, &prefix[..2])?;
            probe.verifier.close(seq);
            probe.at(format!("round {round}, {seq} closed"));
            is_invalid(&mut probe, seq)?;
            // Closing it again does nothing.
            probe.verifier.close(seq);
        }
        probe.at(format!("round {round}, {survivor} after its neighbours were closed"));
        let rows = probe.score(survivor, &tree)?;
        probe.all_same(&expected, &rows)?;
        probe.verifier.close(survivor);
        is_invalid(&mut probe, survivor)?;
    }
    Ok(())
}

fn is_invalid(probe: &mut Probe<'_>, seq: SeqId) -> Checked {
    let (tree, mut top) = (probe.tree(1), TopK::new(1));
    let input = TreeInput { seq, tree: &tree, rows: RowSelection::Last };
    let forward = probe.verifier.forward(&[input], &mut top);
    let commit = probe.verifier.commit(&[Commit { seq, path: &[NodeId::ROOT] }]);
    let truncate = probe.verifier.truncate(seq, 0);
    for (what, found) in [("forward", forward), ("commit", commit), ("truncate", truncate)] {
        if !matches!(found, Err(VerifyError::UnknownSequence { seq: named }) if named == seq) {
            return Err(
                probe.differs(format!("UnknownSequence from {what} of closed {seq}"), format!("{found:?}"))
            );
        }
    }
    Ok(())
}
