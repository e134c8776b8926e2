//! This backend beside the backend `candle` on the CPU, on the real model: two implementations that share nothing but the reader of
//! the file.

mod support;

use support::load_real;
use upcycle_candle::CandleVerifier;
use upcycle_core::{Commit, DraftTree, NodeId, Row, RowSelection, TopK, TreeInput, Verifier};
use upcycle_cpu::{CpuVerifier, WeightStorage};
use upcycle_testkit::{real_model, tiny};

fn cpu(weights: WeightStorage) -> CpuVerifier {
    CpuVerifier::new(load_real(weights))
}

fn candle(weights: upcycle_candle::WeightStorage) -> CandleVerifier {
    let mut options = upcycle_candle::Options::default();
    options.weights = weights;
    CandleVerifier::new(upcycle_candle::Model::load(real_model(), &options).expect("a model"))
}

/// The logits of every row of a text.
fn logits(verifier: &mut dyn Verifier, text: &[u32]) -> Vec<Vec<f32>> {
    tiny::logits(verifier, text).expect("a sound model")
}

fn best(row: &[f32]) -> usize {
    (0..row.len()).fold(0, |best, id| if row[id] > row[best] { id } else { best })
}

/// The largest difference of any logit, and the share of rows with the same best token.
fn compare(a: &[Vec<f32>], b: &[Vec<f32>]) -> (f32, f64) {
    let differences = a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| (a - b).abs());
    let agree = a.iter().zip(b).filter(|(a, b)| best(a) == best(b)).count();
    (differences.fold(0.0, f32::max), agree as f64 / a.len() as f64)
}

#[test]
fn in_f32_the_backends_agree() {
    let text = &texts()[0][..80];
    let own = logits(&mut cpu(WeightStorage::F32), text);
    let (difference, agree) = compare(&own, &logits(&mut candle(upcycle_candle::WeightStorage::F32), text));
    println!("f32: logits differ by at most {difference:.1e}, best tokens agree on {:.0} %", agree * 100.0);
    assert!(difference < 1e-3 && agree == 1.0);
}

/// The same, read some rows at a time.
fn logits_in_chunks(verifier: &mut dyn Verifier, text: &[u32], rows: usize) -> Vec<Vec<f32>> {
    let seq = verifier.open().expect("room for one");
    let chunk = |chunk: &[u32]| {
        let tree = DraftTree::chain(chunk);
        verifier
            .forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::All }], &mut TopK::new(1))
            .expect("a sound model");
        let row = |node| verifier.logits(Row { input: 0, node }).expect("asked for").to_vec();
        let logits: Vec<_> = (0..tree.len()).map(row).collect();
        let path: Vec<NodeId> = (0..tree.len()).map(NodeId::new).collect();
        verifier.commit(&[Commit { seq, path: &path }]).expect("scored");
        logits
    };
    text.chunks(rows).flat_map(chunk).collect()
}

#[test]
fn on_candle_logits_change_within_the_stated_tolerance() {
    let text = &texts()[0][..12];
    let exact = logits(&mut cpu(WeightStorage::F32), text);
    for weights in [upcycle_candle::WeightStorage::F32, upcycle_candle::WeightStorage::File] {
        let mut verifier = candle(weights);
        let stated = verifier.row_tolerance();
        let single = logits_in_chunks(&mut verifier, text, 1);
        let (difference, agree) = compare(&exact, &single);
        println!("{weights:?}: within {difference:.2} of f32, best tokens agree on {:.0} %", agree * 100.0);
        for rows in [3, 12] {
            let found = logits_in_chunks(&mut verifier, text, rows);
            let ((moved, same), (difference, agree)) = (compare(&single, &found), compare(&exact, &found));
            println!(
                "{weights:?}, {rows} rows: moved by {moved:.5} ({:.0} % agree), within {difference:.2} of f32 ({:.0} %)",
                same * 100.0,
                agree * 100.0
            );
            assert!(moved <= stated, "{weights:?}, {rows} rows: {moved}, and {stated} is stated");
        }
    }
}

/// Prompts and answers of the reference, as tokens.
fn texts() -> Vec<Vec<u32>> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/paper_trace.json");
    let text = std::fs::read_to_string(file).expect("the fixture is in the repository");
    let trace: serde_json::Value = serde_json::from_str(&text).expect("the fixture is sound");
    let ids = |value: &serde_json::Value| {
        let ids = value.as_array().expect("ids").iter();
        ids.map(|id| id.as_u64().expect("an id") as u32).collect::<Vec<_>>()
    };
    let prompts = trace["prompts"].as_array().expect("prompts").iter().take(3);
    prompts.map(|prompt| [ids(&prompt["prompt_ids"]), ids(&prompt["output_ids"])].concat()).collect()
}

/// Both round activations to 8 bits in blocks of 32, candle with a scale in half precision; that alone moves logits by some tenths
/// (docs/losslessness.md). So the kernels must be about as close to f32 as candle is.
#[test]
fn with_the_files_blocks_the_kernels_are_as_close_to_f32_as_candle_is() {
    let (mut own_agrees, mut candle_agrees, mut rows) = (0.0, 0.0, 0);
    let (mut own_off, mut candle_off) = (0.0_f32, 0.0_f32);
    let (mut exact, mut own) = (cpu(WeightStorage::F32), cpu(WeightStorage::File));
    let mut candle = candle(upcycle_candle::WeightStorage::File);
    for text in texts() {
        let exact = logits(&mut exact, &text);
        let (own_far, own_same) = compare(&logits(&mut own, &text), &exact);
        let (candle_far, candle_same) = compare(&logits(&mut candle, &text), &exact);
        rows += text.len();
        own_agrees += own_same * text.len() as f64;
        candle_agrees += candle_same * text.len() as f64;
        (own_off, candle_off) = (own_off.max(own_far), candle_off.max(candle_far));
    }
    println!("best token as in f32: kernels {own_agrees:.0}, candle {candle_agrees:.0} of {rows} rows");
    println!("a logit is off by at most: kernels {own_off:.2}, candle {candle_off:.2}");
    assert!(own_agrees >= 0.95 * rows as f64 && own_agrees >= candle_agrees - 0.03 * rows as f64);
    assert!(own_off < 2.0 * candle_off);
}
