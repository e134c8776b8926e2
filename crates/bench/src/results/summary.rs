//! What the records of an arm come to.

use serde::{Deserialize, Serialize};

use super::Steps;

/// A figure with the bootstrap's 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// The interval's lower end.
    pub low: f64,
    /// The interval's upper end.
    pub high: f64,
}

/// What an arm did, over all prompts or those of one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// Index of the arm.
    pub arm: usize,
    /// The group; none for all prompts together.
    pub group: Option<String>,
    /// Prompts.
    pub prompts: usize,
    /// Decoding speed over the arm's baseline; none for a baseline, and where the baseline was not measured.
    pub speedup: Option<Estimate>,
    /// Tokens a second of decoding.
    pub tokens_per_second: Estimate,
    /// Prompt tokens a second.
    pub prefill_tokens_per_second: f64,
    /// Median time to first token.
    pub first_token_seconds: f64,
    /// Mean tokens emitted in a step (the paper's mean accepted tokens); none for peers.
    pub tokens_per_step: Option<f64>,
    /// Mean draft nodes scored in a step.
    pub nodes_per_step: Option<f64>,
    /// The steps of the answers that were counted: of each prompt, those of its median round.
    pub steps: Option<Steps>,
    /// Drafting and learning, of all decoding time.
    pub drafting_share: Option<f64>,
    /// The largest resident set.
    pub peak_memory: Option<u64>,
    /// Answers by verdict: each prompt counts once, with its worst.
    pub equality: EqualityCount,
    /// What the cost curve predicts; only for drafts over all prompts, where the curve was measured.
    pub prediction: Option<Prediction>,
}

/// Prompts by verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EqualityCount {
    /// Equal to the token, in each round.
    pub exact: usize,
    /// Differences that rounding explains.
    pub within_margin: usize,
    /// Differences that it does not.
    pub wrong: usize,
    /// A peer's differences, which nobody can judge from outside.
    pub differs: usize,
    /// Nothing to hold them against.
    pub unknown: usize,
}

/// What an arm should earn by what its trees cost, and why it earned something else.
///
/// The speed-up is exactly `quotient * trees * passes * overhead`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// Mean tokens emitted in a step, MAT(n).
    pub tokens_per_step: f64,
    /// Draft nodes for each step, n; none where their number was chosen step by step.
    pub nodes: Option<usize>,
    /// t(n + 1) / t(1) by the cost curve, at the run's mean context; the mean over all steps where n was chosen.
    pub cost_ratio: f64,
    /// MAT(n) / (t(n + 1) / t(1)).
    pub quotient: f64,
    /// The speed-up that was measured.
    pub measured: f64,
    /// What trees that were not filled saved: above 1.
    pub trees: f64,
    /// How the passes of the run went against the curve: above 1 if cheaper, relative to plain decoding's.
    pub passes: f64,
    /// What drafting, choosing, committing and learning cost beside the passes: below 1.
    pub overhead: f64,
    /// The gap between quotient and measurement in words, where it is above 5 %.
    pub explanation: Option<String>,
}
