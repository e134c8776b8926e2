//! What a pass with drafts leaves to the plain ones behind it.
//!
//! The faster passes follow each other, the more of the weights do they find in a cache that others use too. A pass with
//! drafts is slower, so that the next plain ones are too: on two cores of a Xeon, the first by 8 %, the second to fourth by
//! 4 to 2 %. That is a cost of the draft, and what drafts are held against is the plain pass without it.

/// How many plain passes behind one with drafts are told apart; later ones are as in plain decoding.
const REACH: usize = 5;
/// How fast it is learned by how much they are slower.
const RATE: f64 = 0.05;
/// What is kept of older passes with drafts at each new one.
const MEMORY: f64 = 0.98;
/// The passes with drafts that are held to have left nothing, before any was seen.
const PRIOR: f64 = 4.0;
/// The most by which one pass is believed to be slower, and half of it by which it is faster.
const MOST: f64 = 1.0;

/// A running estimate of it.
#[derive(Clone, Debug)]
pub(crate) struct Wake {
    /// Plain passes since the last with drafts.
    behind: usize,
    /// By how much the first of them takes longer, and the next, over a plain pass in plain decoding.
    slower: [f64; REACH],
    /// The sum of what passes with drafts left, in plain passes, and their number; older ones fade.
    left: f64,
    drafts: f64,
}

impl Wake {
    pub(crate) fn new() -> Self {
        Self { behind: REACH, slower: [0.0; REACH], left: 0.0, drafts: PRIOR }
    }

    /// What one pass with drafts costs the plain ones behind it, in plain passes.
    pub(crate) fn of_a_draft(&self) -> f64 {
        (self.left / self.drafts).max(0.0)
    }

    /// Plain passes since the last with drafts, as far as they are told apart.
    pub(crate) fn behind(&self) -> usize {
        self.behind
    }

    /// A pass with drafts was made.
    pub(crate) fn drafted(&mut self) {
        self.behind = 0;
        self.left *= MEMORY;
        self.drafts = self.drafts * MEMORY + 1.0;
    }

    /// A plain pass took `seconds`; in plain decoding it is held to take `expected`. Gives what it would have taken there.
    pub(crate) fn plain(&mut self, seconds: f64, expected: f64) -> f64 {
        let Some(slower) = self.slower.get_mut(self.behind) else { return seconds };
        self.behind += 1;
        let ratio = seconds / expected;
        if ratio.is_finite() {
            *slower += ((ratio - 1.0).clamp(-MOST / 2.0, MOST) - *slower) * RATE;
        }
        self.left += *slower;
        seconds / (1.0 + slower.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_draft_leaves_is_its_cost_and_not_that_of_plain_decoding() {
        let mut wake = Wake::new();
        for _ in 0..300 {
            wake.drafted();
            for behind in 0..9 {
                let seconds = 0.01 * (1.0 + [0.08, 0.04, 0.0].get(behind).copied().unwrap_or(0.0));
                let plain = wake.plain(seconds, 0.01);
                assert!((0.00999..=seconds).contains(&plain), "{plain} of {seconds}");
            }
        }
        assert!((wake.of_a_draft() - 0.12).abs() < 0.02, "{}", wake.of_a_draft());
        // In a row they leave it once.
        for _ in 0..200 {
            wake.drafted();
        }
        assert!(wake.of_a_draft() < 0.01, "{}", wake.of_a_draft());
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        let mut wake = Wake::new();
        assert_eq!(wake.plain(0.02, 0.01), 0.02, "no draft came before");
        wake.drafted();
        for _ in 0..REACH {
            assert!(wake.plain(0.01, 0.0).is_finite());
        }
        assert!(wake.of_a_draft() == 0.0);
    }
}
