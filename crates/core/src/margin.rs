//! The margin rule: when a difference in text is rounding, and when it is wrong.
//!
//! An engine whose passes round differently by their size may let a near-tie fall the other way. That is all that it
//! may do: a text that parts from plain decoding's is *within margin* only if, where it parts, plain decoding's two best
//! scores were closer than what the two passes differ by there, and that difference is one that the backend has
//! [stated](crate::Verifier::row_tolerance). Everything else is wrong.

use std::fmt;

use crate::{Sampler, Sampling, TokenId};

/// Two passes over the same tokens, at the position at which their texts part.
///
/// ```
/// use upcycle_core::{Margin, Sampling};
///
/// let plain = [1.000, 1.001, -3.0];
/// let tree = [1.002, 1.000, -3.0];
/// let margin = Margin::of(&plain, &tree, Sampling::greedy(), &[]);
/// assert!(margin.explains(0.01), "a near-tie, and the backend says that it rounds by so much");
/// assert!(!margin.explains(0.0), "this one says that it does not");
///
/// let clear = [5.0, 1.0, -3.0];
/// let wrong = [1.0, 5.0, -3.0];
/// assert!(!Margin::of(&clear, &wrong, Sampling::greedy(), &[]).explains(0.01));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margin {
    /// How far the plain pass's two best scores lie apart: logits, or when sampling `logit / temperature + noise`.
    pub gap: f64,
    /// The largest difference between the two rows of logits; infinite if one holds a NaN, or is of another length.
    pub change: f64,
    /// How far two scores may have moved against each other: each by `change`, in units of `gap`.
    pub reach: f64,
}

impl Margin {
    /// Compares the rows of logits, `[vocab]` each, that `plain` decoding and the `other` pass drew from after the tokens
    /// `before`. O(vocab), and a sort of what top-p keeps.
    ///
    /// A cut of the vocabulary (top-k, top-p, min-p) or a penalty turns a small change of a logit into a large one of a
    /// score, which this rule does not follow: it then calls more differences wrong than are.
    #[must_use]
    pub fn of(plain: &[f32], other: &[f32], sampling: Sampling, before: &[TokenId]) -> Self {
        let apart = |(a, b): (&f32, &f32)| if (a - b).is_nan() { f32::INFINITY } else { (a - b).abs() };
        let comparable = plain.len() == other.len() && !plain.is_empty();
        let start = if comparable { 0.0 } else { f32::INFINITY };
        let change = f64::from(plain.iter().zip(other).map(apart).fold(start, f32::max));
        let gap = Sampler::new(sampling).choose(plain, before.len(), before).gap;
        let temperature = f64::from(sampling.config().temperature);
        let reach = 2.0 * change / if temperature > 0.0 { temperature } else { 1.0 };
        Self { gap, change, reach }
    }

    /// Whether rounding explains the difference, for a backend that states that its logits move by at most `cap`.
    #[must_use]
    pub fn explains(&self, cap: f32) -> bool {
        self.change <= f64::from(cap) && self.gap <= self.reach
    }
}

impl fmt::Display for Margin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gap, change, reach } = self;
        write!(
            f,
            "plain decoding's two best scores are {gap} apart; the passes differ by {change} (scores by up to {reach})"
        )
    }
}
