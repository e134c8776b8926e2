//! Summaries of the records of an arm.

use serde::{Deserialize, Serialize};

use super::steps::Steps;

/// A figure with its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// The upper end of the interval.
    pub high: f64,
}

/// The results of an arm over all prompts or those of one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Index of the arm.
    pub arm: usize,
    /// The group; none for all prompts.
    pub group: Option<String>,
    /// The number of prompts.
    pub prompts: usize,
    /// Decoding speed over that of the baseline; none for a baseline, and if the baseline was not measured.
    pub speedup: Option<Estimate>,
    /// Decoding speed in tokens per second.
    pub tokens_per_second: Estimate,
    /// Prefill speed in tokens per second.
    pub prefill_tokens_per_second: f64,
    /// Median time to first token.
    pub first_token_seconds: f64,
    /// Mean number of emitted tokens per step, bonus token included (the paper's MAT); none for peers.
    pub tokens_per_step: Option<f64>,
    /// Mean number of draft nodes per step.
    pub nodes_per_step: Option<f64>,
    /// The steps of each prompt's median round.
    pub steps: Option<Steps>,
    /// Drafting and learning, as a share of decoding time.
    pub drafting_share: Option<f64>,
    /// The largest resident set.
    pub peak_memory: Option<u64>,
    /// Prompts by verdict. Each prompt counts once, with its worst.
    pub equality: EqualityCount,
    /// The prediction from the cost curve; only for drafters on our backends, over all prompts.
    pub prediction: Option<Prediction>,
}

/// Prompts by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EqualityCount {
    /// All tokens are equal in all rounds.
    pub exact: usize,
    /// Differences that rounding explains.
    pub within_margin: usize,
    /// Differences that rounding does not explain.
    pub wrong: usize,
    /// Differences of peers, whose cause is unknown.
    pub differs: usize,
    /// Without a plain answer to compare with.
    pub unknown: usize,
}

/// The speed-up that the cost curve predicts, and how the measured one differs from it.
///
/// The speed-up is exactly `quotient * trees * passes * overhead`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// Mean number of emitted tokens per step, MAT(n).
    pub tokens_per_step: f64,
    /// Draft nodes per step, n; none for an automatic budget.
    pub nodes: Option<usize>,
    /// t(n + 1) / t(1) by the cost curve at the run's mean context. For an automatic budget, the mean over all steps.
    pub cost_ratio: f64,
    /// MAT(n) / (t(n + 1) / t(1)).
    pub quotient: f64,
    /// The measured speed-up.
    pub measured: f64,
    /// The gain from trees with fewer than n nodes: at least 1.
    pub trees: f64,
    /// The cost of the run's passes against the curve, relative to plain decoding's: above 1 if cheaper.
    pub passes: f64,
    /// The cost of drafting, choosing, committing and learning: below 1.
    pub overhead: f64,
    /// An explanation of the gap between quotient and measurement, if it is above 5 %.
    pub explanation: Option<String>,
}
