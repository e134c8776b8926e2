//! Law 16: copies of sequences.

use upcycle_core::VerifyError;

use crate::law::{Broken, Law};
use crate::probe::{Probe, shown, tokens_of};
use crate::subject::Subject;

/// Law 16: a fork gives the rows of a sequence that has read the same tokens. It changes nothing about its original, not even
/// rows that are scored and not committed, and neither notices what happens to the other afterwards. A backend that cannot fork
/// says so.
///
/// # Errors
/// [`Broken`].
pub fn forks_are_copies(subject: &Subject) -> Result<(), Broken> {
    let mut probe = Probe::new(subject, Law::ForksAreCopies)?;
    let single = probe.verifier.limits().max_seqs < 2;
    if !probe.verifier.can_fork() || single {
        let seq = probe.open()?;
        let found = probe.verifier.fork(seq, 0);
        let refused = match found {
            Err(VerifyError::CannotFork) => true,
            Err(VerifyError::TooManySequences { .. }) => single,
            _ => false,
        };
        return if refused { Ok(()) } else { Err(probe.differs("CannotFork", format!("{found:?}"))) };
    }
    for (case, prefix) in probe.prefixes() {
        for len in [prefix.len(), prefix.len() / 2, 0] {
            let (tree, next) = (probe.tree(1), probe.tree(1));
            let (path, fork_path) = (probe.any_path(&tree), probe.any_path(&next));
            let head = &prefix[..len];
            let all = [&prefix[..], &tokens_of(&tree, &path)].concat();
            let fork_all = [head, &tokens_of(&next, &fork_path)].concat();
            let forked_rows = probe.in_new_sequence(head, &next)?;
            let rows_after = probe.in_new_sequence(&all, &next)?;
            let forked_rows_after = probe.in_new_sequence(&fork_all, &tree)?;

            let seq = probe.open()?;
            probe.prefill(seq, &prefix)?;
            probe.score(seq, &tree)?;
            probe.at(format!("{case}, {} tokens, of which a fork keeps {len}", prefix.len()));
            match probe.verifier.fork(seq, prefix.len() + 1) {
                Err(VerifyError::TruncateBeyond { committed, .. }) if committed == prefix.len() => {}
                found => {
                    let expected = format!("TruncateBeyond {} tokens", prefix.len());
                    return Err(probe.differs(expected, format!("{found:?}")));
                }
            }
            let forked = probe.verifier.fork(seq, len);
            let forked = probe.must("fork", forked)?;
            probe.at(format!("{case}, {} in a fork of {len} of {} tokens", shown(&next), prefix.len()));
            let rows = probe.score(forked, &next)?;
            probe.all_same(&forked_rows, &rows)?;
            probe.commit(forked, &fork_path)?;
            probe.at(format!("{case}, {} in the original of a fork of {len} tokens", shown(&next)));
            probe.commit(seq, &path)?;
            let rows = probe.score(seq, &next)?;
            probe.all_same(&rows_after, &rows)?;
            probe.at(format!("{case}, {} in a fork of {len} tokens, later", shown(&tree)));
            probe.verifier.close(seq);
            let rows = probe.score(forked, &tree)?;
            probe.all_same(&forked_rows_after, &rows)?;
            probe.verifier.close(forked);
        }
    }
    Ok(())
}
