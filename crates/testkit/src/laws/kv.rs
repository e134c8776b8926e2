//! Laws 3, 4 and 5: the cache after commits, truncations and prefills.

use upcycle_core::{Commit, DraftTree, TreeKind, VerifyError};

use crate::law::{Broken, Law};
use crate::probe::{Probe, tokens_of, whole};
use crate::subject::Subject;

/// Law 3: committing a path and continuing equals a prefill of all tokens. An empty path keeps nothing.
///
/// # Errors
/// [`Broken`].
pub fn commit_equals_prefill(subject: &Subject) -> Result<(), Broken> {
    let mut probe = Probe::new(subject, Law::CommitEqualsPrefill)?;
    for case in 0..subject.cases {
        let prefix = probe.prefix();
        // The path to the last node of the second tree, so that kept rows move across dropped ones.
        let trees = [probe.tree(1), probe.tree(1), probe.tree(1)];
        let paths = [probe.any_path(&trees[0]), probe.paths(&trees[1]).pop().unwrap_or_default(), Vec::new()];
        let mut expected = Vec::new();
        let mut all = prefix.clone();
        for (tree, path) in trees.iter().zip(&paths) {
            expected.push(probe.in_new_sequence(&all, tree)?);
            all.extend(tokens_of(tree, path));
        }
        let seq = probe.open()?;
        probe.prefill(seq, &prefix)?;
        for (round, (tree, path)) in trees.iter().zip(&paths).enumerate() {
            probe.at(format!("case {case}, the tree after {round} commits, with {path:?} to follow"));
            let rows = probe.score(seq, tree)?;
            probe.all_same(&expected[round], &rows)?;
            probe.commit(seq, path)?;
        }
        probe.at(format!("case {case}, the last tree again after an empty commit"));
        let rows = probe.score(seq, &trees[2])?;
        probe.all_same(&expected[2], &rows)?;
        probe.verifier.close(seq);
    }
    Ok(())
}

/// Law 4: truncated tokens leave no trace, whether they were committed or only scored.
///
/// # Errors
/// [`Broken`].
pub fn truncate_forgets(subject: &Subject) -> Result<(), Broken> {
    let mut probe = Probe::new(subject, Law::TruncateForgets)?;
    let plain = probe.verifier.limits().support.kind() == TreeKind::Plain;
    for case in 0..subject.cases {
        let (prefix, tree, next) = (probe.prefix(), probe.tree(1), probe.tree(1));
        let path = probe.paths(&tree).pop().unwrap_or_default();
        let all = [&prefix[..], &tokens_of(&tree, &path)].concat();
        let mut lens = vec![all.len(), all.len() - 1, prefix.len(), prefix.len() / 2, 1, 0];
        if plain {
            // A backend that cannot roll back in part keeps all tokens or none.
            lens = vec![all.len(), 0];
        }
        for len in lens {
            probe.at(format!("case {case}, {} tokens truncated to {len}", all.len()));
            let expected = probe.in_new_sequence(&all[..len], &next)?;
            let seq = probe.open()?;
            probe.prefill(seq, &prefix)?;
            probe.score(seq, &tree)?;
            probe.commit(seq, &path)?;
            // Truncation also drops rows that are scored and not committed.
            probe.score(seq, &next)?;
            let truncated = probe.verifier.truncate(seq, len);
            probe.must("truncate", truncated)?;
            let kept = probe.verifier.commit(&[Commit { seq, path: &whole(&next)[..1] }]);
            if !matches!(kept, Err(VerifyError::NothingToCommit { .. })) {
                return Err(
                    probe.differs("NothingToCommit for rows scored before a truncation", format!("{kept:?}"))
                );
            }
            let rows = probe.score(seq, &next)?;
            probe.all_same(&expected, &rows)?;
            probe.verifier.close(seq);
        }
    }
    Ok(())
}

/// Law 5: a prompt gives the same rows and the same cache in one pass, token by token and in any chunks.
///
/// # Errors
/// [`Broken`].
pub fn chunks_do_not_matter(subject: &Subject) -> Result<(), Broken> {
    let mut probe = Probe::new(subject, Law::ChunksDoNotMatter)?;
    for case in 0..subject.cases {
        let (mut prompt, next) = (probe.prefix(), probe.tree(1));
        let more = probe.prefix();
        prompt.extend(more);
        prompt.truncate(probe.verifier.limits().max_rows);
        let expected = probe.in_new_sequence(&[], &DraftTree::chain(&prompt))?;
        let expected_next = probe.in_new_sequence(&prompt, &next)?;
        let mut random = vec![0, prompt.len()];
        random.extend((0..4).map(|_| probe.rng.below(prompt.len())));
        random.sort_unstable();
        random.dedup();
        let single: Vec<usize> = (0..=prompt.len()).collect();
        for cuts in [vec![0, prompt.len() / 2, prompt.len()], single, random] {
            probe.at(format!("case {case}, a prompt cut at {cuts:?}"));
            let seq = probe.open()?;
            for cut in cuts.windows(2) {
                let chunk = DraftTree::chain(&prompt[cut[0]..cut[1]]);
                let rows = probe.score(seq, &chunk)?;
                probe.all_same(&expected[cut[0]..cut[1]], &rows)?;
                probe.commit(seq, &whole(&chunk))?;
            }
            let rows = probe.score(seq, &next)?;
            probe.at(format!("case {case}, the tree after a prompt cut at {cuts:?}"));
            probe.all_same(&expected_next, &rows)?;
            probe.verifier.close(seq);
        }
    }
    Ok(())
}
