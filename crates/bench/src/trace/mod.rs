//! One generation, step by step, as a page that shows each draft tree.
//!
//! [`collect()`] decodes a prompt and keeps what every step did; [`page()`] makes one file of it that any browser shows
//! without a network. The text is that of decoding without a trace: the collector only reads along.

mod collect;
mod label;
mod page;
mod recorded;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use upcycle::{Config, DrafterChoice, PromptRows};
use upcycle_core::{RowSelection, TokenId};

use crate::results::TimeSplit;

pub use collect::{TraceError, collect};
pub use page::page;
pub use recorded::{Recorded, Recording, SHOWN};

/// The version of the format that this crate writes.
pub const SCHEMA: u32 = 1;

/// One generation: what was asked, and every step of the answer.
///
/// Logits and probabilities are rounded to a thousandth, times are seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// The version of the format.
    pub schema: u32,
    /// The version of this crate.
    pub version: String,
    /// What decoded.
    pub about: About,
    /// Whether each token is the model's first choice; else tokens are sampled.
    pub greedy: bool,
    /// Candidates of each row that the drafter learns from; the first of those in [`Ranked`].
    pub k: usize,
    /// The names of the drafter's sources, by bit of [`Step::sources`]; none for a drafter with one.
    pub sources: Vec<String>,
    /// Every token that occurs, as it is shown: whitespace visible, half a character as its bytes.
    pub labels: BTreeMap<TokenId, String>,
    /// Those of them that are no part of the text, such as the end of a turn.
    pub specials: BTreeSet<TokenId>,
    /// What was asked.
    pub prompt: Prompt,
    /// The passes over drafts, in order.
    pub steps: Vec<Step>,
    /// What the text still gets at its end: U+FFFD where it ends inside a character.
    pub rest: String,
    /// Why it ended, by [`FinishReason::name`](upcycle_core::FinishReason::name).
    pub finish: String,
}

/// What decoded, in the words of its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// File name of the model.
    pub model: String,
    /// The backend.
    pub backend: String,
    /// The drafter.
    pub drafter: String,
    /// What the drafter does with scored rows.
    pub learns: Learns,
}

/// What a drafter does with scored rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Learns {
    /// Writes the rows of drafts, not those of the prompt, into an adjacency matrix, as the paper does.
    Matrix,
    /// Learns from every row, those of the prompt too.
    RowSelection,
    /// Nothing: it looks at the text alone, or drafts nothing.
    Nothing,
}

/// The candidates of some rows, best first, flat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranked {
    /// Candidates of each row.
    pub width: usize,
    /// Their ids, `[rows, width]`.
    pub ids: Vec<TokenId>,
    /// Their logits, `[rows, width]`.
    pub logits: Vec<f32>,
}

/// What was asked, and the token that reading it gave.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// Its tokens, `[n]`.
    pub tokens: Vec<TokenId>,
    /// The text that each completes, `[n]`; nothing for a special token.
    pub texts: Vec<String>,
    /// Indices of the tokens whose rows were scored, rising.
    pub scored: Vec<usize>,
    /// What the model ranked after each of them.
    pub ranked: Ranked,
    /// The first token of the answer; none if reading was interrupted.
    pub drawn: Option<TokenId>,
    /// The text that it completes.
    pub text: String,
    /// Seconds of reading.
    pub seconds: f64,
}

/// A pass over a draft tree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// The tree's tokens, `[nodes]`; the first is the root: the last token before the step.
    pub tokens: Vec<TokenId>,
    /// The index of each node's parent, `[nodes]`; the root names itself.
    pub parents: Vec<u32>,
    /// The drafter's chance that a node is right given that its parent is, `[nodes]`, where it says one; 1 for the root.
    pub chances: Vec<Option<f32>>,
    /// Which of the drafter's sources proposed each node, as bits, `[nodes]`; empty for a drafter with one.
    pub sources: Vec<u8>,
    /// What the model ranked after each node.
    pub ranked: Ranked,
    /// The accepted nodes, the root first.
    pub path: Vec<usize>,
    /// The token that the model drew at each of them, `[path.len()]`: the last is its own, the ones before it were drafted.
    pub drawn: Vec<TokenId>,
    /// How many of those were emitted: fewer than all where the text ends in the middle.
    pub emitted: usize,
    /// The text that each emitted token completes, `[emitted]`.
    pub texts: Vec<String>,
    /// Seconds by part. Learning includes keeping the rows for this trace.
    pub seconds: TimeSplit,
}

impl About {
    /// What `config` decodes with.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let model = config.model().path.as_deref().and_then(std::path::Path::file_name);
        Self {
            model: model.unwrap_or_default().to_string_lossy().into_owned(),
            backend: config.backend().name.clone(),
            drafter: config.drafter().name().to_owned(),
            learns: match config.drafter() {
                DrafterChoice::Recycling(recycling)
                    if recycling.prompt_rows == PromptRows::Fixed(RowSelection::Last)
                        && recycling.tree.template().is_some() =>
                {
                    Learns::Matrix
                }
                DrafterChoice::Recycling(_) => Learns::RowSelection,
                DrafterChoice::Mixed(_) => Learns::RowSelection,
                DrafterChoice::PromptLookup { .. } | DrafterChoice::None => Learns::Nothing,
            },
        }
    }
}

impl Step {
    /// Draft nodes that were kept, as [`Stats::accepted`](upcycle_core::Stats::accepted) counts them.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.emitted.min(self.drawn.len().saturating_sub(1))
    }
}

impl Trace {
    /// The tokens of the answer.
    pub fn output(&self) -> impl Iterator<Item = TokenId> + '_ {
        let steps = self.steps.iter().flat_map(|step| step.drawn.iter().copied().take(step.emitted));
        self.prompt.drawn.into_iter().chain(steps)
    }

    /// The text of the answer: all that was emitted, a stop string included.
    #[must_use]
    pub fn text(&self) -> String {
        let steps = self.steps.iter().flat_map(|step| &step.texts);
        let texts = std::iter::once(&self.prompt.text).chain(steps).chain([&self.rest]);
        texts.map(String::as_str).collect()
    }
}
