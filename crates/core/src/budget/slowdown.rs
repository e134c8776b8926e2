//! How much a pass with drafts slows the plain passes after it.
//!
//! Consecutive plain passes find more of the weights in the processor's last-level cache. A pass with draft nodes evicts some of
//! them, so the next plain passes are slower. On two cores of a Xeon, the next four were slower by 7, 3, 3 and 1 %
//! (docs/notes/drafting-sizes.md).
//! The budget counts this slowdown as a cost of the drafted pass, and compares that cost with the cost of an undisturbed plain pass.

/// How many plain passes after a drafted pass have a slowdown. Later ones count as undisturbed.
const TRACKED: usize = 5;
/// The weight of one observation in a running estimate.
const RATE: f64 = 0.05;

#[derive(Clone, Debug)]
pub(super) struct PostDraftSlowdown {
    /// Plain passes since the last drafted pass, at most [`TRACKED`].
    plain_passes: usize,
    /// By plain passes since the last drafted pass: the relative slowdown over undisturbed plain decoding.
    slowdown: [f64; TRACKED],
    /// The sum of the slowdowns since the last drafted pass, as a multiple of a plain pass.
    since_drafted_pass: f64,
    /// The running mean of that sum over drafted passes.
    per_drafted_pass: f64,
}

impl PostDraftSlowdown {
    pub(super) fn new() -> Self {
        Self {
            plain_passes: TRACKED,
            slowdown: [0.0; TRACKED],
            since_drafted_pass: 0.0,
            per_drafted_pass: 0.0,
        }
    }

    /// The time that a drafted pass adds to later plain passes, as a multiple of a plain pass.
    pub(super) fn per_drafted_pass(&self) -> f64 {
        self.per_drafted_pass.max(0.0)
    }

    /// Plain passes since the last drafted pass, at most [`TRACKED`].
    pub(super) fn plain_passes(&self) -> usize {
        self.plain_passes
    }

    /// Records a pass with draft nodes.
    pub(super) fn record_drafted_pass(&mut self) {
        self.per_drafted_pass += (self.since_drafted_pass - self.per_drafted_pass) * RATE;
        self.since_drafted_pass = 0.0;
        self.plain_passes = 0;
    }

    /// Records a plain pass of `seconds`, expected to take `expected` if undisturbed. Returns its time without the slowdown.
    pub(super) fn record_plain(&mut self, seconds: f64, expected: f64) -> f64 {
        let Some(slowdown) = self.slowdown.get_mut(self.plain_passes) else { return seconds };
        self.plain_passes += 1;
        let ratio = seconds / expected;
        if ratio.is_finite() {
            // Larger differences are disturbances of the machine, not an effect of the drafted pass.
            *slowdown += (ratio.clamp(0.5, 2.0) - 1.0 - *slowdown) * RATE;
        }
        self.since_drafted_pass += *slowdown;
        seconds / (1.0 + slowdown.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slowdown_is_charged_to_the_draft_and_not_to_plain_decoding() {
        let mut slowdown = PostDraftSlowdown::new();
        for _ in 0..300 {
            slowdown.record_drafted_pass();
            for passes in 0..9 {
                let seconds = 0.01 * (1.0 + [0.08, 0.04, 0.0].get(passes).copied().unwrap_or(0.0));
                let plain = slowdown.record_plain(seconds, 0.01);
                assert!((0.00999..=seconds).contains(&plain), "{plain} of {seconds}");
            }
        }
        assert!((slowdown.per_drafted_pass() - 0.12).abs() < 0.02, "{}", slowdown.per_drafted_pass());
        // Consecutive drafted passes cause it once.
        for _ in 0..200 {
            slowdown.record_drafted_pass();
        }
        assert!(slowdown.per_drafted_pass() < 0.01, "{}", slowdown.per_drafted_pass());
    }

    #[test]
    fn without_a_slowdown_nothing_is_charged() {
        let mut slowdown = PostDraftSlowdown::new();
        assert_eq!(slowdown.record_plain(0.02, 0.01), 0.02, "no draft came before");
        slowdown.record_drafted_pass();
        for _ in 0..TRACKED {
            assert!(slowdown.record_plain(0.01, 0.0).is_finite());
        }
        assert!(slowdown.per_drafted_pass() == 0.0);
    }
}
