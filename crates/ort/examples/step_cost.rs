//! The cost of a step compared with the runtime alone, at several contexts: seconds, the share of ranking the logits, and bytes copied.
//!
//! ```text
//! cargo run --release --package upcycle-ort --example step_cost -- EXPORTED [LIBRARY]
//! ```
//!
//! The runtime alone is the same session with the same inputs, made once and bound. Both take turns, so that a slow moment of the
//! machine affects both. The example prints medians.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::PoisonError;
use std::time::Instant;

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::Tensor;
use upcycle_core::{
    Commit, DraftTree, NodeId, Row, RowSelection, SeqId, TokenId, TopK, TreeInput, Verifier, VerifyError,
};
use upcycle_onnx::layout::{ATTN_BIAS, INPUT_IDS, LOGITS, OUTPUT_ROWS, PAST_BIAS, POSITION_IDS};
use upcycle_ort::{Model, Options, OrtVerifier};

const CONTEXTS: [usize; 3] = [100, 500, 2000];
const ROWS: [usize; 3] = [1, 5, 17];
const ROUNDS: usize = 41;
/// Candidates ranked for each row.
const K: usize = 8;

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1).map(PathBuf::from);
    let folder = arguments.next().ok_or("name an exported folder")?;
    let options = Options { library: arguments.next(), ..Options::default() };
    let model = Model::load(&folder, &options)?;
    let mut verifier = OrtVerifier::new(model.clone());
    println!("{}, {} threads", model.engine(), model.threads());
    println!("context  rows  runtime ms  step ms  step/runtime  ranking ms  bytes copied");
    let seq = verifier.open()?;
    for context in CONTEXTS {
        prefill(&mut verifier, seq, context)?;
        for rows in ROWS {
            let tree = DraftTree::chain(&tokens(context, rows, model.vocab()));
            let alone =
                bind(&mut model.session().lock().unwrap_or_else(PoisonError::into_inner), context, &tree)?;
            let [mut runtime, mut steps, mut ranking] = [const { Vec::new() }; 3];
            let (mut top, mut copied) = (TopK::new(K), 0);
            for round in 0..=ROUNDS {
                let mut session = model.session().lock().unwrap_or_else(PoisonError::into_inner);
                let start = Instant::now();
                session.run_binding(&alone)?;
                let spent = start.elapsed().as_secs_f64();
                drop(session);

                let before = verifier.copied_bytes();
                let start = Instant::now();
                step(&mut verifier, seq, &tree, &mut top)?;
                let step = start.elapsed().as_secs_f64();
                copied = verifier.copied_bytes() - before;
                let rank = rank(&mut verifier, rows, &mut top)?;
                verifier.truncate(seq, context)?;
                // The first run of each warms up.
                if round > 0 {
                    runtime.push(spent);
                    steps.push(step);
                    ranking.push(rank);
                }
            }
            let [runtime, step, ranking] = [runtime, steps, ranking].map(median);
            println!(
                "{context:7}  {rows:4}  {:10.2}  {:7.2}  {:12.3}  {:10.3}  {copied:12}",
                runtime * 1e3,
                step * 1e3,
                step / runtime,
                ranking * 1e3,
            );
        }
    }
    Ok(())
}

/// Arbitrary tokens.
fn tokens(from: usize, len: usize, vocab: usize) -> Vec<TokenId> {
    (from..from + len).map(|at| ((at * 7919 + 13) % vocab) as TokenId).collect()
}

/// Commits tokens until there are `context`.
fn prefill(verifier: &mut OrtVerifier, seq: SeqId, context: usize) -> Result<(), VerifyError> {
    let committed = verifier.committed(seq).unwrap_or(0);
    for chunk in tokens(committed, context - committed, verifier.limits().vocab).chunks(256) {
        let tree = DraftTree::chain(chunk);
        verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::Last }], &mut TopK::new(1))?;
        let path: Vec<NodeId> = tree.nodes().collect();
        verifier.commit(&[Commit { seq, path: &path }])?;
    }
    Ok(())
}

/// Scores a tree and keeps its root.
fn step(verifier: &mut OrtVerifier, seq: SeqId, tree: &DraftTree, top: &mut TopK) -> Result<(), VerifyError> {
    verifier.forward(&[TreeInput { seq, tree, rows: RowSelection::All }], top)?;
    verifier.commit(&[Commit { seq, path: &[NodeId::ROOT] }])
}

/// Ranks the rows of the last pass again. Returns the seconds.
fn rank(verifier: &mut OrtVerifier, rows: usize, top: &mut TopK) -> Result<f64, VerifyError> {
    let start = Instant::now();
    for node in 0..rows {
        let row = Row { input: 0, node };
        top.set_from_logits(row, verifier.logits(row)?)?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// The inputs of a pass over `tree` after a past, and buffers for all outputs, in host memory.
fn bind(session: &mut Session, context: usize, tree: &DraftTree) -> Result<IoBinding, Box<dyn Error>> {
    let rows = tree.len();
    let mut binding = session.create_binding()?;
    let ids: Vec<i64> = tree.tokens().iter().map(|&token| i64::from(token)).collect();
    let positions: Vec<i64> = (context..context + rows).map(|at| at as i64).collect();
    let wanted: Vec<i64> = (0..rows as i64).collect();
    let bias: Vec<f32> =
        (0..rows * rows).map(|at| if at % rows <= at / rows { 0.0 } else { f32::NEG_INFINITY }).collect();
    binding.bind_input(INPUT_IDS, &Tensor::from_array(([rows], ids))?)?;
    binding.bind_input(POSITION_IDS, &Tensor::from_array(([rows], positions))?)?;
    binding.bind_input(OUTPUT_ROWS, &Tensor::from_array(([rows], wanted))?)?;
    binding.bind_input(ATTN_BIAS, &Tensor::from_array(([rows, rows], bias))?)?;
    binding.bind_input(PAST_BIAS, &Tensor::from_array(([context], vec![0.0_f32; context]))?)?;
    for input in session.inputs().iter().filter(|input| input.name().starts_with("past.")) {
        let shape = input.dtype().tensor_shape().ok_or("a past that is no tensor")?;
        let shape = [context, shape[1] as usize, shape[2] as usize];
        // Not zeros: the system would map one zero page everywhere, without memory traffic.
        let numbers = (0..shape.iter().product()).map(|at: usize| (at % 61) as f32 / 61.0 - 0.5).collect();
        let past = Tensor::from_array((shape, Vec::<f32>::into_boxed_slice(numbers)))?;
        binding.bind_input(input.name(), &past)?;
    }
    let host = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput)?;
    for output in session.outputs() {
        debug_assert!(output.name() == LOGITS || output.name().starts_with("new."));
        binding.bind_output_to_device(output.name(), &host)?;
    }
    Ok(binding)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
