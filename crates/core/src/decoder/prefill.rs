//! How many rows of prompts a pass reads while other sessions decode.

use std::time::Duration;

/// Rows of the first pass of both kinds, before anything is known: few enough for every machine.
const FIRST: usize = 16;

/// The weight of a new measurement in the running mean.
const WEIGHT: f64 = 0.25;

/// Learns how long a row of a prompt takes.
///
/// A pass of few rows takes longer for each row than one of many. The rows of a pass follow from the mean, so chunks grow
/// until a pass takes as long as it may.
#[derive(Debug, Default)]
pub(super) struct PrefillPace {
    /// The longest pass; `None` sets no limit.
    pub(super) max_inter_token: Option<Duration>,
    /// `None` before the first measurement.
    seconds_per_row: Option<f64>,
}

impl PrefillPace {
    /// Takes note of a pass that read prompts.
    pub(super) fn learn(&mut self, rows: usize, forward: Duration) {
        let new = forward.as_secs_f64() / rows.max(1) as f64;
        let old = self.seconds_per_row.unwrap_or(new);
        self.seconds_per_row = Some(old + WEIGHT * (new - old));
    }

    /// The most prompt rows of a pass that also decodes.
    pub(super) fn rows(&self) -> usize {
        match (self.max_inter_token, self.seconds_per_row) {
            (None, _) => usize::MAX,
            (Some(_), None) => FIRST,
            (Some(time), Some(row)) => (time.as_secs_f64() / row) as usize,
        }
    }
}
