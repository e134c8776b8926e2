//! What a step copies.

use upcycle_core::{Commit, DraftTree, NodeId, Rows, Step, TopK, Verifier, VerifyError};
use upcycle_export::Weights;
use upcycle_ort::OrtVerifier;

use crate::support::{Export, Tiny, load, step, tree};

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
