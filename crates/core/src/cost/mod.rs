//! What a pass costs on this machine: seconds for n rows, by context.

mod prompt;
mod timing;

use serde::{Deserialize, Serialize};

pub use prompt::{time_prompt, time_prompt_rows};
pub use timing::{Timed, Timing};

/// Seconds that one pass takes, as a function of its rows and of the tokens already cached.
///
/// Piecewise linear in the rows and monotone, one such line for each context length that was measured, linear between
/// neighbouring contexts. Beyond the last point a line goes on with its last slope.
///
/// ```
/// use upcycle_core::CostCurve;
///
/// let curve = CostCurve::parse(r#"
///     key = "smollm2 q4_1 candle zen5"
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
    prompt_rows: Option<f64>,
    contexts: Vec<Line>,
}

/// The measured points of one context length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// Tokens cached while it was measured.
    tokens: usize,
    rows: Vec<usize>,
    seconds: Vec<f64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    prompt_rows: Option<f64>,
    context: Vec<Line>,
}

/// Why a cost curve was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CostError {
    /// Not TOML, or not of a cost curve's form.
    #[error("not a cost curve: {0}")]
    Syntax(String),
    /// No point at all.
    #[error("a cost curve needs at least one context with at least one point")]
    Empty,
    /// Numbers that are not a curve.
    #[error("the cost curve at {tokens} tokens of context is not a curve: {what}")]
    NotACurve {
        /// The context.
        tokens: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The share of ranking a prompt's rows is none.
    #[error("the cost curve has prompt_rows = {found}; expected a finite number, 0 or more")]
    PromptRows {
        /// What stands there.
        found: String,
    },
}

impl CostCurve {
    /// A curve from measurements: for each context length (rising) its points `(rows, seconds)` (rows rising, from 1
    /// or more). Noise that makes more rows cheaper is lifted to the dearest point before it, so that the curve is
    /// monotone. `key` says what it holds for: model, backend, options, CPU.
    ///
    /// # Errors
    /// [`CostError`] for no points, unordered ones, or times that are not positive and finite.
    pub fn new(key: String, contexts: Vec<(usize, Vec<(usize, f64)>)>) -> Result<Self, CostError> {
        let line = |(tokens, mut points): (usize, Vec<(usize, f64)>)| {
            let mut dearest = 0.0_f64;
            for (_, seconds) in &mut points {
                // `max` would swallow a NaN, which `check` has to see.
                dearest = if *seconds < dearest { dearest } else { *seconds };
                *seconds = dearest;
            }
            let (rows, seconds) = points.into_iter().unzip();
            Line { tokens, rows, seconds }
        };
        Self::check(Raw { key, prompt_rows: None, context: contexts.into_iter().map(line).collect() })
    }

    /// Reads a curve from TOML: `key`, and one `[[context]]` with `tokens`, `rows`, `seconds` for each context.
    ///
    /// # Errors
    /// [`CostError`].
    pub fn parse(text: &str) -> Result<Self, CostError> {
        Self::check(toml::from_str(text).map_err(|error| CostError::Syntax(error.to_string()))?)
    }

    fn check(raw: Raw) -> Result<Self, CostError> {
        if raw.context.is_empty() {
            return Err(CostError::Empty);
        }
        let mut before = None;
        for line in &raw.context {
            let fault = |what| Err(CostError::NotACurve { tokens: line.tokens, what });
            if line.rows.is_empty() {
                return Err(CostError::Empty);
            }
            if line.rows.len() != line.seconds.len() {
                return fault("rows and seconds differ in length");
            }
            if line.rows[0] == 0 || !line.rows.is_sorted_by(|a, b| a < b) {
                return fault("rows must rise from 1 or more");
            }
            if !line.seconds.iter().all(|&s| s.is_finite() && s > 0.0) {
                return fault("seconds must be positive and finite");
            }
            if !line.seconds.is_sorted() {
                return fault("seconds must not fall as rows rise");
            }
            if before >= Some(line.tokens) {
                return fault("contexts must rise");
            }
            before = Some(line.tokens);
        }
        if let Some(found) = raw.prompt_rows.filter(|share| !(share.is_finite() && *share >= 0.0)) {
            return Err(CostError::PromptRows { found: found.to_string() });
        }
        Ok(Self { key: raw.key, prompt_rows: raw.prompt_rows, contexts: raw.context })
    }

    /// The curve as TOML; [`parse`](Self::parse) reads it back.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let (key, context) = (self.key.clone(), self.contexts.clone());
        toml::to_string(&Raw { key, prompt_rows: self.prompt_rows, context })
            .expect("strings and finite numbers are always TOML")
    }

    /// What it holds for: model, backend, options, CPU.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What ranking every row of a prompt adds to reading it, as a share of reading it with the last row ranked alone
    /// (0.3 is 30 % longer); none where it was not timed.
    #[must_use]
    pub fn prompt_rows(&self) -> Option<f64> {
        self.prompt_rows
    }

    /// The same curve, with what ranking every row of a prompt adds to reading it.
    ///
    /// # Errors
    /// [`CostError::PromptRows`] for a share that is negative or not finite.
    pub fn with_prompt_rows(self, share: f64) -> Result<Self, CostError> {
        Self::check(Raw { key: self.key, prompt_rows: Some(share), context: self.contexts })
    }

    /// The seconds of a pass of `rows` rows (0 counts as 1) over `context` cached tokens.
    #[must_use]
    pub fn seconds(&self, rows: usize, context: usize) -> f64 {
        let above = self.contexts.partition_point(|line| line.tokens < context);
        match (above.checked_sub(1).map(|below| &self.contexts[below]), self.contexts.get(above)) {
            (Some(low), Some(high)) => {
                let share = (context - low.tokens) as f64 / (high.tokens - low.tokens) as f64;
                low.at(rows) * (1.0 - share) + high.at(rows) * share
            }
            (Some(only), None) | (None, Some(only)) => only.at(rows),
            (None, None) => f64::INFINITY,
        }
    }
}

impl Line {
    fn at(&self, rows: usize) -> f64 {
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
        fn measurements_make_a_monotone_curve_that_survives_toml(
            times in prop::collection::vec(1e-4_f64..1.0, 1..12),
            rows in 0_usize..200,
            context in 0_usize..2000,
            share in 0.0_f64..4.0,
        ) {
            let points: Vec<_> = times.iter().enumerate().map(|(i, &t)| (1 + i * i, t)).collect();
            let twice = points.iter().map(|&(n, t)| (n, t * 2.0)).collect();
            let curve = CostCurve::new("key".into(), vec![(100, points), (1000, twice)]).unwrap();
            prop_assert_eq!(CostCurve::parse(&curve.to_toml()).unwrap(), curve.clone());
            let curve = curve.with_prompt_rows(share).unwrap();
            prop_assert!(curve.seconds(rows, context) <= curve.seconds(rows + 1, context) + 1e-12);
            prop_assert!(curve.seconds(rows, context) <= curve.seconds(rows, context + 1) + 1e-12);
            prop_assert_eq!(CostCurve::parse(&curve.to_toml()).unwrap(), curve);
        }
    }

    #[test]
    fn what_is_not_a_curve_is_refused() {
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
            assert!(matches!(curve.with_prompt_rows(share), Err(CostError::PromptRows { .. })), "{share}");
        }
    }
}
