//! The cost of a pass, learned while it runs.

use crate::CostCurve;

/// Row counts at which costs are kept; between two of them a cost is interpolated.
const KNOTS: [usize; 24] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 25, 33, 41, 49, 65, 81, 97, 129, 257, 513];
/// Contexts from which costs are kept apart.
const CONTEXTS: [usize; 4] = [384, 1024, 4096, 16384];
/// How fast the speed of the machine is followed.
const SPEED_RATE: f64 = 0.2;
/// How fast the cost of one number of rows is corrected against the others.
const SHAPE_RATE: f64 = 0.06;
/// What a further row is assumed to cost, in single rows, while nothing but single rows was timed.
const FIRST_SLOPE: f64 = 0.25;

#[derive(Clone, Copy, Debug)]
struct Knot {
    /// Seconds at the reference speed; 0 where never timed.
    seconds: f64,
    times: u32,
    /// The step at which it was last timed.
    at: u64,
    /// What the last two times were, in predictions.
    last: [f64; 2],
}

/// A knot that was never timed.
const UNKNOWN: Knot = Knot { seconds: 0.0, times: 0, at: 0, last: [1.0; 2] };

/// The middle one of a ratio and the two before it, so that one outlier counts for nothing; remembers it.
fn median(ratio: f64, last: &mut [f64; 2]) -> f64 {
    let [a, b] = *last;
    *last = [b, ratio];
    ratio.max(a.min(b)).min(a.max(b))
}

/// A running estimate of seconds by rows, one line for each range of contexts.
///
/// Two time scales: a speed that all row counts share follows the machine within a few steps; each row count's own
/// cost, against the others', moves slowly. Single outliers are dropped by a median over three steps.
#[derive(Clone, Debug)]
pub(crate) struct LiveCost {
    saved: Option<CostCurve>,
    lines: [Option<[Knot; KNOTS.len()]>; CONTEXTS.len() + 1],
    speed: f64,
    last: [f64; 2],
    steps: u64,
}

/// A cost, and how old the timing is that it rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) seconds: f64,
    /// Steps since it was timed; none where it never was.
    pub(crate) age: Option<u64>,
}

impl LiveCost {
    pub(crate) fn new(saved: Option<CostCurve>) -> Self {
        Self { saved, lines: [None; CONTEXTS.len() + 1], speed: 1.0, last: [1.0; 2], steps: 0 }
    }

    fn range(context: usize) -> usize {
        CONTEXTS.partition_point(|&edge| edge <= context)
    }

    /// The line of this context, or the nearest that was timed.
    fn line(&self, context: usize) -> Option<&[Knot; KNOTS.len()]> {
        let range = Self::range(context);
        (0..self.lines.len())
            .filter(|&other| self.lines[other].is_some())
            .min_by_key(|&other| other.abs_diff(range))
            .and_then(|other| self.lines[other].as_ref())
    }

    /// Whether anything is known.
    pub(crate) fn is_known(&self) -> bool {
        self.saved.is_some() || self.lines.iter().any(Option::is_some)
    }

    /// Fills `out[n]` with the cost of n rows, for all n below its length (0 counts as 1).
    pub(crate) fn fill(&self, context: usize, out: &mut [Estimate]) {
        let unknown = Estimate { seconds: 1.0, age: None };
        out.fill(unknown);
        let Some(line) = self.line(context) else {
            if let Some(saved) = &self.saved {
                for (rows, estimate) in out.iter_mut().enumerate() {
                    *estimate = Estimate { seconds: saved.seconds(rows, context) * self.speed, age: Some(0) };
                }
            }
            return;
        };
        // More rows never cost less: the cheapest reading at as many rows or more holds.
        let mut timed = [(0_usize, 0.0_f64, 0_u64); KNOTS.len()];
        let mut len = 0;
        for (rows, knot) in KNOTS.iter().zip(line) {
            if knot.times > 0 {
                timed[len] = (*rows, knot.seconds, knot.at);
                len += 1;
            }
        }
        for index in (1..len).rev() {
            timed[index - 1].1 = timed[index - 1].1.min(timed[index].1);
        }
        let timed = &timed[..len];
        let (Some(first), Some(last)) = (timed.first(), timed.last()) else { return };
        let slope = match timed.len() {
            1 => first.1 / first.0 as f64 * FIRST_SLOPE,
            _ => {
                // Over the last stretch that at least doubles the rows, so that noise at close knots is no slope.
                let from = timed.iter().rev().find(|knot| knot.0 * 2 <= last.0).unwrap_or(first);
                (last.1 - from.1) / (last.0 - from.0) as f64
            }
        };
        let mut right = 0;
        for (rows, estimate) in out.iter_mut().enumerate() {
            while right < timed.len() && timed[right].0 < rows {
                right += 1;
            }
            let (seconds, age) = match (right.checked_sub(1).map(|left| timed[left]), timed.get(right)) {
                (_, Some(&(knot, seconds, at))) if knot == rows => (seconds, Some(at)),
                (Some((r0, s0, at0)), Some(&(r1, s1, at1))) => {
                    let share = (rows - r0) as f64 / (r1 - r0) as f64;
                    (s0 + (s1 - s0) * share, Some(at0.max(at1)))
                }
                (None, Some(&(_, seconds, at))) => (seconds, Some(at)),
                (Some((r0, s0, _)), None) => (s0 + slope * (rows - r0) as f64, None),
                (None, None) => (f64::INFINITY, None),
            };
            let seconds = seconds * self.speed;
            *estimate = Estimate { seconds, age: age.map(|at| self.steps - at) };
        }
    }

    /// Learns that a pass of `rows` rows over `context` tokens took `seconds`. Times that are not positive are ignored.
    pub(crate) fn learn(&mut self, rows: usize, context: usize, seconds: f64) {
        if !(seconds.is_finite() && seconds > 0.0) {
            return;
        }
        self.steps += 1;
        let range = Self::range(context);
        if self.lines[range].is_none() {
            let start = self.line(context).copied();
            self.lines[range] = Some(start.unwrap_or_else(|| self.saved_line(context)));
        }
        let known = self.lines[range].iter().flatten().any(|knot| knot.times > 0);
        let at = KNOTS.partition_point(|&knot| knot < rows).min(KNOTS.len() - 1);
        let (predicted, at_knot) = (self.predict(rows, context), self.predict(KNOTS[at], context));
        let (speed, steps) = (self.speed, self.steps);
        let Some(line) = &mut self.lines[range] else { return };
        let knot = &mut line[at];
        if !known {
            *knot = Knot { seconds, times: 1, at: steps, ..UNKNOWN };
            self.speed = 1.0;
            return;
        }
        let ratio = seconds / predicted;
        if knot.times == 0 {
            // The first time here: as it is, brought from the rows to the knot by the curve so far.
            *knot = Knot { seconds: at_knot * ratio / speed, times: 1, at: steps, ..UNKNOWN };
            return;
        }
        let ratio = ratio.clamp(0.2, 5.0);
        // A size is held against its own past, or a single pass of it among others would always be an outlier. A cost timed
        // once may be one: it is corrected faster.
        let own = median(ratio, &mut knot.last);
        knot.seconds *= own.powf(SHAPE_RATE.max(0.5 / f64::from(knot.times + 1)));
        knot.times = knot.times.saturating_add(1);
        knot.at = steps;
        self.speed *= median(ratio, &mut self.last).powf(SPEED_RATE);
    }

    fn saved_line(&self, context: usize) -> [Knot; KNOTS.len()] {
        let mut line = [UNKNOWN; KNOTS.len()];
        if let Some(saved) = &self.saved {
            for (knot, rows) in line.iter_mut().zip(KNOTS) {
                *knot = Knot { seconds: saved.seconds(rows, context), times: 4, at: self.steps, ..UNKNOWN };
            }
        }
        line
    }

    fn predict(&self, rows: usize, context: usize) -> f64 {
        let mut out = [Estimate { seconds: 0.0, age: None }; 514];
        let rows = rows.min(513);
        self.fill(context, &mut out[..=rows]);
        out[rows].seconds
    }
}
