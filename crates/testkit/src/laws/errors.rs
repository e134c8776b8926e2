//! Law 8: refused calls.

use upcycle_core::{
    Commit, DraftTree, NodeId, Row, RowSelection, SeqId, TokenId, TopK, TreeInput, TreeKind, TreeLimits,
    Verifier, VerifyError,
};

use crate::law::{Broken, Law};
use crate::probe::{Checked, Probe, Scored, tokens_of, whole};
use crate::subject::Subject;

/// Larger limits of rows, tokens or sequences are not tested.
const LARGEST_TESTED: usize = 4096;

/// A sequence with committed tokens and with scored rows that can be committed, and the rows that must follow.
struct Prepared {
    prefix: Vec<TokenId>,
    tree: DraftTree,
    path: Vec<NodeId>,
    next: DraftTree,
    expected: Vec<Scored>,
}

type Attempt<'a> = dyn Fn(&mut dyn Verifier, SeqId) -> Result<(), VerifyError> + 'a;

/// What is invalid about a call, and whether an error is the right one for it.
#[derive(Clone, Copy)]
struct Refusal(&'static str, fn(&VerifyError) -> bool);

/// Law 8: a verifier refuses each invalid call with its own error, and every sequence is then as it was. Rows that were scored
/// before can still be committed, and the rows after them are the same.
///
/// # Errors
/// [`Broken`]; also if the context is longer than 4096 tokens, which takes too long to test.
pub fn errors_change_nothing(subject: &Subject) -> Result<(), Broken> {
    let mut probe = Probe::new(subject, Law::ErrorsChangeNothing)?;
    let (prefix, tree, next) = (probe.prefix(), probe.tree(1), probe.tree(1));
    let path = probe.any_path(&tree);
    let prepared = prepare(&mut probe, prefix, tree, path, next)?;
    forwards(&mut probe, &prepared)?;
    commits(&mut probe, &prepared)?;
    others(&mut probe, &prepared)?;
    context(&mut probe)?;
    sequences(&mut probe)
}

fn prepare(
    probe: &mut Probe<'_>,
    prefix: Vec<TokenId>,
    tree: DraftTree,
    path: Vec<NodeId>,
    next: DraftTree,
) -> Checked<Prepared> {
    let expected = probe.in_new_sequence(&[&prefix[..], &tokens_of(&tree, &path)].concat(), &next)?;
    Ok(Prepared { prefix, tree, path, next, expected })
}

/// Makes a call on a prepared sequence: it must be refused with the right error and change nothing.
fn refused(
    probe: &mut Probe<'_>,
    prepared: &Prepared,
    Refusal(what, is_right): Refusal,
    attempt: &Attempt<'_>,
) -> Checked {
    let seq = probe.open()?;
    probe.prefill(seq, &prepared.prefix)?;
    probe.score(seq, &prepared.tree)?;
    probe.at(what);
    match attempt(&mut *probe.verifier, seq) {
        Err(error) if is_right(&error) => {}
        Err(error) => return Err(probe.differs(format!("the error for {what}"), format!("{error:?}"))),
        Ok(()) => return Err(probe.differs(format!("an error for {what}"), "success")),
    }
    probe.at(format!("the state after {what}"));
    probe.commit(seq, &prepared.path)?;
    let rows = probe.score(seq, &prepared.next)?;
    probe.all_same(&prepared.expected, &rows)?;
    probe.verifier.close(seq);
    Ok(())
}

/// A pass over these trees, with every row requested.
fn pass(verifier: &mut dyn Verifier, trees: &[(SeqId, &DraftTree)]) -> Result<(), VerifyError> {
    let inputs: Vec<TreeInput<'_>> =
        trees.iter().map(|&(seq, tree)| TreeInput { seq, tree, rows: RowSelection::All }).collect();
    verifier.forward(&inputs, &mut TopK::new(1))
}

/// No verifier ever gives this id.
const NEVER_GIVEN: SeqId = SeqId::new(u64::MAX);

fn forwards(probe: &mut Probe<'_>, prepared: &Prepared) -> Checked {
    let limits = probe.verifier.limits().clone();
    let (vocab, tree) = (limits.vocab, &prepared.next);
    let past_vocab = TokenId::try_from(vocab).unwrap_or(TokenId::MAX);
    let good = probe.token();

    let unknown =
        Refusal("a pass over an unknown sequence", |e| matches!(e, VerifyError::UnknownSequence { .. }));
    refused(probe, prepared, unknown, &|v, _| pass(v, &[(NEVER_GIVEN, tree)]))?;
    refused(probe, prepared, unknown, &|v, seq| pass(v, &[(seq, tree), (NEVER_GIVEN, tree)]))?;

    let small = DraftTree::chain(&[good]);
    let twice = Refusal("a sequence twice in a pass", |e| matches!(e, VerifyError::DuplicateSequence { .. }));
    refused(probe, prepared, twice, &|v, seq| pass(v, &[(seq, &small), (seq, &small)]))?;

    let token =
        Refusal("a token outside the vocabulary", |e| matches!(e, VerifyError::TokenOutOfRange { .. }));
    for bad in [past_vocab, TokenId::MAX] {
        for tokens in [&[bad][..], &[good, bad], &[bad, good]] {
            if tokens.len() <= limits.max_rows {
                let chain = DraftTree::chain(tokens);
                refused(probe, prepared, token, &|v, seq| pass(v, &[(seq, &chain)]))?;
            }
        }
    }

    if limits.max_rows < LARGEST_TESTED {
        let long = DraftTree::chain(&vec![good; limits.max_rows + 1]);
        let rows = Refusal("more rows than fit", |e| matches!(e, VerifyError::TooManyRows { .. }));
        refused(probe, prepared, rows, &|v, seq| pass(v, &[(seq, &long)]))?;
    }

    if limits.support.kind() != TreeKind::Tree {
        if limits.max_rows < 3 {
            return Ok(());
        }
        let mut fork = DraftTree::new();
        fork.reset(good, TreeLimits::UNBOUNDED);
        fork_at_root(&mut fork, 2);
        let tree = Refusal("a tree that is not a chain", |e| {
            matches!(e, VerifyError::UnsupportedTree { .. } | VerifyError::TooManyLeaves { .. })
        });
        return refused(probe, prepared, tree, &|v, seq| pass(v, &[(seq, &fork)]));
    }
    // With as many leaves as rows, the rows run out first.
    if limits.max_leaves + 2 <= limits.max_rows && limits.max_leaves < LARGEST_TESTED {
        if limits.max_leaves >= vocab {
            return Err(probe.out_of_reach(
                "give it fewer max_leaves than tokens in the vocabulary, or no tree can have too many leaves",
            ));
        }
        let mut star = DraftTree::new();
        star.reset(good, TreeLimits::UNBOUNDED);
        fork_at_root(&mut star, limits.max_leaves + 1);
        let leaves = Refusal("more leaves than fit", |e| matches!(e, VerifyError::TooManyLeaves { .. }));
        refused(probe, prepared, leaves, &|v, seq| pass(v, &[(seq, &star)]))?;
    }
    Ok(())
}

fn fork_at_root(tree: &mut DraftTree, leaves: usize) {
    for token in (0..).take(leaves) {
        // A tree without limits refuses nothing.
        let _ = tree.push(NodeId::ROOT, token, None);
    }
}

fn commits(probe: &mut Probe<'_>, prepared: &Prepared) -> Checked {
    let (tree, path) = (&prepared.tree, &prepared.path[..]);
    let unknown =
        Refusal("a commit of an unknown sequence", |e| matches!(e, VerifyError::UnknownSequence { .. }));
    refused(probe, prepared, unknown, &|v, _| v.commit(&[Commit { seq: NEVER_GIVEN, path }]))?;
    refused(probe, prepared, unknown, &|v, seq| {
        v.commit(&[Commit { seq, path }, Commit { seq: NEVER_GIVEN, path }])
    })?;
    let twice =
        Refusal("a sequence twice in a commit", |e| matches!(e, VerifyError::DuplicateSequence { .. }));
    refused(probe, prepared, twice, &|v, seq| v.commit(&[Commit { seq, path }, Commit { seq, path }]))?;

    let nothing = Refusal("a commit without a pass", |e| matches!(e, VerifyError::NothingToCommit { .. }));
    if probe.verifier.limits().max_seqs > 1 {
        let idle = probe.open()?;
        refused(probe, prepared, nothing, &|v, _| v.commit(&[Commit { seq: idle, path: &path[..1] }]))?;
        refused(probe, prepared, nothing, &|v, seq| {
            v.commit(&[Commit { seq, path }, Commit { seq: idle, path: &path[..1] }])
        })?;
        probe.verifier.close(idle);
    }

    let wrong = Refusal("a path that is not one of the tree", |e| matches!(e, VerifyError::NotAPath { .. }));
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
        refused(probe, prepared, wrong, &|v, seq| v.commit(&[Commit { seq, path: bad }]))?;
    }
    Ok(())
}

fn others(probe: &mut Probe<'_>, prepared: &Prepared) -> Checked {
    let beyond =
        Refusal("a truncation to more than there is", |e| matches!(e, VerifyError::TruncateBeyond { .. }));
    for len in [prepared.prefix.len() + 1, usize::MAX] {
        refused(probe, prepared, beyond, &|v, seq| v.truncate(seq, len))?;
    }
    let unknown =
        Refusal("a truncation of an unknown sequence", |e| matches!(e, VerifyError::UnknownSequence { .. }));
    refused(probe, prepared, unknown, &|v, _| v.truncate(NEVER_GIVEN, 0))?;

    let missing = Refusal("a row that was not requested", |e| matches!(e, VerifyError::NoSuchRow { .. }));
    let len = prepared.tree.len();
    let far = usize::MAX;
    for row in [(0, len), (1, 0), (0, far), (far, 0), (far, far)].map(|(input, node)| Row { input, node }) {
        refused(probe, prepared, missing, &|v, _| v.logits(row).map(drop))?;
    }
    if len > 1 {
        refused(probe, prepared, missing, &|v, seq| {
            // The same pass again, asking only for its last row.
            let input = TreeInput { seq, tree: &prepared.tree, rows: RowSelection::Last };
            v.forward(&[input], &mut TopK::new(1))?;
            v.logits(Row { input: 0, node: 0 }).map(drop)
        })?;
    }
    refused(probe, prepared, missing, &|v, _| {
        v.forward(&[], &mut TopK::new(1))?;
        v.logits(Row { input: 0, node: 0 }).map(drop)
    })
}

/// The last token of the context, and one more.
fn context(probe: &mut Probe<'_>) -> Checked {
    let max = probe.verifier.limits().max_context;
    if max > LARGEST_TESTED {
        return Err(probe.out_of_reach(format!(
            "a context of {max} tokens takes too long to fill; give it a few hundred"
        )));
    }
    let full =
        Refusal("more tokens than the context holds", |e| matches!(e, VerifyError::ContextFull { .. }));
    // Rows of the pass that does not fit, which must not be too many for any pass.
    let rows = probe.verifier.limits().max_rows.min(5);
    if rows >= 3 {
        let prefix = probe.tokens(max + 1 - rows);
        let first = DraftTree::chain(&probe.tokens(rows / 2));
        let next = DraftTree::chain(&probe.tokens(rows - 1 - rows / 2));
        let path = whole(&first);
        probe.at("the last tokens of the context");
        let prepared = prepare(probe, prefix, first, path, next)?;
        let one_too_many = DraftTree::chain(&probe.tokens(rows));
        refused(probe, &prepared, full, &|v, seq| pass(v, &[(seq, &one_too_many)]))?;
    }
    probe.at("a context without room");
    let seq = probe.open()?;
    let all = probe.tokens(max);
    probe.prefill(seq, &all)?;
    let one = DraftTree::chain(&probe.tokens(1));
    match pass(&mut *probe.verifier, &[(seq, &one)]) {
        Err(VerifyError::ContextFull { .. }) => {}
        found => return Err(probe.differs("ContextFull for a pass of one row", format!("{found:?}"))),
    }
    probe.verifier.close(seq);
    Ok(())
}

/// The last sequence, and one more.
fn sequences(probe: &mut Probe<'_>) -> Checked {
    let max = probe.verifier.limits().max_seqs;
    if max > LARGEST_TESTED {
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
    // A sequence that was closed can be replaced.
    probe.verifier.close(open.swap_remove(0));
    open.push(probe.open()?);
    for seq in open {
        probe.verifier.close(seq);
    }
    Ok(())
}
