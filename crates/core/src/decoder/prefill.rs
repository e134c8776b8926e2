//! How many rows of prompts a pass reads while other sessions decode.

use std::time::Duration;

/// Rows of the first pass that reads prompts and decodes, before any pass was timed: few enough for every machine.
const FIRST: usize = 16;

/// The weight of a new measurement in the running mean.
const WEIGHT: f64 = 0.25;

/// Learns how long a row of a prompt takes.
///
/// A pass has `max_inter_token / seconds_per_row` rows. The time per row falls as chunks grow, so chunks grow from pass to pass
/// until a pass takes about `max_inter_token`.
#[derive(Debug, Default)]
pub(super) struct PrefillPace {
    /// The target time of a pass that also decodes; `None` sets no limit.
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

    /// The most rows of a pass that reads prompts and decodes.
    pub(super) fn rows(&self) -> usize {
        match (self.max_inter_token, self.seconds_per_row) {
            (None, _) => usize::MAX,
            (Some(_), None) => FIRST,
            (Some(time), Some(row)) => (time.as_secs_f64() / row) as usize,
        }
    }
}
