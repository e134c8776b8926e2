//! The margin rule: distinguishes a rounding difference in text from an error.
//!
//! Some engines round differently in passes of different sizes, so a near-tie may be decided differently. The rule allows
//! this and nothing else. A text that differs from plain decoding is *within the margin* if, at the first different token:
//!
//! - the logits of the two passes differ by at most the backend's [tolerance](crate::Verifier::row_tolerance), and
//! - this difference can close the gap between plain decoding's two best perturbed logits.
//!
//! Every other difference is an error.

use std::fmt;

use crate::sampling::{Sampler, Sampling};
use crate::token::TokenId;

/// Compares two passes over the same tokens at the position where their texts start to differ.
///
/// ```
/// use upcycle_core::{Margin, Sampling};
///
/// let plain = [1.000, 1.001, -3.0];
/// let tree = [1.002, 1.000, -3.0];
/// let margin = Margin::new(&plain, &tree, Sampling::greedy(), &[]);
/// assert!(margin.explains(0.01), "a near-tie, and the backend states a tolerance of 0.01");
/// assert!(!margin.explains(0.0), "a backend that states 0 may not differ");
///
/// let clear = [5.0, 1.0, -3.0];
/// let wrong = [1.0, 5.0, -3.0];
/// assert!(!Margin::new(&clear, &wrong, Sampling::greedy(), &[]).explains(0.01));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margin {
    /// The gap between the plain pass's two best perturbed logits. A perturbed logit is the logit itself if greedy, and
    /// `logit / temperature + noise` when sampling.
    pub gap: f64,
    /// The largest difference between the two rows of logits. Infinite if one holds a NaN or their lengths differ.
    pub change: f64,
    /// How much the gap may have changed: each of two perturbed logits may have moved by `change` divided by the temperature.
    pub max_gap_change: f64,
}

impl Margin {
    /// Compares the rows of logits, `[vocab]` each, from which `plain` decoding and the `other` pass sampled after the tokens
    /// `before`. O(vocab), plus a sort of the tokens that top-p keeps.
    ///
    /// With top-k, top-p or min-p a small change of a logit can remove a token or bring it back, and a repetition penalty scales the
    /// change. The rule does not model that, so it then reports some rounding differences as errors. It does not see a request's
    /// [`LogitBias`](crate::LogitBias) either: do not use it for requests with one.
    #[must_use]
    pub fn new(plain: &[f32], other: &[f32], sampling: Sampling, before: &[TokenId]) -> Self {
        let distance = |(a, b): (&f32, &f32)| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
        let comparable = plain.len() == other.len() && !plain.is_empty();
        let start = if comparable { 0.0 } else { f32::INFINITY };
        let change = f64::from(plain.iter().zip(other).map(distance).fold(start, f32::max));
        let gap = Sampler::new(sampling).sample(plain, before.len(), before).gap;
        let temperature = f64::from(sampling.config().temperature);
        let max_gap_change = 2.0 * change / if temperature > 0.0 { temperature } else { 1.0 };
        Self { gap, change, max_gap_change }
    }

    /// Whether rounding explains the difference, for a backend whose logits change by at most `tolerance`.
    #[must_use]
    pub fn explains(&self, tolerance: f32) -> bool {
        self.change <= f64::from(tolerance) && self.gap <= self.max_gap_change
    }
}

impl fmt::Display for Margin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gap, change, max_gap_change } = self;
        write!(
            f,
            "plain decoding's two best perturbed logits are {gap} apart; the passes differ by {change}, which changes the gap by up to {max_gap_change}"
        )
    }
}
