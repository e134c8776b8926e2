//! Law 15: a commit that fails at its second sequence.

use upcycle_core::{Commit, DraftTree, NodeId, SeqId, TokenId, VerifyError};

use crate::law::{Broken, Law};
use crate::probe::{Checked, Probe, Scored, tokens_of};
use crate::subject::Subject;

/// A sequence with scored rows, and what must follow whether or not they are committed.
struct Member {
    prefix: Vec<TokenId>,
    tree: DraftTree,
    path: Vec<NodeId>,
    next: DraftTree,
    rows: Vec<Scored>,
    rows_after: Vec<Scored>,
}

/// What is called after the failed commit. Each must give what it would have given before it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// The same commit again.
    CommitBoth,
    /// A commit of the first sequence, and then of the second.
    CommitEach,
    /// A pass over each, which replaces the scored rows.
    ScoreAgain,
    /// A commit that keeps nothing, of both.
    CommitNothing,
}

/// Law 15: a commit of two sequences that fails at the second leaves both as they were: the rows that were scored can still be
/// committed, and no token is committed. Tested with a path that is refused, and, given [`Subject::failing_commit`], with an
/// engine that fails. A backend with a single sequence always obeys it.
///
/// # Errors
/// [`Broken`].
pub fn failed_commit_changes_nothing(subject: &Subject) -> Result<(), Broken> {
    for then in [Then::CommitBoth, Then::CommitEach, Then::ScoreAgain, Then::CommitNothing] {
        let mut probe = Probe::new(subject, Law::FailedCommitChangesNothing)?;
        if probe.verifier.limits().max_seqs < 2 {
            return Ok(());
        }
        for case in 0..subject.cases {
            probe.at(format!("case {case}, a commit whose second path is refused, then {then:?}"));
            after_a_failure(&mut probe, then, true)?;
        }
        let Some(verifier) = subject.make_failing_commit() else {
            println!("no engine fails at a commit: Subject::failing_commit is not set");
            continue;
        };
        let mut probe = Probe::with(subject, Law::FailedCommitChangesNothing, verifier)?;
        probe.at(format!("a commit whose engine fails at the second sequence, then {then:?}"));
        after_a_failure(&mut probe, then, false)?;
    }
    Ok(())
}

/// Commits two sequences, which fails at the second, and calls `then`.
fn after_a_failure(probe: &mut Probe<'_>, then: Then, refused: bool) -> Checked {
    let mut members = Vec::new();
    for _ in 0..2 {
        let (prefix, tree, next) = (probe.prefix(), probe.tree(1), probe.tree(1));
        let path = probe.paths(&tree).pop().unwrap_or_default();
        let rows = probe.in_new_sequence(&prefix, &tree)?;
        let all = [&prefix[..], &tokens_of(&tree, &path)].concat();
        let rows_after = probe.in_new_sequence(&all, &next)?;
        members.push(Member { prefix, tree, path, next, rows, rows_after });
    }
    let mut open: Vec<(SeqId, &Member)> = Vec::new();
    for member in &members {
        let seq = probe.open()?;
        probe.prefill(seq, &member.prefix)?;
        probe.score(seq, &member.tree)?;
        open.push((seq, member));
    }
    let both: Vec<Commit<'_>> =
        open.iter().map(|&(seq, member)| Commit { seq, path: &member.path }).collect();
    if refused {
        let outside = [NodeId::new(members[1].tree.len())];
        let result = probe.verifier.commit(&[both[0], Commit { path: &outside, ..both[1] }]);
        if !matches!(result, Err(VerifyError::NotAPath { .. })) {
            return Err(probe.differs("NotAPath", format!("{result:?}")));
        }
    } else {
        let result = probe.verifier.commit(&both);
        if !matches!(result, Err(VerifyError::Backend { .. })) {
            let found = format!("{result:?}");
            return Err(probe.out_of_reach(format!(
                "Subject::failing_commit must fail at the first commit of two sequences, but it gave {found}"
            )));
        }
    }
    match then {
        Then::CommitBoth => {
            let again = probe.verifier.commit(&both);
            probe.must("the same commit again", again)?;
        }
        Then::CommitEach => both.iter().try_for_each(|commit| probe.commit(commit.seq, commit.path))?,
        Then::CommitNothing => {
            let nothing = both.iter().map(|commit| Commit { path: &[], ..*commit }).collect::<Vec<_>>();
            let committed = probe.verifier.commit(&nothing);
            probe.must("a commit of nothing", committed)?;
        }
        Then::ScoreAgain => {}
    }
    for (seq, member) in open {
        let kept = matches!(then, Then::CommitBoth | Then::CommitEach);
        let (tree, expected) =
            if kept { (&member.next, &member.rows_after) } else { (&member.tree, &member.rows) };
        let rows = probe.score(seq, tree)?;
        probe.all_same(expected, &rows)?;
        let len = member.prefix.len() + if kept { member.path.len() } else { 0 };
        match probe.verifier.truncate(seq, len + 1) {
            Err(VerifyError::TruncateBeyond { committed, .. }) if committed == len => {}
            found => return Err(probe.differs(format!("{len} committed tokens"), format!("{found:?}"))),
        }
        probe.verifier.close(seq);
    }
    Ok(())
}
