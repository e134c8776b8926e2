//! What a run found, as it stands in `results.json`.
//!
//! Times are seconds, sizes bytes, shares of 1. `docs/benchmark.md` documents the file; [`SCHEMA`] changes whenever a
//! reader of the old one would misread the new one.

mod summary;

use serde::{Deserialize, Serialize};

pub use summary::{EqualityCount, Estimate, Prediction, Summary};

/// The version of the format that this crate writes, and the only one that it reads.
pub const SCHEMA: u32 = 1;

/// Everything that a run found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// The version of the format.
    pub schema: u32,
    /// Whether everything that was planned was measured; false after Ctrl-C.
    pub complete: bool,
    /// When the run began (after a resumption: the first one), RFC 3339, UTC.
    pub started: String,
    /// When it ended.
    pub finished: String,
    /// What measured.
    pub build: Build,
    /// Where.
    pub machine: Machine,
    /// How.
    pub settings: Settings,
    /// What was measured, in the order in which it is shown.
    pub arms: Vec<Arm>,
    /// Prompts that were not asked.
    pub skipped: Vec<Skipped>,
    /// What a pass costs by its rows, for each configuration, measured in this run.
    pub costs: Vec<Cost>,
    /// For each measured arm: overall, then each group.
    pub summaries: Vec<Summary>,
    /// What speaks against trusting these figures.
    pub warnings: Vec<String>,
    /// One for each arm, prompt and round.
    pub records: Vec<Record>,
}

/// The program that measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The version of this crate.
    pub version: String,
    /// The git revision of the sources, where it was built in a checkout; `-dirty` is appended where they were changed.
    pub revision: Option<String>,
    /// `debug` or `release`.
    pub profile: String,
}

/// The machine, and how busy others kept it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Those of its instruction sets that matter here: `avx2`, `fma`, `f16c`, `avx_vnni`, `avx512_vnni`, `asimddp`, …
    pub flags: Vec<String>,
    /// Logical processors that this process may use.
    pub processors: usize,
    /// Memory.
    pub memory: u64,
    /// Operating system and kernel.
    pub system: String,
    /// Load averages over 1, 5 and 15 minutes when the run began.
    pub load_start: Option<[f64; 3]>,
    /// And when it ended.
    pub load_end: Option<[f64; 3]>,
    /// Mean processors kept busy by other programs (or taken away by the hypervisor) while arms were timed.
    pub others_busy: Option<f64>,
}

/// How the run was set up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The prompts: `built-in`, or the name of a file.
    pub prompts: String,
    /// SHA-256 of the prompts file, in hex.
    pub prompts_sha256: String,
    /// Prompts asked, over all groups.
    pub prompts_count: usize,
    /// The groups, in the order of the file.
    pub groups: Vec<String>,
    /// At most this many prompts of each group.
    pub per_group: Option<usize>,
    /// Tokens of an answer, at most.
    pub max_tokens: usize,
    /// Rounds that were asked for.
    pub rounds: usize,
    /// Rounds that were finished.
    pub rounds_done: usize,
    /// 0 for greedy decoding.
    pub temperature: f32,
    /// The seed of sampling.
    pub seed: u64,
    /// What a drafter knows when a prompt begins.
    pub matrix: MatrixState,
}

/// What a drafter knows when a prompt begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MatrixState {
    /// Nothing: fresh tables for each prompt.
    #[default]
    Cold,
    /// What its configuration's snapshot holds, if it names one, and what the prompts before it in the same round taught it.
    Carried,
    /// What its configuration's snapshot holds, and nothing else.
    Snapshot,
}

/// One thing that is measured: a backend with a model and a drafter, or a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Its name, which no other arm of the run has: `cpu mixed:2`.
    pub name: String,
    /// What it is.
    pub kind: ArmKind,
    /// Index of the arm that it is held against: plain decoding of the same engine and file. Its own for that arm.
    pub baseline: usize,
    /// The configuration, or the peer, that it belongs to: arms of one setup share an engine and a file.
    pub setup: String,
    /// `cpu`, `llama.cpp`, …
    pub engine: String,
    /// The version of a peer, as it says it; the kernels in use of a backend.
    pub engine_version: Option<String>,
    /// File name of the model.
    pub model: String,
    /// SHA-256 of the model file, in hex; of a folder with a graph, of the files in it one after the other, by name.
    pub model_sha256: String,
    /// `none`, `recycling`, `mixed`, `prompt-lookup`; a peer's own name of its drafter.
    pub drafter: String,
    /// Draft nodes for each step, at most; none for plain decoding, and where their number is chosen step by step.
    pub nodes: Option<usize>,
    /// Threads.
    pub threads: Option<usize>,
    /// The full configuration as TOML; a peer's command line.
    pub config: String,
    /// Whether it could be measured.
    pub state: ArmState,
}

/// What an arm is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArmKind {
    /// Plain decoding on one of our backends.
    Plain,
    /// A drafter on one of our backends.
    Draft,
    /// Plain decoding of another program.
    PeerPlain,
    /// Another program's own drafter.
    PeerDraft,
}

/// Whether an arm was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", deny_unknown_fields)]
pub enum ArmState {
    /// It was.
    Measured,
    /// It is not on this machine.
    Absent {
        /// What is missing, and how to get it.
        reason: String,
    },
    /// It failed in the middle; what it had measured by then is kept.
    Failed {
        /// Its last words.
        reason: String,
    },
}

/// A prompt that was not asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// Its id.
    pub question: String,
    /// Its group.
    pub group: String,
    /// Why not.
    pub reason: String,
}

/// Seconds that a pass takes, by its rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// The setup, as in [`Arm::setup`].
    pub setup: String,
    /// Tokens cached while it was measured.
    pub context: usize,
    /// Rows of a pass, `[points]`, rising.
    pub rows: Vec<usize>,
    /// Median seconds of a pass, `[points]`.
    pub seconds: Vec<f64>,
}

/// One answer of one arm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Index of the arm.
    pub arm: usize,
    /// The question's id.
    pub question: String,
    /// Its group.
    pub group: String,
    /// The round, from 0.
    pub round: usize,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub tokens: usize,
    /// SHA-256 of the answer's ids (little-endian u32), the first 16 hex digits: equal answers have equal ones.
    pub digest: String,
    /// Reading the prompt, which also gives the first token: the time to first token.
    pub prefill_seconds: f64,
    /// Tokens that `decode_seconds` were spent on: all but the first on our backends; as the server counts, for peers.
    pub decode_tokens: usize,
    /// Decoding, without the prefill.
    pub decode_seconds: f64,
    /// What is known of the steps; none for peers.
    pub steps: Option<Steps>,
    /// The largest resident set while it answered, without what other arms' models hold.
    pub peak_memory: Option<u64>,
    /// Whether the answer is that of plain decoding.
    pub equality: Equality,
}

/// The steps of one answer, or of many together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// Passes over drafts.
    pub count: usize,
    /// Tokens that they emitted.
    pub emitted: usize,
    /// Draft nodes scored.
    pub drafted: usize,
    /// Draft nodes kept.
    pub accepted: usize,
    /// How many steps scored n draft nodes, for n = 0, 1, 2, …
    #[serde(default)]
    pub nodes: Vec<u64>,
    /// Draft nodes scored, by depth: the first entry is depth 1.
    pub drafted_by_depth: Vec<u64>,
    /// Draft nodes kept, by depth.
    pub accepted_by_depth: Vec<u64>,
    /// By the drafter's sources, where it has several; a node that several proposed counts for each.
    pub sources: Vec<SourceCount>,
    /// Seconds by part.
    pub time: TimeSplit,
    /// What the drafter's tables take.
    pub drafter_memory: u64,
}

/// What one source of a drafter proposed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceCount {
    /// The source.
    pub name: String,
    /// Its nodes that were scored.
    pub drafted: u64,
    /// Its nodes that were kept.
    pub accepted: u64,
}

/// Seconds of decoding, by part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSplit {
    /// Drafting.
    pub draft: f64,
    /// The verifier's passes.
    pub forward: f64,
    /// Choosing tokens and walking down the trees.
    pub accept: f64,
    /// Committing accepted paths.
    pub commit: f64,
    /// The drafter's learning.
    pub observe: f64,
}

/// Whether an answer is that of the arm's plain decoding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", deny_unknown_fields)]
pub enum Equality {
    /// To the token.
    Exact,
    /// It parts where plain decoding's two best were closer than the rounding between the two passes.
    WithinMargin {
        /// The first token that differs.
        at: usize,
        /// How far plain decoding's two best scores lie apart there.
        gap: f64,
        /// The largest change of a logit between the two passes there.
        change: f64,
        /// The largest change that the backend states for itself.
        cap: f64,
    },
    /// It parts, and rounding does not explain it.
    Wrong {
        /// The first token that differs.
        at: usize,
        /// What was found.
        reason: String,
    },
    /// A peer's answer parts from its own plain one. Its passes cannot be scored again from outside, so nothing is said
    /// of why.
    Differs {
        /// The first token that differs.
        at: usize,
    },
    /// There is no plain answer to hold it against: that arm failed.
    Unknown,
}
