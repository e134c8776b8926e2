//! The cost of a pass by its rows, learned while decoding.
//!
//! `seconds(rows) = time_scale * factor[bucket] * saved_curve(rows)`. Without a saved curve, `saved_curve` is 1 second. All
//! row counts share the time scale, which follows the machine within a few passes. Each bucket has its own factor, which
//! changes slowly. The cost between two buckets is interpolated.

use crate::cost::CostCurve;

/// Row counts at which costs are kept.
const BUCKET_ROWS: [usize; 24] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 25, 33, 41, 49, 65, 81, 97, 129, 257, 513];
const MAX_ROWS: usize = BUCKET_ROWS[BUCKET_ROWS.len() - 1];
/// The edges of the ranges of cached tokens. Each range has its own buckets.
const CACHED_TOKEN_EDGES: [usize; 7] = [128, 256, 512, 1024, 2048, 4096, 16384];
/// How fast the time scale follows a change: the exponent of each observed ratio.
const TIME_SCALE_RATE: f64 = 0.2;
/// The same for the factor of one bucket. A new bucket's factor changes faster.
const FACTOR_RATE: f64 = 0.06;
/// If only one row count was timed: the assumed cost of a further row, as a share of the mean cost per row.
const FIRST_SLOPE: f64 = 0.25;
/// The assumed age of a saved curve, in passes. The machine may have changed since it was timed.
const PRIOR_AGE: u64 = 64;
/// A timing also informs other row counts, as if it were older by this many passes per unit of `ln(rows)` between them.
const AGE_BY_DISTANCE: f64 = 64.0;
/// The largest factor by which each of the first two times of a row count changes its estimate. There is no median yet.
const MAX_FIRST_CORRECTION: f64 = 1.3;

/// A row count contradicts a saved curve only after so many timings.
const CONTRADICTION_TIMES: u32 = 16;
/// The largest factor between measured and saved times that does not contradict the curve. Processor frequency and other
/// programs change times by less.
const MAX_TIME_ERROR: f64 = 1.4;
/// The same for the ratio t(n) / t(1) of a row count n. The ratio depends less on the machine's speed.
const MAX_SHAPE_ERROR: f64 = 1.25;

/// The cost of one row count.
#[derive(Clone, Copy, Debug)]
struct RowBucket {
    /// The ratio of its seconds to the saved curve's at this many cached tokens, at a time scale of 1; `None` if it is not known.
    factor: Option<f64>,
    /// How often it was timed. The saved curve does not count.
    times: u32,
    /// The pass that timed it last.
    timed_at: u64,
    /// The ratios of its last two times to their predictions.
    last_ratios: [f64; 2],
}

impl RowBucket {
    /// Never timed, and no saved curve.
    const UNKNOWN: Self = Self { factor: None, times: 0, timed_at: 0, last_ratios: [1.0; 2] };
    /// As in the saved curve.
    const SAVED: Self = Self { factor: Some(1.0), ..Self::UNKNOWN };
}

type Buckets = [RowBucket; BUCKET_ROWS.len()];

/// Returns the median of `ratio` and the two before it, so that one outlier has no effect. Remembers `ratio`.
fn median_of_three(ratio: f64, last: &mut [f64; 2]) -> f64 {
    let [a, b] = *last;
    *last = [b, ratio];
    ratio.max(a.min(b)).min(a.max(b))
}

/// Scales row counts not measured in this run by the corrections of their measured neighbours. Between two neighbours, the
/// correction is interpolated over the logarithm of the rows.
///
/// If 2 and 4 rows cost more than the curve says, 3 and 8 rows probably do too. Uncorrected, they would look
/// too cheap and be chosen. A pass of one row does not inform other row counts: memory bandwidth limits it, and arithmetic
/// limits larger passes.
fn interpolate_unmeasured(buckets: &mut Buckets) {
    let log_rows = BUCKET_ROWS.map(|rows| (rows as f64).ln());
    let timed = buckets
        .map(|bucket| bucket.factor.filter(|_| bucket.times > 0).map(|factor| (factor, bucket.timed_at)));
    let measured = |index: usize| Some((log_rows[index], timed[index]?));
    for (index, bucket) in buckets.iter_mut().enumerate().skip(1) {
        let own_log_rows = log_rows[index];
        if timed[index].is_none() {
            let left = (1..index).rev().find_map(measured);
            let right = (index + 1..BUCKET_ROWS.len()).find_map(measured);
            bucket.factor = match (left, right) {
                (Some((l, (a, _))), Some((r, (b, _)))) => Some(a + (b - a) * (own_log_rows - l) / (r - l)),
                (Some((_, (factor, _))), None) | (None, Some((_, (factor, _)))) => Some(factor),
                (None, None) => return,
            };
        }
        for (other_log_rows, (_, timed_at)) in (1..BUCKET_ROWS.len()).filter_map(measured) {
            let by_distance = (AGE_BY_DISTANCE * (own_log_rows - other_log_rows).abs()) as u64;
            bucket.timed_at = bucket.timed_at.max(timed_at.saturating_sub(by_distance));
        }
    }
}

/// A row count whose measured times contradict the saved curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contradiction {
    /// Rows of the passes.
    pub rows: usize,
    /// Their seconds in the saved curve.
    pub saved: f64,
    /// Their measured seconds.
    pub measured: f64,
}

/// A running estimate of the seconds of a pass, by rows and cached tokens.
#[derive(Clone, Debug)]
pub(super) struct OnlineCostModel {
    saved: Option<CostCurve>,
    by_cached_tokens: [Option<Buckets>; CACHED_TOKEN_EDGES.len() + 1],
    time_scale: f64,
    last_ratios: [f64; 2],
    passes: u64,
}

/// An estimated cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    pub(super) seconds: f64,
    /// Passes since the timing that it is based on; `None` if there was none.
    pub(super) age: Option<u64>,
}

impl Estimate {
    pub(super) const UNKNOWN: Self = Self { seconds: 1.0, age: None };
}

impl OnlineCostModel {
    pub(super) fn new(saved: Option<CostCurve>) -> Self {
        let passes = if saved.is_some() { PRIOR_AGE } else { 0 };
        Self {
            saved,
            by_cached_tokens: [None; CACHED_TOKEN_EDGES.len() + 1],
            time_scale: 1.0,
            last_ratios: [1.0; 2],
            passes,
        }
    }

    /// The size that contradicts the saved curve the most; `None` if the curve holds, or too little was timed.
    ///
    /// Only passes over fewer than 256 cached tokens count, since a longer context rightly costs more. A size contradicts the curve
    /// by its time, or by its time compared with that of one row.
    pub(super) fn contradiction(&self) -> Option<Contradiction> {
        self.saved.as_ref()?;
        let near = CACHED_TOKEN_EDGES[1] - 1;
        let buckets = self.by_cached_tokens[..=Self::range_index(near)].iter().flatten().next_back()?;
        let ratio = |bucket: &RowBucket| {
            (bucket.times >= CONTRADICTION_TIMES)
                .then(|| bucket.factor.map(|factor| factor * self.time_scale))
                .flatten()
        };
        let one_row = ratio(&buckets[0]);
        let relative_error = |ratio: f64, limit: f64| ratio.ln().abs() / limit.ln();
        let mut worst = None;
        for (rows, bucket) in BUCKET_ROWS.into_iter().zip(buckets) {
            let Some(ratio) = ratio(bucket) else { continue };
            let shape_error = one_row.map_or(0.0, |one_row| relative_error(ratio / one_row, MAX_SHAPE_ERROR));
            let error = relative_error(ratio, MAX_TIME_ERROR).max(shape_error);
            if error > worst.map_or(1.0, |(worst, _)| worst) {
                let saved = self.saved_seconds(rows, near);
                worst = Some((error, Contradiction { rows, saved, measured: ratio * saved }));
            }
        }
        worst.map(|(_, contradiction)| contradiction)
    }

    /// The curve that the estimates started from.
    pub(super) fn saved(&self) -> Option<&CostCurve> {
        self.saved.as_ref()
    }

    fn range_index(cached_tokens: usize) -> usize {
        CACHED_TOKEN_EDGES.partition_point(|&edge| edge <= cached_tokens)
    }

    /// The buckets of this range. If it was not timed: of the nearest timed range, or of the saved curve.
    fn buckets(&self, cached_tokens: usize) -> Buckets {
        let range = Self::range_index(cached_tokens);
        let timed = self
            .by_cached_tokens
            .iter()
            .enumerate()
            .filter_map(|(other, buckets)| Some((other, buckets.as_ref()?)));
        let mut buckets = match timed.min_by_key(|(other, _)| other.abs_diff(range)) {
            Some((_, buckets)) => *buckets,
            None if self.saved.is_some() => [RowBucket::SAVED; BUCKET_ROWS.len()],
            None => [RowBucket::UNKNOWN; BUCKET_ROWS.len()],
        };
        if self.saved.is_some() {
            interpolate_unmeasured(&mut buckets);
        }
        buckets
    }

    /// The seconds of the saved curve, or 1 without one.
    fn saved_seconds(&self, rows: usize, cached_tokens: usize) -> f64 {
        self.saved.as_ref().map_or(1.0, |saved| saved.seconds(rows, cached_tokens))
    }

    /// Whether anything is known.
    pub(super) fn is_known(&self) -> bool {
        self.saved.is_some() || self.by_cached_tokens.iter().any(Option::is_some)
    }

    /// Fills `out[n]` with the cost of `n` rows for each `n` (0 counts as 1).
    pub(super) fn fill(&self, cached_tokens: usize, out: &mut [Estimate]) {
        out.fill(Estimate::UNKNOWN);
        let mut known = [(0_usize, 0.0_f64, 0_u64); BUCKET_ROWS.len()];
        let mut len = 0;
        for (rows, bucket) in BUCKET_ROWS.into_iter().zip(self.buckets(cached_tokens)) {
            if let Some(factor) = bucket.factor {
                known[len] = (rows, factor * self.saved_seconds(rows, cached_tokens), bucket.timed_at);
                len += 1;
            }
        }
        // More rows never cost less: a row count costs at most what any larger one does.
        for index in (1..len).rev() {
            known[index - 1].1 = known[index - 1].1.min(known[index].1);
        }
        let known = &known[..len];
        let (Some(first), Some(last)) = (known.first(), known.last()) else { return };
        let slope = if len == 1 {
            first.1 / first.0 as f64 * FIRST_SLOPE
        } else {
            // Over a range that at least doubles the rows, since the difference between close row counts is mostly noise.
            let from = known.iter().rev().find(|bucket| bucket.0 * 2 <= last.0).unwrap_or(first);
            (last.1 - from.1) / (last.0 - from.0) as f64
        };
        let mut right = 0;
        for (rows, estimate) in out.iter_mut().enumerate() {
            while right < len && known[right].0 < rows {
                right += 1;
            }
            let (seconds, timed_at) = match (right.checked_sub(1).map(|left| known[left]), known.get(right)) {
                (_, Some(&(bucket, seconds, timed_at))) if bucket == rows => (seconds, Some(timed_at)),
                (Some((r0, s0, timed_at0)), Some(&(r1, s1, timed_at1))) => {
                    let share = (rows - r0) as f64 / (r1 - r0) as f64;
                    (s0 + (s1 - s0) * share, Some(timed_at0.max(timed_at1)))
                }
                (None, Some(&(_, seconds, timed_at))) => (seconds, Some(timed_at)),
                (Some((r0, s0, _)), None) => (s0 + slope * (rows - r0) as f64, None),
                (None, None) => return,
            };
            *estimate =
                Estimate { seconds: seconds * self.time_scale, age: timed_at.map(|at| self.passes - at) };
        }
    }

    /// Learns that a pass of `rows` rows over `cached_tokens` cached tokens took `seconds`. Ignores times that are not positive.
    pub(super) fn learn(&mut self, rows: usize, cached_tokens: usize, seconds: f64) {
        if !(seconds.is_finite() && seconds > 0.0) {
            return;
        }
        self.passes += 1;
        let mut buckets = self.buckets(cached_tokens);
        let index = BUCKET_ROWS.partition_point(|&bucket| bucket < rows).min(BUCKET_ROWS.len() - 1);
        let bucket_rows = BUCKET_ROWS[index];
        let saved = self.saved_seconds(bucket_rows, cached_tokens);
        let any_known = buckets.iter().any(|bucket| bucket.factor.is_some());
        let ratio = any_known.then(|| seconds / self.predict(rows, cached_tokens));
        let predicted = self.predict(bucket_rows, cached_tokens);
        let bucket = &mut buckets[index];
        bucket.timed_at = self.passes;
        match (ratio, &mut bucket.factor) {
            (None, factor) => {
                *factor = Some(seconds / saved);
                bucket.times = 1;
            }
            // The first time of this bucket: scales the estimate for the bucket's rows by the ratio of this pass.
            (Some(ratio), factor @ None) => {
                *factor = Some(predicted * ratio / self.time_scale / saved);
                bucket.times = 1;
            }
            // The first pass shows the time scale of the machine. Later ones also show how row counts compare.
            (Some(ratio), _) if self.saved.is_some() && self.passes == PRIOR_AGE + 1 => {
                self.time_scale *= ratio.clamp(0.5, 2.0);
            }
            (Some(ratio), Some(factor)) => {
                // The median is over passes of the same size: among passes of other sizes, a rare size would always be an
                // outlier.
                let median = median_of_three(ratio, &mut bucket.last_ratios);
                let correction = if bucket.times < 2 {
                    ratio.clamp(1.0 / MAX_FIRST_CORRECTION, MAX_FIRST_CORRECTION)
                } else {
                    median
                };
                *factor *= correction.powf(FACTOR_RATE.max(1.0 / f64::from(bucket.times + 1)));
                bucket.times = bucket.times.saturating_add(1);
                self.time_scale *= median_of_three(ratio, &mut self.last_ratios).powf(TIME_SCALE_RATE);
            }
        }
        self.by_cached_tokens[Self::range_index(cached_tokens)] = Some(buckets);
    }

    fn predict(&self, rows: usize, cached_tokens: usize) -> f64 {
        let mut out = [Estimate::UNKNOWN; MAX_ROWS + 1];
        let rows = rows.min(MAX_ROWS);
        self.fill(cached_tokens, &mut out[..=rows]);
        out[rows].seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The model after many rounds of nine plain passes and one of 2, 3 or 4 rows.
    fn after(plain: f64, wider: f64) -> OnlineCostModel {
        let saved = |rows: usize| 0.008 + 0.002 * rows as f64;
        let points = [1, 2, 3, 4, 6, 8, 12, 16].map(|rows| (rows, saved(rows)));
        let mut cost = OnlineCostModel::new(CostCurve::new(String::new(), vec![(32, points.to_vec())]).ok());
        for pass in 0..600 {
            let rows = if pass % 10 == 9 { 2 + pass / 10 % 3 } else { 1 };
            cost.learn(rows, 50, saved(rows) * if rows == 1 { plain } else { wider });
        }
        cost
    }

    #[test]
    fn a_saved_curve_is_contradicted_by_other_times_and_by_another_shape() {
        for (plain, wider, contradicted) in [
            (1.0, 1.0, false),
            (1.2, 1.2, false),
            (0.85, 0.85, false),
            (0.4, 0.4, true),
            (2.5, 2.5, true),
            (1.0, 1.5, true),
            (1.3, 0.95, true),
        ] {
            let found = after(plain, wider).contradiction();
            assert_eq!(found.is_some(), contradicted, "{plain}, {wider}: {found:?}");
        }
        let found = after(0.4, 0.4).contradiction().unwrap();
        assert!(found.measured < 0.5 * found.saved, "{found:?}");
        assert_eq!(OnlineCostModel::new(None).contradiction(), None, "nothing is saved");
        let mut few = after(1.0, 1.0);
        few.by_cached_tokens = [None; CACHED_TOKEN_EDGES.len() + 1];
        (0..5).for_each(|_| few.learn(1, 50, 0.1));
        assert_eq!(few.contradiction(), None, "too little was timed");
    }

    #[test]
    fn unmeasured_sizes_follow_their_measured_neighbours() {
        for (plain, wider) in [(1.0, 1.0), (1.0, 1.5), (0.7, 1.0), (1.3, 1.0), (2.0, 2.0)] {
            let cost = after(plain, wider);
            for (rows, factor) in [(1, plain), (2, wider), (4, wider), (6, wider), (12, wider), (33, wider)] {
                let ratio = cost.predict(rows, 50) / ((0.008 + 0.002 * rows as f64) * factor);
                assert!(
                    (0.9..1.1).contains(&ratio),
                    "plain passes take {plain} and wider ones {wider} of the saved curve: estimated {ratio:.2} of the \
                     time of {rows} rows"
                );
            }
        }
    }
}
