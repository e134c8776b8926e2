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

    /// The most prompt rows of a pass in which `decoding` sessions decode. Each of these has a row in the pass too. Its draft nodes
    /// are not counted: they are not drafted yet.
    pub(super) fn prompt_rows(&self, decoding: usize) -> usize {
        let rows = match (self.max_inter_token, self.seconds_per_row) {
            (None, _) => usize::MAX,
            (Some(_), None) => FIRST,
            (Some(time), Some(row)) => (time.as_secs_f64() / row) as usize,
        };
        rows.saturating_sub(decoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_decode_take_their_share_of_the_time() {
        let mut pace =
            PrefillPace { max_inter_token: Some(Duration::from_millis(50)), seconds_per_row: None };
        assert_eq!(pace.prompt_rows(4), FIRST - 4);
        pace.learn(40, Duration::from_millis(20));
        assert_eq!([0, 16, 99, 200].map(|decoding| pace.prompt_rows(decoding)), [100, 84, 1, 0]);
        pace.max_inter_token = None;
        assert!(pace.prompt_rows(16) > 1 << 30);
    }
}
