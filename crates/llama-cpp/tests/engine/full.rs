//! Law 8 when the cells of the context or the ids of leaves run out: an error changes nothing, as if there had been no pass.

use std::sync::{Arc, LazyLock};

use upcycle_core::{
    Commit, DraftTree, NodeId, Row, RowSelection, SeqId, TokenId, TopK, TreeInput, TreeLimits, Verifier,
    VerifyError,
};
use upcycle_llama_cpp::{LlamaVerifier, Model, Options, PassError};
use upcycle_testkit::tiny::{Tiny, write};

use crate::support::{apart, load, logits, options, verifier};

/// The cells of the context. llama.cpp rounds smaller contexts up to this.
const CELLS: usize = 256;
const VOCAB: u32 = 96;

/// 256 cells, and 16 ids: 4 sequences, and 12 leaves.
static MODEL: LazyLock<Arc<Model>> = LazyLock::new(|| {
    let options = Options { n_seq_max: 16, n_batch: 256.try_into().expect("not 0"), ..options(256) };
    load(write(&Tiny { context: CELLS, ..Tiny::default() }.writer(None)).path(), &options)
});

/// A root with `leaves` children of different tokens.
fn star(root: TokenId, leaves: u32) -> DraftTree {
    let mut tree = DraftTree::new();
    tree.reset(root, TreeLimits::UNBOUNDED);
    for at in 0..leaves {
        tree.push(NodeId::ROOT, (root + 1 + at) % VOCAB, None).expect("there is room");
    }
    tree
}

fn score(verifier: &mut LlamaVerifier, steps: &[(SeqId, &DraftTree)]) -> Result<Vec<f32>, VerifyError> {
    let steps: Vec<TreeInput<'_>> =
        steps.iter().map(|&(seq, tree)| TreeInput { seq, tree, rows: RowSelection::All }).collect();
    verifier.forward(&steps, &mut TopK::new(4))?;
    let mut logits = Vec::new();
    for (step, of) in steps.iter().enumerate() {
        for node in 0..of.tree.len() {
            logits.extend_from_slice(verifier.logits(Row { input: step, node })?);
        }
    }
    Ok(logits)
}

fn refused(result: Result<Vec<f32>, VerifyError>) -> Option<PassError> {
    match result {
        Ok(_) => None,
        Err(VerifyError::Backend { source, .. }) => {
            Some(*source.downcast::<PassError>().expect("one of this backend"))
        }
        Err(other) => panic!("{other:?}"),
    }
}

fn fill(verifier: &mut LlamaVerifier, seq: SeqId, tokens: &[TokenId]) {
    let tree = DraftTree::chain(tokens);
    score(verifier, &[(seq, &tree)]).expect("it fits");
    let path: Vec<NodeId> = tree.nodes().collect();
    verifier.commit(&[Commit { seq, path: &path }]).expect("it waits");
}

/// Compares a verifier that gets passes that do not fit with a twin that does not get them: bit for bit the same. A new session
/// agrees up to rounding.
#[test]
fn a_tree_that_does_not_fit_the_last_cells_changes_nothing() {
    let mut pair = [verifier(&MODEL), verifier(&MODEL)];
    let tokens: Vec<TokenId> = (0..CELLS as u32 - 8).map(|at| at * 7 % VOCAB).collect();
    let open = pair.each_mut().map(|verifier| [verifier.open(), verifier.open()].map(|id| id.expect("room")));
    for (verifier, [long, short]) in pair.iter_mut().zip(&open) {
        fill(verifier, *long, &tokens[..CELLS - 20]);
        fill(verifier, *short, &tokens[..10]);
        score(verifier, &[(*long, &star(3, 4))]).expect("five of ten cells");
    }
    let [asked, twin] = &mut pair;
    let [[long, short], [twin_long, twin_short]] = open;
    for steps in [
        vec![(short, star(9, 5))],
        vec![(long, star(9, 10))],
        vec![(long, star(1, 2)), (short, star(2, 10))],
        vec![(short, star(9, 11))],
    ] {
        let steps: Vec<_> = steps.iter().map(|(seq, tree)| (*seq, tree)).collect();
        let error = refused(score(asked, &steps));
        assert!(matches!(error, Some(PassError::CellsUsedUp { cells: CELLS, .. })), "{error:?}");
    }
    // The pending tree can still be committed, and both continue alike up to the last cell.
    let path = [NodeId::ROOT, NodeId::new(3)];
    asked.commit(&[Commit { seq: long, path: &path }]).expect("it waits still");
    twin.commit(&[Commit { seq: twin_long, path: &path }]).expect("it waits");
    let next = star(11, 3);
    let steps = |long, short| [(long, &next), (short, &next)];
    let mine = score(asked, &steps(long, short)).expect("8 cells");
    assert_eq!(mine, score(twin, &steps(twin_long, twin_short)).expect("8 cells"));
    let text: Vec<TokenId> = tokens[..CELLS - 20].iter().copied().chain([3, 6, 11]).collect();
    let fresh = logits(&mut verifier(&MODEL), &text);
    let (row, last) = (VOCAB as usize, fresh.len() - VOCAB as usize);
    assert!(apart(&mine[..row], &fresh[last..]) < asked.row_tolerance());
}

#[test]
fn a_tree_without_enough_ids_changes_nothing() {
    let mut pair = [verifier(&MODEL), verifier(&MODEL)];
    let open = pair.each_mut().map(|verifier| [verifier.open(), verifier.open()].map(|id| id.expect("room")));
    for (verifier, [first, second]) in pair.iter_mut().zip(&open) {
        fill(verifier, *first, &[1, 2, 3]);
        fill(verifier, *second, &[4, 5, 6, 7]);
        score(verifier, &[(*first, &star(8, 6))]).expect("6 of 14 ids");
        score(verifier, &[(*second, &star(9, 5))]).expect("5 of the 8 that are left");
    }
    let [asked, twin] = &mut pair;
    let [[first, second], [twin_first, twin_second]] = open;
    // Without its pending tree, the sequence would have 8 ids.
    for leaves in [9, 12] {
        assert_eq!(
            refused(score(asked, &[(second, &star(10, leaves))])),
            Some(PassError::IdsUsedUp { ids: 16 })
        );
    }
    let path = [NodeId::ROOT, NodeId::new(5)];
    let commit = |verifier: &mut LlamaVerifier, ids: [SeqId; 2]| {
        verifier.commit(&ids.map(|seq| Commit { seq, path: &path })).expect("both wait");
        score(verifier, &[(ids[0], &star(20, 6)), (ids[1], &star(30, 6))]).expect("12 ids")
    };
    assert_eq!(commit(asked, [first, second]), commit(twin, [twin_first, twin_second]));
}

/// Random calls with most cells and ids taken: a pass fits or is refused with the right error, and each sequence keeps its
/// committed tokens.
#[test]
fn sequences_near_the_limits_keep_their_committed_tokens() {
    let (mut fitted, mut no_cells, mut no_ids) = (0, 0, 0);
    for seed in 0..12 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut verifier = verifier(&MODEL);
        let mut sequences: Vec<(SeqId, Vec<TokenId>, Option<DraftTree>)> =
            (0..4).map(|_| (verifier.open().expect("room"), Vec::new(), None)).collect();
        for _ in 0..60 {
            let at = rng.usize(..sequences.len());
            let (seq, committed, waits) = &mut sequences[at];
            match (rng.u8(..8), &waits) {
                (0, _) => {
                    let len = committed.len() - rng.usize(..=committed.len().min(30));
                    verifier.truncate(*seq, len).expect("not beyond");
                    committed.truncate(len);
                    *waits = None;
                }
                (1..4, Some(tree)) => {
                    let leaf = NodeId::new(rng.usize(1..tree.len()));
                    let path = [NodeId::ROOT, leaf];
                    verifier.commit(&[Commit { seq: *seq, path: &path }]).expect("it waits");
                    committed.extend(path.map(|node| tree.tokens()[node.index()]));
                    *waits = None;
                }
                (3..5, None) => {
                    let len = rng.usize(20..90);
                    let tokens: Vec<TokenId> = (0..len).map(|_| rng.u32(..VOCAB)).collect();
                    if committed.len() + len > CELLS {
                        continue;
                    }
                    let tree = DraftTree::chain(&tokens);
                    if refused(score(&mut verifier, &[(*seq, &tree)])).is_some() {
                        no_cells += 1;
                        continue;
                    }
                    let path: Vec<NodeId> = tree.nodes().collect();
                    verifier.commit(&[Commit { seq: *seq, path: &path }]).expect("it waits");
                    committed.extend(tokens);
                }
                _ => {
                    let tree = star(rng.u32(..VOCAB), rng.u32(1..=12));
                    if committed.len() + tree.len() > CELLS {
                        continue;
                    }
                    match refused(score(&mut verifier, &[(*seq, &tree)])) {
                        None => {
                            fitted += 1;
                            *waits = Some(tree);
                        }
                        Some(PassError::CellsUsedUp { .. }) => no_cells += 1,
                        Some(PassError::IdsUsedUp { .. }) => no_ids += 1,
                        Some(other) => panic!("{other}"),
                    }
                }
            }
            let known: Vec<_> = sequences.iter().map(|(seq, ..)| verifier.committed(*seq)).collect();
            let expected: Vec<_> = sequences.iter().map(|(_, tokens, _)| Some(tokens.len())).collect();
            assert_eq!(known, expected, "seed {seed}");
        }
        // Frees cells for one row of each.
        let longest = sequences.iter().max_by_key(|(_, tokens, _)| tokens.len()).map(|(seq, ..)| *seq);
        let gone = longest.expect("there are four");
        verifier.close(gone);
        for (seq, committed, _) in sequences.iter().filter(|(seq, ..)| *seq != gone) {
            let row = score(&mut verifier, &[(*seq, &DraftTree::chain(&[50]))]).expect("a row fits");
            let text: Vec<TokenId> = committed.iter().copied().chain([50]).collect();
            let fresh = logits(&mut self::verifier(&MODEL), &text);
            let last = fresh.len() - VOCAB as usize;
            let moved = apart(&row, &fresh[last..]);
            assert!(moved < verifier.row_tolerance(), "seed {seed}: {moved}");
        }
    }
    println!("{fitted} trees fitted; {no_cells} found no cells, {no_ids} no ids");
    assert!(
        fitted > 40 && no_cells > 40 && no_ids > 40,
        "{fitted}, {no_cells}, {no_ids}: the test is on the brink"
    );
}
