//! Law 6: the other sequences of a pass.

use upcycle_core::{Commit, DraftTree, NodeId, SeqId, TokenId};

use crate::law::{Broken, Law};
use crate::probe::{Probe, Scored, tokens_of};
use crate::subject::Subject;

/// One sequence of a batch, and its rows when it is alone.
struct Member {
    prefix: Vec<TokenId>,
    tree: DraftTree,
    path: Vec<NodeId>,
    next: DraftTree,
    alone: Vec<Scored>,
    alone_next: Vec<Scored>,
}

/// Law 6: the other sequences of a pass do not matter. Neither does their number, their order, what they commit or whether
/// they are closed. A pass leaves the scored rows of sequences that are not in it. A backend with a single sequence, or with
/// passes too small for two, always obeys it.
///
/// # Errors
/// [`Broken`].
pub fn neighbours_do_not_matter(subject: &Subject) -> Result<(), Broken> {
    let mut probe = Probe::new(subject, Law::NeighboursDoNotMatter)?;
    let limits = probe.verifier.limits();
    let count = limits.max_seqs.min(3).min(limits.max_rows / 2).min(limits.max_leaves);
    if count < 2 {
        return Ok(());
    }
    for case in 0..subject.cases {
        probe.at(format!("case {case}, each sequence alone"));
        let mut members = Vec::new();
        for _ in 0..count {
            let (prefix, tree, next) = (probe.prefix(), probe.tree(count), probe.tree(count));
            let path = probe.any_path(&tree);
            let alone = probe.in_new_sequence(&prefix, &tree)?;
            let all = [&prefix[..], &tokens_of(&tree, &path)].concat();
            let alone_next = probe.in_new_sequence(&all, &next)?;
            members.push(Member { prefix, tree, path, next, alone, alone_next });
        }
        let mut open: Vec<(SeqId, &Member)> = Vec::new();
        for member in &members {
            let seq = probe.open()?;
            probe.prefill(seq, &member.prefix)?;
            open.push((seq, member));
        }
        for order in ["in the order of opening", "in reverse"] {
            let trees: Vec<_> = open.iter().map(|(seq, member)| (*seq, &member.tree)).collect();
            let rows = probe.score_all(&trees)?;
            for ((seq, member), rows) in open.iter().zip(&rows) {
                probe.at(format!("case {case}, {seq} among {count} sequences {order}"));
                probe.all_same(&member.alone, rows)?;
            }
            open.reverse();
        }
        for (seq, member) in &open {
            probe.at(format!("case {case}, {seq} in a pass of its own, after passes of others"));
            let rows = probe.score(*seq, &member.tree)?;
            probe.all_same(&member.alone, &rows)?;
        }
        probe.at(format!("case {case}, one commit of {count} sequences after a pass of each"));
        let commits: Vec<_> =
            open.iter().map(|(seq, member)| Commit { seq: *seq, path: &member.path }).collect();
        let committed = probe.verifier.commit(&commits);
        probe.must("committing all sequences at once", committed)?;
        // Closing the first one, and the prefill of a new one in the same pass, do not change the others.
        let (left, _) = open.remove(0);
        probe.verifier.close(left);
        let newcomer = probe.open()?;
        let chunk = DraftTree::chain(&members[0].prefix[..2]);
        let mut trees: Vec<_> = open.iter().map(|(seq, member)| (*seq, &member.next)).collect();
        trees.insert(1.min(trees.len()), (newcomer, &chunk));
        probe.at(format!("case {case}, a pass after a common commit, with one sequence closed and one new"));
        let mut rows = probe.score_all(&trees)?;
        rows.remove(1.min(rows.len() - 1));
        for ((seq, member), rows) in open.iter().zip(&rows) {
            probe.at(format!(
                "case {case}, {seq} after a common commit, with one sequence closed and one new"
            ));
            probe.all_same(&member.alone_next, rows)?;
        }
        for (seq, _) in open {
            probe.verifier.close(seq);
        }
        probe.verifier.close(newcomer);
    }
    Ok(())
}
