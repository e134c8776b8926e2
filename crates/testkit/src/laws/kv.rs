//! Laws 3, 4 and 5: the cache after commits, truncations and prefills.

use upcycle_core::{TreeKind, VerifyError};

use crate::law::{Broken, Law};
use crate::probe::{Probe, shown, tokens_of};
use crate::subject::Subject;

/// Law 3: committing a path and continuing equals a prefill of all tokens. An empty path keeps nothing. A commit leaves nothing
/// to commit, and a pass replaces the rows of the one before.
///
/// # Errors
/// [`Broken`].
pub fn commit_equals_prefill(subject: &Subject) -> Result<(), Broken> {
    let mut probe = Probe::new(subject, Law::CommitEqualsPrefill)?;
    for (case, prefix) in probe.prefixes() {
        // The path to the last node of the second tree, so that kept rows move across dropped ones.
        let trees = [probe.tree(1), probe.tree(1), probe.tree(1)];
        let paths = [probe.any_path(&trees[0]), probe.paths(&trees[1]).pop().unwrap_or_default(), Vec::new()];
        let replaced = probe.tree(1);
        let mut expected = Vec::new();
        let mut all = prefix.clone();
        for (tree, path) in trees.iter().zip(&paths) {
            expected.push(probe.in_new_sequence(&all, tree)?);
            all.extend(tokens_of(tree, path));
        }
        let seq = probe.open()?;
        probe.prefill(seq, &prefix)?;
        let mut before = format!("{} tokens of prefill", prefix.len());
        for (round, (tree, path)) in trees.iter().zip(&paths).enumerate() {
            if round == 1 {
                probe.at(format!("{case}, a pass that the next one replaces, after {before}"));
                probe.score(seq, &replaced)?;
            }
            probe.at(format!("{case}, {} after {before}", shown(tree)));
            let rows = probe.score(seq, tree)?;
            probe.all_same(&expected[round], &rows)?;
            before = format!(
                "a commit of the path {path:?} with tokens {:?} of {}",
                tokens_of(tree, path),
                shown(tree)
            );
            probe.at(format!("{case}, {before}"));
            probe.commit(seq, path)?;
            probe.nothing_to_commit(seq, &before)?;
        }
        probe.at(format!("{case}, {} once more after an empty commit", shown(&trees[2])));
        let rows = probe.score(seq, &trees[2])?;
        probe.all_same(&expected[2], &rows)?;
        probe.verifier.close(seq);
    }
    Ok(())
}

/// Law 4: truncated tokens leave no trace, whether they were committed or only scored.
///
/// # Errors
/// [`Broken`]; as [`Law::CommitEqualsPrefill`] if the rows are wrong before the truncation.
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
        probe.at(format!("case {case}, {} after {} tokens of prefill", shown(&next), all.len()));
        let untruncated = probe.in_new_sequence(&all, &next)?;
        for len in lens {
            probe.at(format!("case {case}, {} after {len} tokens of prefill", shown(&next)));
            let expected = probe.in_new_sequence(&all[..len], &next)?;
            let seq = probe.open()?;
            probe.prefill(seq, &prefix)?;
            probe.score(seq, &tree)?;
            probe.commit(seq, &path)?;
            probe.at(format!(
                "case {case}, a commit of the path {path:?} of {}, before a truncation",
                shown(&tree)
            ));
            // Truncation also drops rows that are scored and not committed.
            let rows = probe.score(seq, &next)?;
            let same = probe.all_same(&untruncated, &rows);
            same.map_err(|broken| probe.broken_below(Law::CommitEqualsPrefill, broken))?;
            probe.at(format!("case {case}, {} tokens truncated to {len}", all.len()));
            let truncated = probe.verifier.truncate(seq, len);
            probe.must("truncate", truncated)?;
            probe.nothing_to_commit(seq, "a truncation")?;
            match probe.verifier.truncate(seq, len + 1) {
                Err(VerifyError::TruncateBeyond { committed, .. }) if committed == len => {}
                found => {
                    return Err(probe.differs(format!("TruncateBeyond {len} tokens"), format!("{found:?}")));
                }
            }
            let rows = probe.score(seq, &next)?;
            probe.all_same(&expected, &rows)?;
            probe.verifier.close(seq);
        }
    }
    Ok(())
}

/// Law 5: a prompt gives the same rows and the same cache in passes as large as possible, token by token and in any chunks.
///
/// # Errors
/// [`Broken`].
pub fn chunks_do_not_matter(subject: &Subject) -> Result<(), Broken> {
    let mut probe = Probe::new(subject, Law::ChunksDoNotMatter)?;
    let most = probe.verifier.limits().max_rows;
    let prefixes = probe.prefixes();
    for (index, (case, prompt)) in prefixes.into_iter().enumerate() {
        let next = probe.tree(1);
        probe.at(format!("{case}, a prompt in passes as large as possible"));
        let (seq, expected) = probe.read_prompt(&prompt, [])?;
        probe.verifier.close(seq);
        let expected_next = probe.in_new_sequence(&prompt, &next)?;
        let half = most.min(prompt.len()) / 2;
        let random: Vec<usize> = (0..prompt.len()).map(|_| 1 + probe.rng.below(prompt.len() / 3)).collect();
        let mut ways = vec![vec![half], random];
        // A token at a time where that is cheap.
        let small = if index < subject.cases { 1 } else { 7 };
        ways.push(vec![small; prompt.len()]);
        for chunks in ways {
            probe.at(format!("{case}, a prompt of {} tokens in chunks of {chunks:?}", prompt.len()));
            let (seq, rows) = probe.read_prompt(&prompt, chunks.iter().copied())?;
            probe.all_same(&expected, &rows)?;
            probe.at(format!("{case}, {} after a prompt in chunks of {chunks:?}", shown(&next)));
            let rows = probe.score(seq, &next)?;
            probe.all_same(&expected_next, &rows)?;
            probe.verifier.close(seq);
        }
    }
    Ok(())
}
