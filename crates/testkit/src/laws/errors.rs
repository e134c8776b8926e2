//! Law 8: what happens past a limit, and after any error.

use upcycle_core::{
    Commit, DraftTree, NodeId, Row, RowSelection, SeqId, Shape, TokenId, TopK, TreeInput, TreeLimits,
    Verifier, VerifyError,
};

use crate::law::{Broken, Law};
use crate::probe::{Checked, Probe, Scored, tokens_of, whole};
use crate::subject::Subject;

/// Limits beyond this many rows, tokens or sequences are not walked up to.
const REACH: usize = 4096;

/// A sequence with committed tokens and with scored rows that wait to be committed, and what it has to say next.
struct Standing {
    prefix: Vec<TokenId>,
    tree: DraftTree,
    path: Vec<NodeId>,
    next: DraftTree,
    expected: Vec<Scored>,
}

type Attempt<'a> = dyn Fn(&mut dyn Verifier, SeqId) -> Result<(), VerifyError> + 'a;
type Is = fn(&VerifyError) -> bool;

/// Law 8: each thing that a verifier has to refuse is refused with its own error, and every sequence is then as it
/// was: rows that were scored before can still be committed, and what follows is what would have followed.
///
/// # Errors
/// [`Broken`]; also if a limit is too far away to be tried (a context beyond 4096 tokens).
pub fn errors_change_nothing(subject: &Subject) -> Result<(), Broken> {
    let mut probe = Probe::new(subject, Law::ErrorsChangeNothing)?;
    let (prefix, tree, next) = (probe.prefix(), probe.tree(1), probe.tree(1));
    let path = probe.any_path(&tree);
    let standing = stand(&mut probe, prefix, tree, path, next)?;
    forwards(&mut probe, &standing)?;
    commits(&mut probe, &standing)?;
    others(&mut probe, &standing)?;
    context(&mut probe)?;
    sequences(&mut probe)
}

fn stand(
    probe: &mut Probe<'_>,
    prefix: Vec<TokenId>,
    tree: DraftTree,
    path: Vec<NodeId>,
    next: DraftTree,
) -> Checked<Standing> {
    let expected = probe.fresh(&[&prefix[..], &tokens_of(&tree, &path)].concat(), &next)?;
    Ok(Standing { prefix, tree, path, next, expected })
}

/// Makes `attempt` on a standing sequence: it has to fail as `is` says and to change nothing.
fn refused(
    probe: &mut Probe<'_>,
    standing: &Standing,
    (what, is): (&str, Is),
    attempt: &Attempt<'_>,
) -> Checked {
    let seq = probe.open()?;
    probe.prefill(seq, &standing.prefix)?;
    probe.score(seq, &standing.tree)?;
    probe.at(what);
    match attempt(&mut *probe.verifier, seq) {
        Err(error) if is(&error) => {}
        Err(error) => return Err(probe.differs(format!("the error for {what}"), format!("{error:?}"))),
        Ok(()) => return Err(probe.differs(format!("an error for {what}"), "success")),
    }
    probe.at(format!("the state after {what}"));
    probe.commit(seq, &standing.path)?;
    let rows = probe.score(seq, &standing.next)?;
    probe.all_same(&standing.expected, &rows)?;
    probe.verifier.close(seq);
    Ok(())
}

/// A pass over these trees, with every row asked for.
fn pass(verifier: &mut dyn Verifier, trees: &[(SeqId, &DraftTree)]) -> Result<(), VerifyError> {
    let steps: Vec<TreeInput<'_>> =
        trees.iter().map(|&(seq, tree)| TreeInput { seq, tree, rows: RowSelection::All }).collect();
    verifier.forward(&steps, &mut TopK::new(1))
}

/// No verifier counts this far.
const NEVER_GIVEN: SeqId = SeqId::new(u64::MAX);

fn forwards(probe: &mut Probe<'_>, standing: &Standing) -> Checked {
    let limits = probe.verifier.limits().clone();
    let (vocab, tree) = (limits.vocab, &standing.next);
    let past_vocab = TokenId::try_from(vocab).unwrap_or(TokenId::MAX);
    let good = probe.token();

    let unknown: (&str, Is) =
        ("a pass over an unknown sequence", |e| matches!(e, VerifyError::UnknownSequence { .. }));
    refused(probe, standing, unknown, &|v, _| pass(v, &[(NEVER_GIVEN, tree)]))?;
    refused(probe, standing, unknown, &|v, seq| pass(v, &[(seq, tree), (NEVER_GIVEN, tree)]))?;

    let small = DraftTree::chain(&[good]);
    let twice: (&str, Is) =
        ("a sequence twice in a pass", |e| matches!(e, VerifyError::TwiceInOnePass { .. }));
    refused(probe, standing, twice, &|v, seq| pass(v, &[(seq, &small), (seq, &small)]))?;

    let token: (&str, Is) =
        ("a token outside the vocabulary", |e| matches!(e, VerifyError::TokenOutOfRange { .. }));
    for bad in [past_vocab, TokenId::MAX] {
        for chain in [[good, bad], [bad, good]].map(|tokens| DraftTree::chain(&tokens)) {
            refused(probe, standing, token, &|v, seq| pass(v, &[(seq, &chain)]))?;
        }
    }

    if limits.max_rows < REACH {
        let long = DraftTree::chain(&vec![good; limits.max_rows + 1]);
        let rows: (&str, Is) = ("more rows than fit", |e| matches!(e, VerifyError::TooManyRows { .. }));
        refused(probe, standing, rows, &|v, seq| pass(v, &[(seq, &long)]))?;
    }

    if limits.support.shape() != Shape::Tree {
        let mut fork = DraftTree::new();
        fork.restart(good, TreeLimits::UNBOUNDED);
        fork_at_root(&mut fork, 2);
        let tree: (&str, Is) = ("a tree that is no chain", |e| {
            matches!(e, VerifyError::UnsupportedTree { .. } | VerifyError::TooManyLeaves { .. })
        });
        return refused(probe, standing, tree, &|v, seq| pass(v, &[(seq, &fork)]));
    }
    // With as many leaves as rows, the rows run out first.
    if limits.max_leaves + 2 <= limits.max_rows && limits.max_leaves < REACH {
        if limits.max_leaves >= vocab {
            return Err(probe.out_of_reach("a vocabulary no larger than max_leaves leaves no way to pass it"));
        }
        let mut star = DraftTree::new();
        star.restart(good, TreeLimits::UNBOUNDED);
        fork_at_root(&mut star, limits.max_leaves + 1);
        let leaves: (&str, Is) = ("more leaves than fit", |e| matches!(e, VerifyError::TooManyLeaves { .. }));
        refused(probe, standing, leaves, &|v, seq| pass(v, &[(seq, &star)]))?;
    }
    Ok(())
}

fn fork_at_root(tree: &mut DraftTree, leaves: usize) {
    for token in (0..).take(leaves) {
        // There is room for any tree.
        let _ = tree.push(NodeId::ROOT, token, None);
    }
}

fn commits(probe: &mut Probe<'_>, standing: &Standing) -> Checked {
    let (tree, path) = (&standing.tree, &standing.path[..]);
    let unknown: (&str, Is) =
        ("a commit of an unknown sequence", |e| matches!(e, VerifyError::UnknownSequence { .. }));
    refused(probe, standing, unknown, &|v, _| v.commit(&[Commit { seq: NEVER_GIVEN, path }]))?;
    refused(probe, standing, unknown, &|v, seq| {
        v.commit(&[Commit { seq, path }, Commit { seq: NEVER_GIVEN, path }])
    })?;
    let twice: (&str, Is) =
        ("a sequence twice in a commit", |e| matches!(e, VerifyError::TwiceInOnePass { .. }));
    refused(probe, standing, twice, &|v, seq| v.commit(&[Commit { seq, path }, Commit { seq, path }]))?;

    let nothing: (&str, Is) =
        ("a commit without a pass", |e| matches!(e, VerifyError::NothingToCommit { .. }));
    if probe.verifier.limits().max_seqs > 1 {
        let idle = probe.open()?;
        refused(probe, standing, nothing, &|v, _| v.commit(&[Commit { seq: idle, path: &path[..1] }]))?;
        refused(probe, standing, nothing, &|v, seq| {
            v.commit(&[Commit { seq, path }, Commit { seq: idle, path: &path[..1] }])
        })?;
        probe.verifier.close(idle);
    }

    let wrong: (&str, Is) = ("a path that is none", |e| matches!(e, VerifyError::NotAPath { .. }));
    let node = NodeId::new;
    let stranger = tree.nodes().skip(1).find(|&node| tree.parent(node) != Some(NodeId::ROOT));
    let mut paths = vec![
        vec![node(1)],
        vec![NodeId::ROOT, NodeId::ROOT],
        vec![NodeId::ROOT, node(1), node(1)],
        vec![NodeId::ROOT, node(tree.len())],
        vec![node(usize::MAX)],
        vec![node(1), NodeId::ROOT],
    ];
    paths.extend(stranger.map(|stranger| vec![NodeId::ROOT, stranger]));
    for bad in &paths {
        refused(probe, standing, wrong, &|v, seq| v.commit(&[Commit { seq, path: bad }]))?;
    }
    Ok(())
}

fn others(probe: &mut Probe<'_>, standing: &Standing) -> Checked {
    let beyond: (&str, Is) =
        ("a truncation to more than there is", |e| matches!(e, VerifyError::TruncateBeyond { .. }));
    for len in [standing.prefix.len() + 1, usize::MAX] {
        refused(probe, standing, beyond, &|v, seq| v.truncate(seq, len))?;
    }
    let unknown: (&str, Is) =
        ("a truncation of an unknown sequence", |e| matches!(e, VerifyError::UnknownSequence { .. }));
    refused(probe, standing, unknown, &|v, _| v.truncate(NEVER_GIVEN, 0))?;

    let missing: (&str, Is) =
        ("a row that was not asked for", |e| matches!(e, VerifyError::NoSuchRow { .. }));
    let len = standing.tree.len();
    let far = usize::MAX;
    for row in
        [(0, len), (1, 0), (0, far), (far, 0), (far, far)].map(|(step, node)| Row { input: step, node })
    {
        refused(probe, standing, missing, &|v, _| v.logits(row).map(drop))?;
    }
    refused(probe, standing, missing, &|v, seq| {
        // The same pass again, with its last row alone.
        v.forward(&[TreeInput { seq, tree: &standing.tree, rows: RowSelection::Last }], &mut TopK::new(1))?;
        v.logits(Row { input: 0, node: 0 }).map(drop)
    })?;
    refused(probe, standing, missing, &|v, _| {
        v.forward(&[], &mut TopK::new(1))?;
        v.logits(Row { input: 0, node: 0 }).map(drop)
    })
}

/// Up to the last token of the context, and one too far.
fn context(probe: &mut Probe<'_>) -> Checked {
    let max = probe.verifier.limits().max_context;
    if max > REACH {
        return Err(probe.out_of_reach(format!(
            "a context of {max} tokens is too long to walk up to; make the subject with a few hundred"
        )));
    }
    let prefix = probe.tokens(max - 4);
    let two = DraftTree::chain(&probe.tokens(2));
    let next = DraftTree::chain(&probe.tokens(2));
    let path = whole(&two);
    probe.at("the last two tokens of the context");
    let standing = stand(probe, prefix, two, path, next)?;
    let full: (&str, Is) =
        ("more tokens than the context holds", |e| matches!(e, VerifyError::ContextFull { .. }));
    let five = DraftTree::chain(&probe.tokens(5));
    refused(probe, &standing, full, &|v, seq| pass(v, &[(seq, &five)]))
}

/// Up to the last sequence, and one too many.
fn sequences(probe: &mut Probe<'_>) -> Checked {
    let max = probe.verifier.limits().max_seqs;
    if max > REACH {
        return Ok(());
    }
    probe.at(format!("all {max} sequences open"));
    let mut open = Vec::new();
    for _ in 0..max {
        open.push(probe.open()?);
    }
    match probe.verifier.open() {
        Err(VerifyError::TooManySequences { .. }) => {}
        other => return Err(probe.differs("TooManySequences for one more", format!("{other:?}"))),
    }
    // A place that becomes free can be taken.
    probe.verifier.close(open.swap_remove(0));
    open.push(probe.open()?);
    for seq in open {
        probe.verifier.close(seq);
    }
    Ok(())
}
