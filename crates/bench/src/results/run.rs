//! The results of a run: arms, records and settings.

use serde::{Deserialize, Serialize};

use super::steps::Steps;
use super::summary::Summary;

/// The version of the format that this crate writes and reads.
pub const SCHEMA: u32 = 1;

/// The results of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// The version of the format.
    pub schema: u32,
    /// Whether the whole plan was measured; false after Ctrl-C.
    pub complete: bool,
    /// When the run began (a resumed run: for the first time), RFC 3339, UTC.
    pub started: String,
    /// When the run ended.
    pub finished: String,
    /// The program.
    pub build: Build,
    /// The machine.
    pub machine: Machine,
    /// The settings.
    pub settings: Settings,
    /// The arms, in the order of the report.
    pub arms: Vec<Arm>,
    /// Skipped prompts.
    pub skipped: Vec<Skipped>,
    /// The cost of passes by their rows, for each setup, measured in this run.
    pub costs: Vec<Cost>,
    /// For each measured arm: over all prompts, then for each group.
    pub summaries: Vec<Summary>,
    /// Reasons to distrust the results.
    pub warnings: Vec<String>,
    /// One record per arm, prompt and round.
    pub records: Vec<Record>,
}

/// The program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The version of this crate.
    pub version: String,
    /// The git revision of the sources, if built in a checkout, with `-dirty` if they were changed.
    pub revision: Option<String>,
    /// `debug` or `release`.
    pub profile: String,
}

/// The machine, and how busy other programs kept it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// Its relevant instruction sets: `avx2`, `fma`, `f16c`, `avx_vnni`, `avx512_vnni`, `asimddp`, …
    pub flags: Vec<String>,
    /// Logical processors that this process may use.
    pub processors: usize,
    /// Memory in bytes.
    pub memory: u64,
    /// Operating system and kernel.
    pub system: String,
    /// Load averages over 1, 5 and 15 minutes when the run began.
    pub load_start: Option<[f64; 3]>,
    /// Load averages when the run ended.
    pub load_end: Option<[f64; 3]>,
    /// Mean number of processors kept busy by other programs or taken by the hypervisor, while arms were timed.
    pub others_busy: Option<f64>,
}

/// The settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The prompts: `built-in` or a file name.
    pub prompts: String,
    /// SHA-256 of the prompts file, in hex.
    pub prompts_sha256: String,
    /// The number of prompts over all groups.
    pub prompts_count: usize,
    /// The groups in the order of the file.
    pub groups: Vec<String>,
    /// The most prompts of each group.
    pub per_group: Option<usize>,
    /// The most tokens of an answer.
    pub max_tokens: usize,
    /// Planned rounds.
    pub rounds: usize,
    /// Finished rounds.
    pub rounds_done: usize,
    /// 0 for greedy decoding.
    pub temperature: f32,
    /// The seed of sampling.
    pub seed: u64,
    /// The drafter's tables when a prompt begins.
    pub tables: InitialTables,
}

/// The drafter's tables when a prompt begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitialTables {
    /// Empty for each prompt.
    #[default]
    Empty,
    /// Carried from the previous prompts of the round. A round starts with the configured snapshot, if any.
    Carried,
    /// The content of the configured snapshot.
    Snapshot,
}

/// One thing to measure: a backend with a model and a drafter, or a peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Its unique name: `cpu mixed:2`.
    pub name: String,
    /// Its kind.
    pub kind: ArmKind,
    /// Index of its baseline: plain decoding by the same engine with the same file. A baseline names itself.
    pub baseline: usize,
    /// The configuration or the peer. Arms of one setup share an engine and a model file.
    pub setup: String,
    /// `cpu`, `llama.cpp`, …
    pub engine: String,
    /// The version of a peer, or the kernels of a backend.
    pub engine_version: Option<String>,
    /// File name of the model.
    pub model: String,
    /// SHA-256 of the model file in hex; of a folder, its files one after another, ordered by name.
    pub model_sha256: String,
    /// `none`, `recycling`, `mixed`, `prompt-lookup`, or a peer's name of its drafter.
    pub drafter: String,
    /// The most draft nodes per step; none for plain decoding and automatic budgets.
    pub nodes: Option<usize>,
    /// Threads.
    pub threads: Option<usize>,
    /// The full configuration as TOML, or a peer's command line.
    pub config: String,
    /// Whether it was measured.
    pub state: ArmState,
}

/// The kind of an arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArmKind {
    /// Plain decoding on one of our backends.
    Plain,
    /// A drafter on one of our backends.
    Draft,
    /// Plain decoding of another program.
    PeerPlain,
    /// A drafter of another program.
    PeerDraft,
}

impl ArmKind {
    /// Whether this is another program.
    #[must_use]
    pub fn is_peer(self) -> bool {
        matches!(self, Self::PeerPlain | Self::PeerDraft)
    }
}

/// Whether an arm was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", deny_unknown_fields)]
pub enum ArmState {
    /// Measured.
    Measured,
    /// Not available on this machine.
    Absent {
        /// What is missing, and how to get it.
        reason: String,
    },
    /// Failed during the run. Its earlier records are kept.
    Failed {
        /// The error.
        reason: String,
    },
}

/// A skipped prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// Its id.
    pub question: String,
    /// Its group.
    pub group: String,
    /// Why it was skipped.
    pub reason: String,
}

/// The cost of passes by their rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// The setup, as in [`Arm::setup`].
    pub setup: String,
    /// Cached tokens during the measurement.
    pub context: usize,
    /// Rows of a pass, `[points]`, sorted.
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
    /// The first 16 hex digits of the SHA-256 of the answer's ids (little-endian u32).
    pub digest: String,
    /// Seconds of the prefill, which gives the first token: the time to first token.
    pub prefill_seconds: f64,
    /// Tokens decoded in `decode_seconds`: all but the first.
    pub decode_tokens: usize,
    /// Seconds of decoding, without the prefill.
    pub decode_seconds: f64,
    /// Statistics of the steps; none for peers.
    pub steps: Option<Steps>,
    /// The largest resident set while answering, without the models of other setups.
    pub peak_memory: Option<u64>,
    /// The comparison with plain decoding.
    pub equality: Equality,
}

/// The comparison of an answer with plain decoding's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", deny_unknown_fields)]
pub enum Equality {
    /// All tokens are equal.
    Exact,
    /// It differs first where plain decoding's two best perturbed logits are closer than the rounding between the two passes.
    WithinMargin {
        /// The first token that differs.
        at: usize,
        /// The distance of plain decoding's two best perturbed logits there.
        gap: f64,
        /// The largest change of a logit between the two passes there.
        change: f64,
        /// The largest change that the backend states.
        cap: f64,
    },
    /// It differs, and rounding does not explain it.
    Wrong {
        /// The first token that differs.
        at: usize,
        /// What was found.
        reason: String,
    },
    /// A peer's answer differs from its own plain one. Its passes cannot be repeated from outside, so the cause is unknown.
    Differs {
        /// The first token that differs.
        at: usize,
    },
    /// There is no plain answer to compare with, because that arm failed.
    Unknown,
}
