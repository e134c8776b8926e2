//! The flags of `upcycle bench`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use upcycle_bench::results::MatrixState;

const HELP: &str = "\
An arm is a drafter on a configuration, or a peer: `plain`, `configured` (the configuration's own drafter), `paper`, \
`recycling:8`, `recycling:16@TREE.toml`, `mixed:2`, `prompt-lookup:4`; `llama.cpp`, `llama.cpp:ngram-simple:3:4` \
(n-grams of 3, drafts of 4). Plain decoding of each configuration is always measured, and every ratio is of two things of \
one run.

A run writes results.json, results.csv and report.html into its folder. Ctrl-C keeps what is measured; --resume goes on.

Exit codes: 0; 1 for a failure, and if an answer is neither plain decoding's nor explained by rounding; 2 for wrong usage \
or configuration; 130 after Ctrl-C.";

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
    /// Time passes by their rows, and keep the curve that a budget reads
    Cost(Cost),
    /// Make the report and the table of numbers anew from a run's results.json
    Report {
        /// The folder of the run
        #[arg(value_hint = ValueHint::DirPath)]
        folder: PathBuf,
        /// Print the tables as Markdown instead
        #[arg(long)]
        markdown: bool,
    },
}

/// What is measured, and how.
#[derive(Args, Debug)]
pub(crate) struct Measure {
    #[command(flatten)]
    pub(crate) setups: Setups,
    /// A file of prompts, one JSON object a line: {"question_id": 1, "group": "code", "turns": ["…"]}; the built-in set
    /// if none is given. The first turn of each is asked
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) prompts: Option<PathBuf>,
    /// Ask the first N prompts of each group only
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) per_group: Option<usize>,
    /// The most tokens of an answer
    #[arg(short = 'n', long, value_name = "N", default_value = "128", value_parser = at_least_two)]
    pub(crate) max_tokens: usize,
    /// What to measure, separated by commas
    #[arg(long, value_name = "LIST")]
    pub(crate) arms: Option<String>,
    /// How often to measure it
    #[arg(long, value_name = "R", default_value = "3", value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Sample at temperature 0.7 with a fixed seed, instead of decoding greedily
    #[arg(long)]
    pub(crate) sampling: bool,
    /// What a drafter knows when a prompt begins: nothing; what the prompts before it in the round taught it (and its
    /// snapshot, if drafter.snapshot names one); or what its snapshot holds
    #[arg(long, value_enum, default_value_t = Matrix::Cold)]
    pub(crate) matrix: Matrix,
    /// llama.cpp's server, for peers; scripts/get-peers.sh builds one
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(crate) llama_server: Option<PathBuf>,
    /// A model for peers; may be repeated; those of the configurations if none is given
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) peer_model: Vec<PathBuf>,
    /// How many seconds to wait for a busy machine to become quiet before each round; then it is measured all the same,
    /// with a warning
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    pub(crate) wait: u64,
    /// The folder to write into [default: upcycle-bench]
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) out: Option<PathBuf>,
    /// Go on with the run of this folder, as it was planned then
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = [
        "config", "model", "set", "prompts", "per_group", "max_tokens", "arms", "rounds", "sampling", "matrix",
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
    /// The model, a GGUF file or an exported folder [key: model.path]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) model: Option<String>,
    /// Any key of the configuration, for all of them; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Cost {
    #[command(flatten)]
    pub(crate) setups: Setups,
    /// Tokens cached while passes are timed, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "64,256,1024", value_parser = at_least_one)]
    pub(crate) contexts: Vec<usize>,
    /// Rows of the passes, separated by commas; a list from 1 to what the backend takes if none is given
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = at_least_one)]
    pub(crate) rows: Vec<usize>,
    /// How often to time each
    #[arg(long, value_name = "R", default_value = "7", value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Print one JSON object: the machine, and rows and seconds of each configuration and context
    #[arg(long)]
    pub(crate) json: bool,
    /// The folder to write NAME.cost.toml and NAME.cost.svg of each configuration into
    #[arg(short, long, value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
}

/// What a drafter knows when a prompt begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Matrix {
    Cold,
    Carried,
    Snapshot,
}

impl From<Matrix> for MatrixState {
    fn from(matrix: Matrix) -> Self {
        match matrix {
            Matrix::Cold => Self::Cold,
            Matrix::Carried => Self::Carried,
            Matrix::Snapshot => Self::Snapshot,
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    at_least(1, text)
}

/// An answer of one token has no step to measure.
fn at_least_two(text: &str) -> Result<usize, String> {
    at_least(2, text)
}

fn at_least(least: usize, text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number >= least => Ok(number),
        _ => Err(format!("expected a whole number of at least {least}")),
    }
}
