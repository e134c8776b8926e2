//! Trees, commits and rollbacks where the pages of the cache meet, and scaled rotary embeddings.

mod support;

use std::sync::Arc;

use support::{load, options, quantize::quantized};
use upcycle_checkpoint::gguf::GgmlType;
use upcycle_checkpoint::gguf::write::GgufWriter;
use upcycle_core::{
    Commit, DraftTree, NodeId, Row, RowSelection, SeqId, TokenId, TopK, TreeInput, TreeLimits, Verifier,
    VerifyError,
};
use upcycle_cpu::{CpuVerifier, Model, WeightStorage};
use upcycle_testkit::tiny::{Format, Tiny, write};

fn tiny() -> Tiny {
    Tiny { context: 400, ..quantized(GgmlType::Q4_1, GgmlType::Q8_0) }
}

fn verifier(tiny: &Tiny) -> CpuVerifier {
    CpuVerifier::new(load(tiny, Format::Gguf, WeightStorage::File))
}

fn tokens(len: usize) -> Vec<TokenId> {
    (0..len as u32).map(|i| i * 37 % 91).collect()
}

/// Scores a tree; the logits of all its rows.
fn score(verifier: &mut CpuVerifier, seq: SeqId, tree: &DraftTree) -> Result<Vec<Vec<f32>>, VerifyError> {
    verifier.forward(&[TreeInput { seq, tree, rows: RowSelection::All }], &mut TopK::new(4))?;
    (0..tree.len()).map(|node| Ok(verifier.logits(Row { input: 0, node })?.to_vec())).collect()
}

fn commit(verifier: &mut CpuVerifier, seq: SeqId, path: &[usize]) -> Result<(), VerifyError> {
    let path: Vec<_> = path.iter().map(|&node| NodeId::new(node)).collect();
    verifier.commit(&[Commit { seq, path: &path }])
}

/// Reads `tokens` in one pass of a new sequence; the logits of the last.
fn last_logits(verifier: &mut CpuVerifier, tokens: &[TokenId]) -> Result<Vec<f32>, VerifyError> {
    let seq = verifier.open()?;
    let logits = score(verifier, seq, &DraftTree::chain(tokens))?.pop().unwrap_or_default();
    verifier.close(seq);
    Ok(logits)
}

#[test]
fn trees_across_the_edge_of_a_page_score_and_commit_as_chains() -> Result<(), VerifyError> {
    let mut verifier = verifier(&tiny());
    for prefix in [0, 1, 122, 126, 127, 128, 129, 250] {
        let prompt = tokens(prefix);
        let seq = verifier.open()?;
        if prefix > 0 {
            score(&mut verifier, seq, &DraftTree::chain(&prompt))?;
            commit(&mut verifier, seq, &(0..prefix).collect::<Vec<_>>())?;
        }
        let mut tree = DraftTree::new();
        tree.reset(5, TreeLimits::UNBOUNDED);
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

/// A model in which the values of token 7 overflow, and those of no other token: in the first layer only token 7 has a number in
/// the dimension that the values multiply with a huge weight.
fn overflows_at_token_7() -> Arc<Model> {
    let tiny = Tiny { embedding: GgmlType::F32, untied: true, ..tiny() };
    let mut writer = GgufWriter::new()
        .metadata("general.architecture", "llama")
        .metadata("llama.attention.layer_norm_rms_epsilon", 1e-5_f32);
    for (key, value) in tiny.sizes() {
        writer = writer.metadata(format!("llama.{key}"), value);
    }
    for (name, dtype, shape) in tiny.tensors() {
        let each = |value: fn(usize, usize) -> f32| -> Vec<u8> {
            let rows = 0..shape[1];
            rows.flat_map(|row| (0..shape[0]).flat_map(move |column| value(row, column).to_le_bytes()))
                .collect()
        };
        let spoilt = match &*name {
            "token_embd.weight" => each(|token, dimension| match (token, dimension) {
                (7, 0) => 1.0,
                (7, _) => 0.0,
                (_, 0) => 0.0,
                _ => ((token * 64 + dimension) as f32).sin(),
            }),
            "blk.0.attn_v.weight" => each(|output, input| match input {
                0 => f32::MAX,
                _ => ((output * 64 + input) as f32).cos() / 8.0,
            }),
            _ => {
                writer = tiny.tensor(writer, &name, dtype, &shape);
                continue;
            }
        };
        writer = writer.tensor(name, GgmlType::F32, &[shape[0] as u64, shape[1] as u64], spoilt);
    }
    Model::load(write(&writer).path(), &options(WeightStorage::File)).expect("a sound model")
}

#[test]
fn pending_rows_survive_a_pass_that_fails() -> Result<(), VerifyError> {
    let model = overflows_at_token_7();
    let mut verifier = CpuVerifier::new(model);
    let expected = last_logits(&mut verifier, &[1, 2, 3, 4])?;
    let seq = verifier.open()?;
    for bad in [vec![7], vec![3, 7], vec![1; 200].into_iter().chain([7]).collect()] {
        let seq = verifier.open()?;
        score(&mut verifier, seq, &DraftTree::chain(&[1, 2, 3]))?;
        let failed = score(&mut verifier, seq, &DraftTree::chain(&bad));
        let row = Row { input: 0, node: bad.len() - 1 };
        assert!(matches!(failed, Err(VerifyError::NotFinite { row: found }) if found == row), "{failed:?}");
        commit(&mut verifier, seq, &[0, 1, 2])?;
        assert_eq!(score(&mut verifier, seq, &DraftTree::chain(&[4]))?[0], expected);
    }
    // Twice in a row, so that the second tree takes the slots in front of the first.
    score(&mut verifier, seq, &DraftTree::chain(&[1, 2, 3]))?;
    score(&mut verifier, seq, &DraftTree::chain(&[1, 9]))?;
    score(&mut verifier, seq, &DraftTree::chain(&[1, 2, 3, 5]))?;
    commit(&mut verifier, seq, &[0, 1, 2])?;
    assert_eq!(score(&mut verifier, seq, &DraftTree::chain(&[4]))?[0], expected);
    // A failed pass takes the slots that the second tree left free. The next pass goes behind both and sees neither.
    score(&mut verifier, seq, &DraftTree::chain(&[4; 6]))?;
    score(&mut verifier, seq, &DraftTree::chain(&[4; 8]))?;
    let failed = score(&mut verifier, seq, &DraftTree::chain(&[4, 7, 7, 7]));
    assert!(matches!(failed, Err(VerifyError::NotFinite { .. })), "{failed:?}");
    assert_eq!(score(&mut verifier, seq, &DraftTree::chain(&[4; 10]))?[0], expected);
    Ok(())
}

#[test]
fn rotary_scaling_stretches_positions() -> Result<(), VerifyError> {
    let plain = tiny();
    let pairs = plain.width / plain.heads / 2;
    let load =
        |writer| Model::load(write(&writer).path(), &options(WeightStorage::File)).expect("a sound model");
    let halved: Vec<u8> = std::iter::repeat_n(2.0_f32.to_le_bytes(), pairs).flatten().collect();
    let models = [
        load(plain.writer(None)),
        load(plain.writer(None).metadata("llama.rope.scaling.type", "none")),
        load(
            plain
                .writer(None)
                .metadata("llama.rope.scaling.type", "linear")
                .metadata("llama.rope.scaling.factor", 2.0_f32),
        ),
        load(plain.writer(None).metadata("llama.rope.scale_linear", 2.0_f32)),
        load(plain.writer(None).tensor("rope_freqs.weight", GgmlType::F32, &[pairs as u64], halved)),
    ];
    let mut logits = Vec::new();
    for model in models {
        logits.push(last_logits(&mut CpuVerifier::new(model), &tokens(9))?);
    }
    assert_eq!(logits[0], logits[1]);
    assert_ne!(logits[0], logits[2]);
    assert_eq!(logits[2], logits[3]);
    assert_eq!(logits[2], logits[4]);
    Ok(())
}
