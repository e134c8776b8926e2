//! Pending rows and failed passes.

mod support;

use support::{device, quantize::quantized};
use upcycle_candle::{CandleVerifier, Model, WeightStorage};
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_core::{
    Commit, DraftTree, NodeId, Row, RowSelection, SeqId, TokenId, TopK, TreeInput, Verifier, VerifyError,
};
use upcycle_testkit::tiny::{Tiny, write};

/// Scores a chain; the logits of all its rows.
fn score(
    verifier: &mut CandleVerifier,
    seq: SeqId,
    tokens: &[TokenId],
) -> Result<Vec<Vec<f32>>, VerifyError> {
    let tree = DraftTree::chain(tokens);
    verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut TopK::new(4))?;
    (0..tree.len()).map(|node| Ok(verifier.logits(Row { input: 0, node })?.to_vec())).collect()
}

fn commit(verifier: &mut CandleVerifier, seq: SeqId, nodes: usize) -> Result<(), VerifyError> {
    let path: Vec<_> = (0..nodes).map(NodeId::new).collect();
    verifier.commit(&[Commit { seq, path: &path }])
}

#[test]
fn pending_rows_survive_a_pass_that_fails() -> Result<(), VerifyError> {
    // The embedding of token 7 is a NaN; all other tokens are sound.
    let tiny = Tiny {
        context: 400,
        embedding: GgmlType::F32,
        untied: true,
        ..quantized(GgmlType::Q4_1, GgmlType::Q8_0)
    };
    let values = (0..64 * 96).map(|i: u32| if i / 64 == 7 { f32::NAN } else { (i as f32).sin() });
    let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    let writer =
        tiny.writer(Some("token_embd.weight")).tensor("token_embd.weight", GgmlType::F32, &[64, 96], bytes);
    // Products with quantized weights round activations, which may turn a NaN into a number.
    let model = Model::load_on(write(&writer).path(), WeightStorage::F32, device(), &mut |_, _| ())
        .expect("a sound model");
    let mut verifier = CandleVerifier::new(model);
    let bound = verifier.row_tolerance().min(0.1);
    let expected = {
        let seq = verifier.open()?;
        let logits = score(&mut verifier, seq, &[1, 2, 3, 4])?;
        verifier.close(seq);
        logits[3].clone()
    };
    let check = |found: &[f32]| {
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() <= bound, "{found} for {expected}");
        }
    };
    let seq = verifier.open()?;
    for bad in [vec![7], vec![3, 7], vec![1; 200].into_iter().chain([7]).collect()] {
        let seq = verifier.open()?;
        score(&mut verifier, seq, &[1, 2, 3])?;
        let failed = score(&mut verifier, seq, &bad);
        // A NaN reaches the other rows of its sequence, because an additive mask does not hide it.
        assert!(
            matches!(failed, Err(VerifyError::NotFinite { row }) if row == Row { input: 0, node: 0 }),
            "{failed:?}"
        );
        commit(&mut verifier, seq, 3)?;
        check(&score(&mut verifier, seq, &[4])?[0]);
    }
    // Twice in a row, so that the second tree takes the slots in front of the first.
    score(&mut verifier, seq, &[1, 2, 3])?;
    score(&mut verifier, seq, &[1, 9])?;
    score(&mut verifier, seq, &[1, 2, 3, 5])?;
    commit(&mut verifier, seq, 3)?;
    check(&score(&mut verifier, seq, &[4])?[0]);
    // A failed pass takes the slots that the second tree left free. The next pass goes behind both and sees neither.
    score(&mut verifier, seq, &[4; 6])?;
    score(&mut verifier, seq, &[4; 8])?;
    let failed = score(&mut verifier, seq, &[4, 7, 7, 7]);
    assert!(matches!(failed, Err(VerifyError::NotFinite { .. })), "{failed:?}");
    check(&score(&mut verifier, seq, &[4; 10])?[0]);
    Ok(())
}
