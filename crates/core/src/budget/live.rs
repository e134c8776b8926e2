//! The cost of a pass, learned while it runs.

use crate::CostCurve;

/// Row counts at which costs are kept; between two of them a cost is interpolated.
const KNOTS: [usize; 24] =
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 25, 33, 41, 49, 65, 81, 97, 129, 257, 513];
/// Contexts from which costs are kept apart.
const CONTEXTS: [usize; 7] = [128, 256, 512, 1024, 2048, 4096, 16384];
/// How fast the speed of the machine is followed.
const SPEED_RATE: f64 = 0.2;
/// How fast the cost of one number of rows is corrected against the others.
const SHAPE_RATE: f64 = 0.06;
/// What a further row is assumed to cost, in single rows, while nothing but single rows was timed.
const FIRST_SLOPE: f64 = 0.25;

#[derive(Clone, Copy, Debug)]
struct Knot {
    /// Seconds at the reference speed, as a multiple of what the saved curve has at this context (of one second, if there is
    /// none); none where it is not known.
    factor: Option<f64>,
    /// How often it was timed by this estimate, not by the saved curve that it may come from.
    times: u32,
    /// The step at which it was last timed.
    at: u64,
    /// What the last two times were, in predictions.
    last: [f64; 2],
}

/// A knot that was never timed.
const UNKNOWN: Knot = Knot { factor: None, times: 0, at: 0, last: [1.0; 2] };
/// A knot that is as the saved curve has it.
const SAVED: Knot = Knot { factor: Some(1.0), ..UNKNOWN };

/// The steps that a saved curve is old when it is taken up: it was timed at another moment, of a machine that may have been
/// in another state.
const HEARSAY: u64 = 64;
/// By how many steps a size's timing counts as older for one that has e times its rows, or an e-th.
const FURTHER: f64 = 64.0;
/// The most by which the first two times of a size move it, either way: they have no neighbours to be judged by.
const FIRST_MOVE: f64 = 1.3;

/// The middle one of a ratio and the two before it, so that one outlier counts for nothing; remembers it.
fn median(ratio: f64, last: &mut [f64; 2]) -> f64 {
    let [a, b] = *last;
    *last = [b, ratio];
    ratio.max(a.min(b)).min(a.max(b))
}

/// Corrects the knots of a saved curve that were not timed since as those around them were that are, between two of these in
/// proportion to the logarithm of the rows: what made 2 and 4 rows dearer than the curve has them makes 3, and 8, dearer too.
/// Left as they are they would look cheap beside every size that was corrected, and be chosen for it. A pass of one row
/// tells nothing of this: it is bound by memory where more rows are bound by arithmetic.
fn inherit(line: &mut [Knot; KNOTS.len()]) {
    let logs = KNOTS.map(|rows| (rows as f64).ln());
    let timed = line.map(|knot| knot.factor.filter(|_| knot.times > 0).map(|factor| (factor, knot.at)));
    let place = |index: usize| Some((logs[index], timed[index]?));
    for (index, knot) in line.iter_mut().enumerate().skip(1) {
        let here = logs[index];
        if timed[index].is_none() {
            let left = (1..index).rev().find_map(place);
            let right = (index + 1..KNOTS.len()).find_map(place);
            knot.factor = match (left, right) {
                (Some((l, (a, _))), Some((r, (b, _)))) => Some(a + (b - a) * (here - l) / (r - l)),
                (Some((_, (factor, _))), None) | (None, Some((_, (factor, _)))) => Some(factor),
                (None, None) => return,
            };
        }
        for (there, (_, at)) in (1..KNOTS.len()).filter_map(place) {
            knot.at = knot.at.max(at.saturating_sub((FURTHER * (here - there).abs()) as u64));
        }
    }
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
        let steps = if saved.is_some() { HEARSAY } else { 0 };
        Self { saved, lines: [None; CONTEXTS.len() + 1], speed: 1.0, last: [1.0; 2], steps }
    }

    fn range(context: usize) -> usize {
        CONTEXTS.partition_point(|&edge| edge <= context)
    }

    /// The line of this context, or the nearest that was timed, or what was saved.
    fn line(&self, context: usize) -> [Knot; KNOTS.len()] {
        let range = Self::range(context);
        let timed = self.lines.iter().enumerate().filter_map(|(other, line)| Some((other, line.as_ref()?)));
        let mut line = match timed.min_by_key(|(other, _)| other.abs_diff(range)) {
            Some((_, line)) => *line,
            None => [if self.saved.is_some() { SAVED } else { UNKNOWN }; KNOTS.len()],
        };
        if self.saved.is_some() {
            inherit(&mut line);
        }
        line
    }

    /// What a knot's factor is of.
    fn base(&self, rows: usize, context: usize) -> f64 {
        self.saved.as_ref().map_or(1.0, |saved| saved.seconds(rows, context))
    }

    /// Whether anything is known.
    pub(crate) fn is_known(&self) -> bool {
        self.saved.is_some() || self.lines.iter().any(Option::is_some)
    }

    /// Fills `out[n]` with the cost of n rows, for all n below its length (0 counts as 1).
    pub(crate) fn fill(&self, context: usize, out: &mut [Estimate]) {
        let unknown = Estimate { seconds: 1.0, age: None };
        out.fill(unknown);
        // More rows never cost less: the cheapest reading at as many rows or more holds.
        let mut timed = [(0_usize, 0.0_f64, 0_u64); KNOTS.len()];
        let mut len = 0;
        for (rows, knot) in KNOTS.into_iter().zip(self.line(context)) {
            if let Some(factor) = knot.factor {
                timed[len] = (rows, factor * self.base(rows, context), knot.at);
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
        let mut line = self.line(context);
        let known = line.iter().any(|knot| knot.factor.is_some());
        let at = KNOTS.partition_point(|&knot| knot < rows).min(KNOTS.len() - 1);
        let (predicted, at_knot) = (self.predict(rows, context), self.predict(KNOTS[at], context));
        let base = self.base(KNOTS[at], context);
        self.speed *= self.correct(&mut line[at], (seconds, base), known.then_some((predicted, at_knot)));
        self.lines[range] = Some(line);
    }

    /// Corrects a knot of `base` seconds by a pass of its size that took `seconds`; `predicted` is what the pass and the knot
    /// were held to take, if anything is known. Gives what the speed of the machine is to be multiplied by.
    fn correct(
        &mut self,
        knot: &mut Knot,
        (seconds, base): (f64, f64),
        predicted: Option<(f64, f64)>,
    ) -> f64 {
        knot.at = self.steps;
        let Some((predicted, at_knot)) = predicted else {
            (knot.factor, knot.times) = (Some(seconds / base), 1);
            return 1.0;
        };
        let ratio = seconds / predicted;
        let Some(factor) = &mut knot.factor else {
            // The first time here: as it is, brought from the rows to the knot by the curve so far.
            (knot.factor, knot.times) = (Some(at_knot * ratio / self.speed / base), 1);
            return 1.0;
        };
        let ratio = ratio.clamp(0.2, 5.0);
        if self.saved.is_some() && self.steps == HEARSAY + 1 {
            // The first pass tells how fast the machine is now; later ones, what sizes cost beside each other.
            return ratio.clamp(0.5, 2.0);
        }
        // A size is held against its own past, or a single pass of it among others would always be an outlier. What is held
        // counts as one time more than there were.
        let middle = median(ratio, &mut knot.last);
        let own = if knot.times < 2 { ratio.clamp(1.0 / FIRST_MOVE, FIRST_MOVE) } else { middle };
        *factor *= own.powf(SHAPE_RATE.max(1.0 / f64::from(knot.times + 2)));
        knot.times = knot.times.saturating_add(1);
        median(ratio, &mut self.last).powf(SPEED_RATE)
    }

    fn predict(&self, rows: usize, context: usize) -> f64 {
        let mut out = [Estimate { seconds: 0.0, age: None }; 514];
        let rows = rows.min(513);
        self.fill(context, &mut out[..=rows]);
        out[rows].seconds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nine plain passes, then one of 2, 3 or 4 rows, over and over.
    fn after(plain: f64, wider: f64) -> LiveCost {
        let saved = |rows: usize| 0.008 + 0.002 * rows as f64;
        let points = [1, 2, 3, 4, 6, 8, 12, 16].map(|rows| (rows, saved(rows)));
        let mut cost = LiveCost::new(CostCurve::new(String::new(), vec![(32, points.to_vec())]).ok());
        for pass in 0..600 {
            let rows = if pass % 10 == 9 { 2 + pass / 10 % 3 } else { 1 };
            cost.learn(rows, 50, saved(rows) * if rows == 1 { plain } else { wider });
        }
        cost
    }

    #[test]
    fn a_size_that_was_not_timed_is_held_to_be_as_dear_as_those_beside_it_became() {
        for (plain, wider) in [(1.0, 1.0), (1.0, 1.5), (0.7, 1.0), (1.3, 1.0), (2.0, 2.0)] {
            let cost = after(plain, wider);
            for (rows, factor) in [(1, plain), (2, wider), (4, wider), (6, wider), (12, wider), (33, wider)] {
                let ratio = cost.predict(rows, 50) / ((0.008 + 0.002 * rows as f64) * factor);
                assert!(
                    (0.9..1.1).contains(&ratio),
                    "{plain}, {wider}: {rows} rows at {ratio:.2} of what they take"
                );
            }
        }
    }
}
