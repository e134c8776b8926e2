//! The bytes that a step copies.

use upcycle_core::{Commit, DraftTree, NodeId, RowSelection, TopK, TreeInput, Verifier, VerifyError};
use upcycle_onnx::export::WeightType;
use upcycle_ort::{Memory, OrtVerifier};

use crate::support::{Export, Tiny, load, step, tree, verifier};

/// The bytes that a step copies after 0, 100 and 2000 tokens.
fn copied(mut verifier: OrtVerifier) -> Result<[u64; 3], VerifyError> {
    let seq = verifier.open()?;
    let tree = tree();
    let mut copied = [0; 3];
    for (context, copied) in [0, 100, 2000].into_iter().zip(&mut copied) {
        let len = context - verifier.committed(seq).unwrap_or(0);
        for chunk in vec![3; len].chunks(300) {
            let chain = DraftTree::chain(chunk);
            verifier
                .forward(&[TreeInput { seq, tree: &chain, rows: RowSelection::Last }], &mut TopK::new(1))?;
            let path: Vec<NodeId> = chain.nodes().collect();
            verifier.commit(&[Commit { seq, path: &path }])?;
        }
        assert_eq!(verifier.committed(seq), Some(context));
        let before = verifier.copied_bytes();
        step(&mut verifier, seq, &tree)?;
        *copied = verifier.copied_bytes() - before;
        verifier.truncate(seq, context)?;
    }
    Ok(copied)
}

/// The formula of `copied_bytes` for 5 rows, all asked for, 3 accepted of which the first 2 are in place, 2 layers, 2 heads of 16,
/// and 4 candidates.
#[test]
fn copied_bytes_do_not_grow_with_the_context() -> Result<(), VerifyError> {
    let tiny = Tiny { context: 2100, ..Tiny::default() };
    let model = load(&tiny.export(WeightType::F32).path);
    let (pass, row) = (16 * 5 + 8 * 5 + 4 * 25, 8 * 2 * 2 * 16);
    assert_eq!(copied(verifier(&model, Memory::Host))?, [pass + 3 * row; 3]);
    let back = 5 * (12 * (4 + 1) + 4);
    assert_eq!(copied(verifier(&model, Memory::Device))?, [pass + back + row + 32 * 2; 3]);
    Ok(())
}
