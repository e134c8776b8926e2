//! The cost of a pass on this machine: seconds by rows and context.

mod disturbance;
mod prompt;
mod timing;

use serde::{Deserialize, Serialize};

pub use disturbance::{Disturbance, MachineLoad, disturbance};
pub use prompt::{time_prefill, time_prompt_ranking};
pub use timing::{ContextTimes, TimingPlan};

/// The seconds of one pass as a function of its rows and of the cached tokens that they attend to.
///
/// For each measured number of cached tokens the curve is monotone and piecewise linear in the rows. Beyond the last point it
/// continues with the last slope. Between two measured contexts it is interpolated. Outside their range the nearest one
/// applies.
///
/// ```
/// use upcycle_core::CostCurve;
///
/// let curve = CostCurve::parse(r#"
///     key = "smollm2 q4_1 cpu zen5"
///     [[context]]
///     tokens = 256
///     rows = [1, 2, 8]
///     seconds = [0.010, 0.011, 0.017]
/// "#)?;
/// assert!((curve.seconds(4, 256) - 0.013).abs() < 1e-9);
/// # Ok::<(), upcycle_core::CostError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct CostCurve {
    key: String,
    prompt_ranking_overhead: Option<f64>,
    contexts: Vec<ContextCosts>,
}

/// The measured points of one context.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContextCosts {
    /// Cached tokens.
    tokens: usize,
    rows: Vec<usize>,
    seconds: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CostFile {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompt_ranking_overhead: Option<f64>,
    context: Vec<ContextCosts>,
}

/// Why a cost curve is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CostError {
    /// The text is not TOML, or has keys that a cost curve does not have.
    #[error("not a cost curve: {0}\nhint: write one with `upcycle bench cost`")]
    Syntax(String),
    /// There is no point.
    #[error("a cost curve needs at least one context with at least one point")]
    Empty,
    /// The numbers of one context are not a curve.
    #[error("invalid cost curve at {tokens} tokens of context: {expected}")]
    NotACurve {
        /// The cached tokens.
        tokens: usize,
        /// What is expected.
        expected: &'static str,
    },
    /// The overhead of ranking a prompt's rows is not a share.
    #[error("the cost curve has prompt_ranking_overhead = {found}; expected a finite number, 0 or more")]
    PromptRankingOverhead {
        /// What was found.
        found: String,
    },
}

impl CostCurve {
    /// A curve from measurements: the points `(rows, seconds)` of each context. Contexts must be in ascending order, and so
    /// must the rows of each context. Rows are at least 1. A time below an earlier one is noise and is raised to it, so the
    /// curve is monotone. `key` identifies what was measured: model, backend, options, CPU.
    ///
    /// # Errors
    /// [`CostError`] if there is no point, if contexts or rows do not ascend, or if a time is not positive and finite.
    pub fn new(key: String, contexts: Vec<(usize, Vec<(usize, f64)>)>) -> Result<Self, CostError> {
        let line = |(tokens, mut points): (usize, Vec<(usize, f64)>)| {
            let mut highest = 0.0_f64;
            for (_, seconds) in &mut points {
                // Not `max`, which would hide a NaN from `check`.
                highest = if *seconds < highest { highest } else { *seconds };
                *seconds = highest;
            }
            let (rows, seconds) = points.into_iter().unzip();
            ContextCosts { tokens, rows, seconds }
        };
        Self::check(CostFile {
            key,
            prompt_ranking_overhead: None,
            context: contexts.into_iter().map(line).collect(),
        })
    }

    /// A curve from timed passes. `key` identifies what was measured: model, backend, options, CPU.
    ///
    /// # Errors
    /// [`CostError`] if nothing was timed, or if the clock stood still.
    pub fn from_timings(key: String, timed: &[ContextTimes]) -> Result<Self, CostError> {
        let points = |timed: &ContextTimes| {
            let mut points: Vec<(usize, f64)> =
                timed.rows.iter().copied().zip(timed.seconds.iter().copied()).collect();
            points.sort_unstable_by_key(|&(rows, _)| rows);
            points.dedup_by_key(|&mut (rows, _)| rows);
            (timed.context, points)
        };
        let mut lines: Vec<_> = timed.iter().filter(|timed| !timed.rows.is_empty()).map(points).collect();
        lines.sort_by_key(|&(context, _)| context);
        lines.dedup_by_key(|&mut (context, _)| context);
        Self::new(key, lines)
    }

    /// Parses a curve from TOML: a `key`, and for each context a table `[[context]]` with `tokens`, `rows` and `seconds`.
    ///
    /// # Errors
    /// [`CostError`] if the text is not such a curve.
    pub fn parse(text: &str) -> Result<Self, CostError> {
        Self::check(toml::from_str(text).map_err(|error| CostError::Syntax(error.to_string()))?)
    }

    fn check(raw: CostFile) -> Result<Self, CostError> {
        if raw.context.is_empty() {
            return Err(CostError::Empty);
        }
        let mut before = None;
        for line in &raw.context {
            let fault = |expected| Err(CostError::NotACurve { tokens: line.tokens, expected });
            if line.rows.is_empty() {
                return Err(CostError::Empty);
            }
            if line.rows.len() != line.seconds.len() {
                return fault("expected as many rows as seconds");
            }
            if line.rows[0] == 0 || !line.rows.is_sorted_by(|a, b| a < b) {
                return fault("expected rows in ascending order, each at least 1");
            }
            if !line.seconds.iter().all(|&s| s.is_finite() && s > 0.0) {
                return fault("expected positive, finite seconds");
            }
            if !line.seconds.is_sorted() {
                return fault("expected seconds that do not decrease as rows increase");
            }
            if before >= Some(line.tokens) {
                return fault("expected contexts in ascending order");
            }
            before = Some(line.tokens);
        }
        if let Some(found) = raw.prompt_ranking_overhead.filter(|share| !(share.is_finite() && *share >= 0.0))
        {
            return Err(CostError::PromptRankingOverhead { found: found.to_string() });
        }
        Ok(Self { key: raw.key, prompt_ranking_overhead: raw.prompt_ranking_overhead, contexts: raw.context })
    }

    /// The curve as TOML, which [`parse`](Self::parse) reads.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let (key, context) = (self.key.clone(), self.contexts.clone());
        toml::to_string(&CostFile { key, prompt_ranking_overhead: self.prompt_ranking_overhead, context })
            .expect("strings and finite numbers are always TOML")
    }

    /// What was measured: model, backend, options, CPU.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The share of time that ranking every row of a prompt adds, compared with ranking only the last row: 0.3 is 30 % more.
    /// `None` if it was not measured.
    #[must_use]
    pub fn prompt_ranking_overhead(&self) -> Option<f64> {
        self.prompt_ranking_overhead
    }

    /// The same curve with the share of time that ranking every row of a prompt adds.
    ///
    /// # Errors
    /// [`CostError::PromptRankingOverhead`] for a share that is negative or not finite.
    pub fn with_prompt_ranking_overhead(self, share: f64) -> Result<Self, CostError> {
        Self::check(CostFile { key: self.key, prompt_ranking_overhead: Some(share), context: self.contexts })
    }

    /// The seconds of a pass of `rows` rows (0 counts as 1) over `context` cached tokens.
    #[must_use]
    pub fn seconds(&self, rows: usize, context: usize) -> f64 {
        let next = self.contexts.partition_point(|line| line.tokens < context);
        match (next.checked_sub(1).map(|previous| &self.contexts[previous]), self.contexts.get(next)) {
            (Some(low), Some(high)) => {
                let share = (context - low.tokens) as f64 / (high.tokens - low.tokens) as f64;
                low.seconds(rows) * (1.0 - share) + high.seconds(rows) * share
            }
            (Some(only), None) | (None, Some(only)) => only.seconds(rows),
            (None, None) => f64::INFINITY,
        }
    }
}

impl ContextCosts {
    fn seconds(&self, rows: usize) -> f64 {
        if self.rows.len() == 1 || rows <= self.rows[0] {
            return self.seconds[0];
        }
        let right = self.rows.partition_point(|&r| r < rows).clamp(1, self.rows.len() - 1);
        let (r0, r1) = (self.rows[right - 1] as f64, self.rows[right] as f64);
        let (s0, s1) = (self.seconds[right - 1], self.seconds[right]);
        s0 + (s1 - s0) * (rows as f64 - r0) / (r1 - r0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_measured_curve_is_monotone_and_survives_toml(
            times in prop::collection::vec(1e-4_f64..1.0, 1..12),
            rows in 0_usize..200,
            context in 0_usize..2000,
            share in 0.0_f64..4.0,
        ) {
            let points: Vec<_> = times.iter().enumerate().map(|(i, &t)| (1 + i * i, t)).collect();
            let twice = points.iter().map(|&(n, t)| (n, t * 2.0)).collect();
            let curve = CostCurve::new("key".into(), vec![(100, points), (1000, twice)]).unwrap();
            prop_assert_eq!(CostCurve::parse(&curve.to_toml()).unwrap(), curve.clone());
            let curve = curve.with_prompt_ranking_overhead(share).unwrap();
            prop_assert!(curve.seconds(rows, context) <= curve.seconds(rows + 1, context) + 1e-12);
            prop_assert!(curve.seconds(rows, context) <= curve.seconds(rows, context + 1) + 1e-12);
            prop_assert_eq!(CostCurve::parse(&curve.to_toml()).unwrap(), curve);
        }
    }

    #[test]
    fn an_invalid_curve_is_an_error() {
        let points = |points: &[(usize, f64)]| CostCurve::new(String::new(), vec![(0, points.to_vec())]);
        assert_eq!(CostCurve::new(String::new(), vec![]), Err(CostError::Empty));
        assert_eq!(points(&[]), Err(CostError::Empty));
        for bad in
            [&[(0, 1.0)][..], &[(2, 1.0), (1, 2.0)], &[(1, f64::NAN)], &[(1, 0.0)], &[(1, f64::INFINITY)]]
        {
            assert!(matches!(points(bad), Err(CostError::NotACurve { tokens: 0, .. })), "{bad:?}");
        }
        let falling = "key = \"\"\n[[context]]\ntokens = 1\nrows = [1, 2]\nseconds = [2.0, 1.0]";
        assert!(matches!(CostCurve::parse(falling), Err(CostError::NotACurve { tokens: 1, .. })));
        assert!(matches!(CostCurve::parse("key = 1"), Err(CostError::Syntax(_))));
        for share in [-0.1, f64::NAN, f64::INFINITY] {
            let curve = points(&[(1, 1.0)]).unwrap();
            assert!(
                matches!(
                    curve.with_prompt_ranking_overhead(share),
                    Err(CostError::PromptRankingOverhead { .. })
                ),
                "{share}"
            );
        }
    }
}
