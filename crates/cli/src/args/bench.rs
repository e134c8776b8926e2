//! The arguments of `upcycle bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use upcycle_bench::results::InitialTables;

const HELP: &str = "\
An arm is one thing to measure: a drafter on a configuration (`plain`, `configured`, `paper`, `recycling:8`, \
`recycling:16@TREE.toml`, `mixed:2`, `prompt-lookup:4`) or a peer, another program (`llama.cpp`, \
`llama.cpp:ngram-simple:3:4` for n-grams of 3 and drafts of 4). Plain decoding of each configuration is always measured. \
Every ratio compares two arms of the same run.

Every drafted answer is compared with plain decoding's. The drafted text is the plain text, bit for bit, greedy and \
sampled, on the own CPU kernels; the same up to near-ties within a stated rounding margin on ONNX Runtime, llama.cpp, \
candle's tensors and GPUs. Any other difference is reported as WRONG.

A run writes results.json and report.html into its folder. Ctrl-C keeps what is measured; --resume continues.

Exit codes: 0 for success; 1 for a failure, and if an answer is WRONG; 2 for wrong usage or configuration; 130 after Ctrl-C.";

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, after_help = HELP)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) command: Option<BenchCommand>,
    #[command(flatten)]
    pub(crate) measure: Measure,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Time passes by their number of rows, and write the cost curve for automatic budgets
    Cost(Cost),
    /// Print the tables of a run, and write report.html again from its results.json
    Report {
        /// The folder of the run, or its results.json
        #[arg(value_hint = ValueHint::AnyPath)]
        run: PathBuf,
    },
}

/// What is measured, and how.
#[derive(Args, Debug)]
pub(crate) struct Measure {
    #[command(flatten)]
    pub(crate) setups: Setups,
    /// A JSONL file of prompts: {"question_id": 1, "group": "code", "turns": ["…"]} on each line; default: the built-in
    /// prompts. The first turn of each is answered
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) prompts: Option<PathBuf>,
    /// Use only the first N prompts of each group
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) per_group: Option<usize>,
    /// The most tokens per answer
    #[arg(short = 'n', long, value_name = "N", default_value = "128", value_parser = at_least_two)]
    pub(crate) max_tokens: usize,
    /// The arms to measure, separated by commas
    #[arg(long, value_name = "LIST")]
    pub(crate) arms: Option<String>,
    /// The number of rounds; each round measures every prompt with every arm
    #[arg(long, value_name = "R", default_value = "3", value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Sample at temperature 0.7 with a fixed seed, instead of decoding greedily
    #[arg(long)]
    pub(crate) sampling: bool,
    /// The drafter's tables when a prompt begins: empty; carried from the previous prompts of the round (starting with
    /// drafter.snapshot, if set); or the content of drafter.snapshot
    #[arg(long, value_enum, default_value_t = Tables::Empty)]
    pub(crate) tables: Tables,
    /// llama.cpp's server for peers; scripts/get-peers.sh builds it
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) llama_server: Option<PathBuf>,
    /// A model for peers; may be repeated; default: the models of the configurations
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) peer_model: Vec<PathBuf>,
    /// The most seconds to wait before each round while other programs are busy; after that the round starts with a
    /// warning
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub(crate) wait: u64,
    /// The folder to write into [default: upcycle-bench]
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
    /// Continue the run in this folder with its original arguments
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = [
        "config", "model", "set", "prompts", "per_group", "max_tokens", "arms", "rounds", "sampling", "tables",
        "llama_server", "peer_model", "wait", "out",
    ])]
    pub(crate) resume: Option<PathBuf>,
}

/// The configurations of a benchmark.
#[derive(Args, Debug)]
pub(crate) struct Setups {
    /// A configuration file (TOML); may be repeated
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Vec<PathBuf>,
    /// The model: a GGUF file or an exported folder [key: model.path]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<String>,
    /// Set a key of all configurations; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Cost {
    #[command(flatten)]
    pub(crate) setups: Setups,
    /// The numbers of cached tokens to time passes with, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "64,256,1024", value_parser = at_least_one)]
    pub(crate) contexts: Vec<usize>,
    /// The numbers of rows to time, separated by commas; default: a list from 1 to the most the backend accepts
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = at_least_one)]
    pub(crate) rows: Vec<usize>,
    /// The number of timings of each
    #[arg(long, value_name = "R", default_value = "7", value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Another program to time in turn: a shell command that prints lines "ROWS MILLISECONDS", run once in each round
    #[arg(long, value_name = "CMD")]
    pub(crate) peer_command: Option<String>,
    /// Print a JSON object: the machine, and rows and seconds of each configuration and context
    #[arg(long)]
    pub(crate) json: bool,
    /// The folder for NAME.cost.toml and NAME.cost.svg of each configuration
    #[arg(short, long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
}

/// The drafter's tables when a prompt begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tables {
    Empty,
    Carried,
    Snapshot,
}

impl From<Tables> for InitialTables {
    fn from(tables: Tables) -> Self {
        match tables {
            Tables::Empty => Self::Empty,
            Tables::Carried => Self::Carried,
            Tables::Snapshot => Self::Snapshot,
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    at_least(1, text)
}

/// An answer of one token has no decoding step to measure.
fn at_least_two(text: &str) -> Result<usize, String> {
    at_least(2, text)
}

fn at_least(least: usize, text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(format!("expected a whole number of at least {least}")),
    }
}
