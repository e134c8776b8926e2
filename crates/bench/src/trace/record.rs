//! The data of a trace.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use upcycle::{Config, PromptRows, RecyclingOptions};
use upcycle_core::TokenId;

use crate::results::TimeSplit;

/// The version of the format.
pub const SCHEMA: u32 = 1;

/// One generation: the prompt and every step of the answer.
///
/// Logits and probabilities are rounded to a thousandth, times are seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// The version of the format.
    pub schema: u32,
    /// The version of this crate.
    pub version: String,
    /// Model, backend and drafter.
    pub about: About,
    /// Whether decoding was greedy; otherwise tokens are sampled.
    pub greedy: bool,
    /// The number of candidates of each row that the drafter sees: the first of those in [`Ranked`].
    pub k: usize,
    /// The names of the drafter's sources, by bit of [`TraceStep::sources`]; empty for a drafter with one source.
    pub sources: Vec<String>,
    /// The label of every token that occurs: white space is visible, incomplete characters are shown as bytes.
    pub labels: BTreeMap<TokenId, String>,
    /// Special tokens, which are not part of the text, such as the end of a turn.
    pub specials: BTreeSet<TokenId>,
    /// The prompt.
    pub prompt: TracedPrompt,
    /// The decoding steps in order.
    pub steps: Vec<TraceStep>,
    /// Text after the last token: U+FFFD if the text ends inside a character.
    pub rest: String,
    /// The finish reason, by [`FinishReason::name`](upcycle_core::FinishReason::name).
    pub finish: String,
}

/// Model, backend and drafter of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// File name of the model.
    pub model: String,
    /// The backend.
    pub backend: String,
    /// The drafter.
    pub drafter: String,
    /// What the drafter learns from scored rows.
    pub learns: Learns,
}

/// What a drafter learns from scored rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Learns {
    /// It writes the rows of draft nodes, but not of the prompt, into an adjacency matrix, as in the paper.
    Matrix,
    /// It learns from every row, including those of the prompt.
    Rows,
    /// Nothing: it uses only the text, or drafts nothing.
    Nothing,
}

/// The best candidates of several rows, best first.
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

/// The prompt, and the first token of the answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TracedPrompt {
    /// Its tokens, `[n]`.
    pub tokens: Vec<TokenId>,
    /// The text that each token completes, `[n]`; empty for a special token.
    pub texts: Vec<String>,
    /// Indices of the tokens with scored rows, in order.
    pub scored: Vec<usize>,
    /// The model's ranking after each of them.
    pub ranked: Ranked,
    /// The first token of the answer; none if the prefill was interrupted.
    pub sampled: Option<TokenId>,
    /// The text that it completes.
    pub text: String,
    /// Seconds of the prefill.
    pub seconds: f64,
}

/// One decoding step: a pass over a draft tree.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceStep {
    /// The tokens of the tree, `[nodes]`. The first is the root, the last token before the step.
    pub tokens: Vec<TokenId>,
    /// The index of each node's parent, `[nodes]`; the root is its own parent.
    pub parents: Vec<u32>,
    /// The predicted probability that a node is accepted if its parent is, `[nodes]`; none if the drafter gives no
    /// prediction, 1 for the root.
    pub probabilities: Vec<Option<f32>>,
    /// The sources that proposed each node, as bits, `[nodes]`; empty for a drafter with one source.
    pub sources: Vec<u8>,
    /// The model's ranking after each node.
    pub ranked: Ranked,
    /// The accepted path, beginning with the root.
    pub path: Vec<usize>,
    /// The token that the model sampled at each node of the path, `[path.len()]`. The last is the bonus token; the others
    /// were drafted.
    pub sampled: Vec<TokenId>,
    /// The number of emitted tokens: less than sampled if the text ends within the path.
    pub emitted: usize,
    /// The text that each emitted token completes, `[emitted]`.
    pub texts: Vec<String>,
    /// Seconds by part. `observe` includes recording the rows for this trace.
    pub seconds: TimeSplit,
}

impl About {
    /// The description of `config`.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        let model = config.model().path.as_deref().and_then(std::path::Path::file_name);
        Self {
            model: model.unwrap_or_default().to_string_lossy().into_owned(),
            backend: config.backend().name.clone(),
            drafter: config.drafter().name().to_owned(),
            learns: match (config.drafter().name(), config.drafter().options::<RecyclingOptions>()) {
                ("prompt-lookup" | "none", _) => Learns::Nothing,
                (_, Some(recycling))
                    if config.drafter().prompt_rows() == PromptRows::Last
                        && recycling.tree.template().is_some() =>
                {
                    Learns::Matrix
                }
                _ => Learns::Rows,
            },
        }
    }
}

impl TraceStep {
    /// The number of accepted draft nodes, as [`Stats::accepted`](upcycle_core::Stats::accepted) counts them.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.emitted.min(self.sampled.len().saturating_sub(1))
    }
}

impl Trace {
    /// The tokens of the answer.
    pub fn output(&self) -> impl Iterator<Item = TokenId> + '_ {
        let steps = self.steps.iter().flat_map(|step| step.sampled.iter().copied().take(step.emitted));
        self.prompt.sampled.into_iter().chain(steps)
    }

    /// The text of the answer, including a stop string.
    #[must_use]
    pub fn text(&self) -> String {
        let steps = self.steps.iter().flat_map(|step| &step.texts);
        let texts = std::iter::once(&self.prompt.text).chain(steps).chain([&self.rest]);
        texts.map(String::as_str).collect()
    }
}
