//! What a pass of n rows costs in llama.cpp by the options of this crate, beside llama.cpp's own decode of as many tokens.
//!
//! ```text
//! cargo run --release -p upcycle-llama-cpp --example rows -- MODEL.gguf [ROUNDS] [SIZES] [ARM...]
//! ```
//!
//! such as `model.gguf 15 1,2,4,8,16,81 bare tree`.
//!
//! With one thread (`taskset -c 0 cargo run ...`) it is the time on the processor, which other programs hardly change; with more
//! it is the clock's. Arms are interleaved: each round times every arm at every n, and what is printed is the median over the rounds, with the
//! median of the rounds' quotients to one row, and to the first arm. Behind 256 tokens; `tree` arms score bushy trees, `chain` arms chains.

use std::error::Error;
use std::mem::ManuallyDrop;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use upcycle_core::{
    Commit, DraftTree, NodeId, RowSelection, SeqId, TokenId, TopK, TreeInput, TreeLimits, Verifier,
};
use upcycle_llama_cpp::{FlashAttention, LlamaVerifier, Model, Options};

const PREFIX: usize = 256;
/// Passes of a size in a round: the system counts time on the processor in steps of some milliseconds.
const PASSES: usize = 4;

type Failure = Box<dyn Error>;

/// What is measured.
enum Arm<'a> {
    /// llama.cpp's decode alone: one sequence, logits of all rows, nothing read.
    Bare { context: LlamaContext<'a>, batch: LlamaBatch<'a> },
    /// A verifier, and whether it scores chains.
    Ours { verifier: Box<LlamaVerifier>, seq: SeqId, chains: bool, top: TopK },
}

impl Arm<'_> {
    /// Scores `n` rows and commits the first; `rewind` makes the state as before.
    fn pass(&mut self, n: usize) -> Result<(), Failure> {
        match self {
            Arm::Bare { context, batch } => {
                batch.clear();
                for row in 0..n {
                    batch.add(LlamaToken(token(row) as i32), (PREFIX + row) as i32, &[0], true)?;
                }
                context.decode(batch)?;
                std::hint::black_box(context.get_logits_ith(n as i32 - 1)[0]);
                Ok(())
            }
            Arm::Ours { verifier, seq, chains, top } => {
                let tree = if *chains { chain(n) } else { bushy(n) };
                verifier.forward(&[TreeInput { seq: *seq, tree: &tree, rows: RowSelection::All }], top)?;
                verifier.commit(&[Commit { seq: *seq, path: &[NodeId::ROOT] }])?;
                Ok(())
            }
        }
    }

    fn rewind(&mut self) -> Result<(), Failure> {
        match self {
            Arm::Bare { context, .. } => {
                context.clear_kv_cache_seq(Some(0), Some(PREFIX as u32), None)?;
            }
            Arm::Ours { verifier, seq, .. } => verifier.truncate(*seq, PREFIX)?,
        }
        Ok(())
    }

    /// Seconds of a pass with `n` rows, by `clock`.
    fn seconds(&mut self, n: usize, clock: &dyn Fn() -> f64) -> Result<f64, Failure> {
        let start = clock();
        for _ in 0..PASSES {
            self.pass(n)?;
            self.rewind()?;
        }
        Ok((clock() - start) / PASSES as f64)
    }
}

fn token(at: usize) -> TokenId {
    (500 + at * 37 % 3000) as TokenId
}

fn chain(n: usize) -> DraftTree {
    DraftTree::chain(&(0..n).map(token).collect::<Vec<_>>())
}

/// A root whose children are half of the others at most, 40 of them at most; the rest hang below those.
fn bushy(n: usize) -> DraftTree {
    let mut tree = DraftTree::new();
    tree.reset(token(0), TreeLimits::UNBOUNDED);
    let wide = (n - 1).min(40);
    for at in 1..n {
        let parent = at.saturating_sub(wide);
        // There is room for any tree.
        let _ = tree.push(NodeId::new(parent), token(at), None);
    }
    tree
}

fn verifier(path: &Path, options: &Options, chains: bool) -> Result<Arm<'static>, Failure> {
    let mut verifier = Box::new(LlamaVerifier::new(Model::load(path, options)?)?);
    let seq = verifier.open()?;
    let tree = chain(PREFIX);
    let top = TopK::new(8);
    verifier.forward(&[TreeInput { seq, tree: &tree, rows: RowSelection::Last }], &mut TopK::new(1))?;
    verifier.commit(&[Commit { seq, path: &tree.nodes().collect::<Vec<_>>() }])?;
    Ok(Arm::Ours { verifier, seq, chains, top })
}

/// Seconds that this thread has run, where Linux tells.
fn on_processor() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split(' ').next()?.parse::<u64>().ok()? as f64 / 1e9)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: rows MODEL.gguf [ROUNDS] [SIZES] [ARM...]")?;
    let rounds: usize = arguments.next().map_or(Ok(15), |rounds| rounds.parse())?;
    let sizes = arguments.next().unwrap_or_else(|| "1,2,4,8,16,81".to_owned());
    let sizes: Vec<usize> = sizes.split(',').map(str::parse).collect::<Result<_, _>>()?;
    let chosen: Vec<String> = arguments.collect();
    let path = Path::new(&path);

    let defaults = Options { n_ctx: NonZeroU32::new(1024), ..Options::default() };
    let threads = std::thread::available_parallelism()?.get() as i32;
    let ours = [
        ("tree", defaults.clone()),
        ("chain", defaults.clone()),
        ("tree-row-invariant", Options { row_invariant: true, ..defaults.clone() }),
        ("chain-row-invariant", Options { row_invariant: true, ..defaults.clone() }),
        ("tree-no-flash", Options { flash_attn: FlashAttention::Off, ..defaults.clone() }),
        ("tree-1-thread", Options { threads: 1.try_into().ok(), ..defaults.clone() }),
        ("tree-256-ids", Options { n_seq_max: 256, ..defaults.clone() }),
        ("chain-256-ids", Options { n_seq_max: 256, ..defaults.clone() }),
    ];
    // The first verifier starts the library, of which this is a handle.
    drop(Model::load(path, &defaults)?);
    // Not to be dropped: the library stays started.
    let backend = ManuallyDrop::new(LlamaBackend::init().unwrap_or(LlamaBackend {}));
    let model = LlamaModel::load_from_file(&backend, path, &LlamaModelParams::default())?;
    let bare = |backend| -> Result<Arm<'_>, Failure> {
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(1024))
            .with_n_batch(512)
            .with_n_threads(threads)
            .with_n_threads_batch(threads);
        let mut context = model.new_context(backend, params)?;
        let mut batch = LlamaBatch::new(512, 1);
        for at in 0..PREFIX {
            batch.add(LlamaToken(token(at) as i32), at as i32, &[0], false)?;
        }
        context.decode(&mut batch)?;
        Ok(Arm::Bare { context, batch })
    };
    let wanted = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == name);
    let mut arms = Vec::new();
    if wanted("bare") {
        arms.push(("bare", bare(&backend)?));
    }
    for (name, options) in &ours {
        if wanted(name) {
            arms.push((name, verifier(path, options, name.starts_with("chain"))?));
        }
    }
    let engine = Arc::clone(&Model::load(path, &defaults)?).engine().to_owned();
    println!("{}, {engine}, {threads} threads, {rounds} rounds of {PASSES}, ms", path.display());

    let start = Instant::now();
    let clock = move || match threads {
        1 => on_processor().unwrap_or(0.0),
        _ => start.elapsed().as_secs_f64(),
    };
    // seconds[arm][size][round]
    let mut seconds = vec![vec![Vec::new(); sizes.len()]; arms.len()];
    for round in 0..rounds {
        for (size, &n) in sizes.iter().enumerate() {
            for turn in 0..arms.len() {
                let arm = (turn + round) % arms.len();
                let passed = arms[arm].1.seconds(n, &clock)?;
                seconds[arm][size].push(passed);
            }
        }
    }
    let columns = |cells: &mut dyn Iterator<Item = String>| cells.collect::<Vec<_>>().join(" | ");
    println!("{:15} | {}", "n", columns(&mut sizes.iter().map(|n| format!("{n:>6}"))));
    for ((name, _), seconds) in arms.iter().zip(&seconds) {
        let ms = &mut seconds.iter().map(|rounds| format!("{:6.2}", 1e3 * median(rounds.clone())));
        println!("{name:15} | {}", columns(ms));
        let quotient =
            |rounds: &Vec<f64>| median(rounds.iter().zip(&seconds[0]).map(|(n, one)| n / one).collect());
        println!(
            "{:15} | {}",
            "  t(n)/t(1)",
            columns(&mut seconds.iter().map(|rounds| format!("{:6.2}", quotient(rounds))))
        );
    }
    for ((name, _), own) in arms.iter().zip(&seconds).skip(1) {
        let to_first = own.iter().zip(&seconds[0]).map(|(own, first)| {
            format!("{:6.3}", median(own.iter().zip(first).map(|(own, first)| own / first).collect()))
        });
        println!("{name} / {}: {}", arms[0].0, columns(&mut { to_first }));
    }
    Ok(())
}
