//! Trees, commits and rollbacks where the pages of the cache meet, and scaled rotary embeddings.

mod support;

use support::{Tiny, options, tensors_device, write};
use upcycle_candle::{CandleVerifier, Model, Products, Weights};
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_core::{
    Commit, DraftTree, NodeId, Row, RowSelection, SeqId, TokenId, TopK, TreeInput, TreeLimits, Verifier,
    VerifyError,
};

fn tiny() -> Tiny {
    Tiny { context: 400, ..Tiny::new([GgmlType::Q4_1, GgmlType::Q8_0]) }
}

fn tokens(len: usize) -> Vec<TokenId> {
    (0..len as u32).map(|i| i * 37 % 91).collect()
}

/// Scores a tree; the logits of all its rows.
fn score(verifier: &mut CandleVerifier, seq: SeqId, tree: &DraftTree) -> Result<Vec<Vec<f32>>, VerifyError> {
    verifier.forward(&[TreeInput { seq, tree, rows: RowSelection::All }], &mut TopK::new(4))?;
    (0..tree.len()).map(|node| Ok(verifier.logits(Row { input: 0, node })?.to_vec())).collect()
}

fn commit(verifier: &mut CandleVerifier, seq: SeqId, path: &[usize]) -> Result<(), VerifyError> {
    let path: Vec<_> = path.iter().map(|&node| NodeId::new(node)).collect();
    verifier.commit(&[Commit { seq, path: &path }])
}

/// Reads `tokens` in one pass of a new sequence; the logits of the last.
fn last_logits(verifier: &mut CandleVerifier, tokens: &[TokenId]) -> Result<Vec<f32>, VerifyError> {
    let seq = verifier.open()?;
    let logits = score(verifier, seq, &DraftTree::chain(tokens))?.pop().unwrap_or_default();
    verifier.close(seq);
    Ok(logits)
}

#[test]
fn trees_across_the_edge_of_a_page_score_and_commit_as_chains() -> Result<(), VerifyError> {
    let mut verifier = tiny().verifier();
    for prefix in [0, 1, 122, 126, 127, 128, 129, 250] {
        let prompt = tokens(prefix);
        let seq = verifier.open()?;
        if prefix > 0 {
            score(&mut verifier, seq, &DraftTree::chain(&prompt))?;
            commit(&mut verifier, seq, &(0..prefix).collect::<Vec<_>>())?;
        }
        let mut tree = DraftTree::new();
        tree.restart(5, TreeLimits::UNBOUNDED);
        // Parents of nodes 1, 2, …: paths of four nodes whose nodes lie apart.
        for (node, parent) in [0, 0, 1, 2, 1, 4, 3, 6].into_iter().enumerate() {
            tree.push(NodeId::new(parent), 10 + node as u32, None).expect("room");
        }
        let rows = score(&mut verifier, seq, &tree)?;
        let path = [0, 2, 4, 6];
        for end in 1..=path.len() {
            let walked = path[..end].iter().map(|&node| tree.tokens()[node]);
            let fresh =
                last_logits(&mut verifier, &prompt.iter().copied().chain(walked).collect::<Vec<_>>())?;
            assert_eq!(rows[path[end - 1]], fresh, "prefix {prefix}, depth {end}");
        }
        // The fresh chains went through other sequences: what waits here is still there.
        commit(&mut verifier, seq, &path)?;
        assert_eq!(verifier.committed(seq), Some(prefix + 4));
        let on = score(&mut verifier, seq, &DraftTree::chain(&[40, 41]))?;
        let mut whole: Vec<_> = prompt.iter().copied().chain(path.map(|node| tree.tokens()[node])).collect();
        whole.extend([40, 41]);
        assert_eq!(on[1], last_logits(&mut verifier, &whole)?, "prefix {prefix}, after the commit");

        verifier.truncate(seq, prefix + 1)?;
        let back = score(&mut verifier, seq, &DraftTree::chain(&[50]))?;
        whole.truncate(prefix + 1);
        whole.push(50);
        assert_eq!(back[0], last_logits(&mut verifier, &whole)?, "prefix {prefix}, after the rollback");
        verifier.close(seq);
    }
    Ok(())
}

#[test]
fn rows_that_wait_outlive_a_pass_that_fails() -> Result<(), VerifyError> {
    // Token 7's embedding is not a number; all other tokens are sound.
    let tiny = Tiny { embedding: GgmlType::F32, untied: true, ..tiny() };
    let mut writer = upcycle_checkpoint::gguf::write::GgufWriter::new()
        .metadata("general.architecture", "llama")
        .metadata("llama.attention.layer_norm_rms_epsilon", 1e-5_f32);
    for (key, value) in tiny.metadata() {
        writer = writer.metadata(format!("llama.{key}"), value);
    }
    for (name, dtype, shape) in tiny.tensors() {
        if name == "token_embd.weight" {
            let values = (0..64 * 96).map(|i: u32| if i / 64 == 7 { f32::NAN } else { (i as f32).sin() });
            let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
            writer = writer.tensor(name, dtype, &[64, 96], bytes);
        } else {
            writer = tiny.tensor(writer, &name, dtype, &shape);
        }
    }
    let file = write(&writer);
    // The kernels refuse such weights when they are loaded.
    let loops = Model::load(file.path(), &options(Products::Candle, Weights::File));
    let mut on_tensors = upcycle_candle::Options::default();
    // With products that do not quantize activations, which may make a number of a NaN.
    on_tensors.weights = Weights::F32;
    let tensors = Model::load_on(file.path(), &on_tensors, tensors_device(), &mut |_, _| ());
    for model in [loops, tensors] {
        let mut verifier = CandleVerifier::new(model.expect("a sound model"));
        println!("{}", verifier.engine());
        let bound = verifier.row_tolerance().min(0.1);
        let expected = last_logits(&mut verifier, &[1, 2, 3, 4])?;
        let check = |found: &[Vec<f32>]| {
            let last = found.last().expect("a row");
            for (found, expected) in last.iter().zip(&expected) {
                assert!((found - expected).abs() <= bound, "{found} for {expected}");
            }
        };
        let seq = verifier.open()?;
        for bad in [vec![7], vec![3, 7], vec![1; 200].into_iter().chain([7]).collect()] {
            let seq = verifier.open()?;
            score(&mut verifier, seq, &DraftTree::chain(&[1, 2, 3]))?;
            let failed = score(&mut verifier, seq, &DraftTree::chain(&bad));
            // Over tensors a NaN reaches the rows beside its own: no mask hides it.
            let node = if bound == 0.0 { bad.len() - 1 } else { 0 };
            assert!(
                matches!(failed, Err(VerifyError::NotFinite { row }) if row == Row { input: 0, node }),
                "{failed:?}"
            );
            commit(&mut verifier, seq, &[0, 1, 2])?;
            check(&score(&mut verifier, seq, &DraftTree::chain(&[4]))?);
        }
        // And once more, twice in a row, so that the second tree takes the place before the first.
        score(&mut verifier, seq, &DraftTree::chain(&[1, 2, 3]))?;
        score(&mut verifier, seq, &DraftTree::chain(&[1, 9]))?;
        score(&mut verifier, seq, &DraftTree::chain(&[1, 2, 3, 5]))?;
        commit(&mut verifier, seq, &[0, 1, 2])?;
        check(&score(&mut verifier, seq, &DraftTree::chain(&[4]))?);
        // The place that the second leaves free takes a pass that fails; the next goes behind both, and sees neither.
        score(&mut verifier, seq, &DraftTree::chain(&[4; 6]))?;
        score(&mut verifier, seq, &DraftTree::chain(&[4; 8]))?;
        let failed = score(&mut verifier, seq, &DraftTree::chain(&[4, 7, 7, 7]));
        assert!(matches!(failed, Err(VerifyError::NotFinite { .. })), "{failed:?}");
        let behind = score(&mut verifier, seq, &DraftTree::chain(&[4; 10]))?;
        check(&behind[..1]);
    }
    Ok(())
}

#[test]
fn rotary_scaling_stretches_positions() -> Result<(), VerifyError> {
    let plain = tiny();
    let pairs = plain.width / plain.heads / 2;
    let load = |writer| {
        Model::load(write(&writer).path(), &options(Products::Candle, Weights::File)).expect("a sound model")
    };
    let halved: Vec<u8> = std::iter::repeat_n(2.0_f32.to_le_bytes(), pairs).flatten().collect();
    let models = [
        load(plain.writer()),
        load(plain.writer().metadata("llama.rope.scaling.type", "none")),
        load(
            plain
                .writer()
                .metadata("llama.rope.scaling.type", "linear")
                .metadata("llama.rope.scaling.factor", 2.0_f32),
        ),
        load(plain.writer().metadata("llama.rope.scale_linear", 2.0_f32)),
        load(plain.writer().tensor("rope_freqs.weight", GgmlType::F32, &[pairs as u64], halved)),
    ];
    let mut logits = Vec::new();
    for model in models {
        logits.push(last_logits(&mut CandleVerifier::new(model), &tokens(9))?);
    }
    assert_eq!(logits[0], logits[1]);
    assert_ne!(logits[0], logits[2]);
    assert_eq!(logits[2], logits[3]);
    assert_eq!(logits[2], logits[4]);
    Ok(())
}
