//! What a step copies.

use upcycle_core::{Commit, DraftTree, NodeId, Room, Rows, SeqId, Step, TopK, Verifier, VerifyError};
use upcycle_export::Weights;
use upcycle_ort::OrtVerifier;

use crate::support::{Tiny, load};

/// A root with three children and a grandchild.
fn tree() -> DraftTree {
    let mut tree = DraftTree::new();
    tree.restart(5, Room::UNBOUNDED);
    let mut push = |parent, token| tree.push(parent, token, None).expect("there is room");
    let child = push(NodeId::ROOT, 6);
    push(NodeId::ROOT, 7);
    push(NodeId::ROOT, 8);
    push(child, 9);
    tree
}

/// Scores the tree and keeps its longest path.
fn step(verifier: &mut OrtVerifier, seq: SeqId, tree: &DraftTree) -> Result<(), VerifyError> {
    verifier.forward(&[Step { seq, tree, rows: Rows::All }], &mut TopK::new(4))?;
    let path = [NodeId::ROOT, NodeId::new(1), NodeId::new(4)];
    verifier.commit(&[Commit { seq, path: &path }])
}

#[test]
fn what_a_step_copies_does_not_grow_with_the_context() -> Result<(), VerifyError> {
    let tiny = Tiny { context: 2100, ..Tiny::default() };
    let folder = tiny.export(Weights::F32);
    let mut verifier = OrtVerifier::new(load(&folder.path));
    let seq = verifier.open()?;
    let tree = tree();
    let mut copied = Vec::new();
    for context in [0, 100, 2000] {
        let len = context - verifier.committed(seq).unwrap_or(0);
        for chunk in vec![3; len].chunks(300) {
            let chain = DraftTree::chain(chunk);
            verifier.forward(&[Step { seq, tree: &chain, rows: Rows::Last }], &mut TopK::new(1))?;
            let path: Vec<NodeId> = chain.nodes().collect();
            verifier.commit(&[Commit { seq, path: &path }])?;
        }
        assert_eq!(verifier.committed(seq), Some(context));
        let before = verifier.copied_bytes();
        step(&mut verifier, seq, &tree)?;
        copied.push(verifier.copied_bytes() - before);
        verifier.truncate(seq, context)?;
    }
    // As the method's documentation has it: 5 rows, all wanted, 3 accepted, 2 layers, 2 heads of 16.
    let expected = 16 * 5 + 8 * 5 + 4 * 25 + 3 * (8 * 2 * 2 * 16);
    assert_eq!(copied, [expected; 3]);
    Ok(())
}
