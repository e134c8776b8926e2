//! Rates and speed-ups with confidence intervals.
//!
//! A figure is a ratio of sums over prompts. Each prompt counts with one round: a rate uses the round with the median pace, a
//! speed-up the round with the median ratio of the two arms. Two arms answer a prompt shortly after each other in each
//! round, so a slow round of the machine slows both and does not change their ratio. Intervals are 95 % bootstrap intervals
//! (Efron 1979): prompts, and rounds within them, are resampled with replacement a thousand times.

use crate::results::Estimate;

/// The number of resamples.
const RESAMPLES: usize = 1000;

/// The measurements of one arm on one prompt by round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rounds {
    /// Decoded tokens, `[rounds]`.
    pub tokens: Vec<f64>,
    /// Seconds of decoding, `[rounds]`.
    pub seconds: Vec<f64>,
}

impl Rounds {
    /// The round with the median seconds per token (the faster of the middle two); none without rounds.
    #[must_use]
    pub fn median(&self) -> Option<usize> {
        self.median_of(&(0..self.count()).collect::<Vec<_>>())
    }

    /// The round with the median speed-up over `baseline` on the same prompt (the lower of the middle two); none if no round
    /// has both.
    #[must_use]
    pub fn median_ratio_round(&self, baseline: &Self) -> Option<usize> {
        self.median_ratio_round_of(baseline, &(0..self.count()).collect::<Vec<_>>())
    }

    fn count(&self) -> usize {
        self.seconds.len().min(self.tokens.len())
    }

    /// Seconds per token.
    fn pace(&self, round: usize) -> f64 {
        self.seconds[round] / self.tokens[round].max(f64::MIN_POSITIVE)
    }

    fn median_of(&self, rounds: &[usize]) -> Option<usize> {
        middle(rounds.to_vec(), |round| self.pace(round))
    }

    fn median_ratio_round_of(&self, baseline: &Self, rounds: &[usize]) -> Option<usize> {
        let both = rounds.iter().copied().filter(|&round| round < self.count().min(baseline.count()));
        middle(both.collect(), |round| baseline.pace(round) / self.pace(round))
    }

    /// Adds a round's tokens and seconds.
    fn add_to(&self, sums: &mut (f64, f64), round: usize) {
        sums.0 += self.tokens[round];
        sums.1 += self.seconds[round];
    }
}

/// The round with the median `key` (the lower of the middle two); none without rounds.
fn middle(mut rounds: Vec<usize>, key: impl Fn(usize) -> f64) -> Option<usize> {
    rounds.sort_by(|&a, &b| key(a).total_cmp(&key(b)));
    rounds.get(rounds.len().checked_sub(1)? / 2).copied()
}

/// Tokens per second of an arm over prompts.
#[must_use]
pub fn rate(prompts: &[Rounds]) -> Estimate {
    estimate(prompts, |resample| {
        let mut sums = (0.0, 0.0);
        for (prompt, rounds) in resample {
            let prompt = &prompts[*prompt];
            if let Some(round) = prompt.median_of(rounds) {
                prompt.add_to(&mut sums, round);
            }
        }
        sums.0 / sums.1
    })
}

/// The decoding speed of an arm over that of `baseline`, on the same prompts in the same order.
#[must_use]
pub fn speedup(arm: &[Rounds], baseline: &[Rounds]) -> Estimate {
    let paired = &arm[..arm.len().min(baseline.len())];
    estimate(paired, |resample| {
        let (mut sums, mut base_sums) = ((0.0, 0.0), (0.0, 0.0));
        for (prompt, rounds) in resample {
            let (prompt, base) = (&paired[*prompt], &baseline[*prompt]);
            if let Some(round) = prompt.median_ratio_round_of(base, rounds) {
                prompt.add_to(&mut sums, round);
                base.add_to(&mut base_sums, round);
            }
        }
        (sums.0 / sums.1) / (base_sums.0 / base_sums.1)
    })
}

/// A resample: prompts, and rounds of each.
type Resample = Vec<(usize, Vec<usize>)>;

/// A figure over all rounds of all prompts, and its interval.
fn estimate(prompts: &[Rounds], figure: impl Fn(&Resample) -> f64) -> Estimate {
    let all = prompts.iter().enumerate().map(|(prompt, rounds)| (prompt, (0..rounds.count()).collect()));
    let value = figure(&all.collect());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut figures = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        let resample = (0..prompts.len()).map(|_| {
            let prompt = random.below(prompts.len());
            let count = prompts[prompt].count();
            (prompt, (0..count).map(|_| random.below(count)).collect())
        });
        let figure = figure(&resample.collect());
        if figure.is_finite() {
            figures.push(figure);
        }
    }
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| figures.get(((figures.len() as f64 - 1.0) * share).round() as usize).copied();
    let value = if value.is_finite() { value } else { 0.0 };
    Estimate { value, low: at(0.025).unwrap_or(value), high: at(0.975).unwrap_or(value) }
}

/// The median of `values` (the lower of the middle two); none without values.
#[must_use]
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len().checked_sub(1)? / 2).copied()
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014). Intervals are the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The high half of the product: uniform enough for a few thousand values of n.
        ((u128::from(z) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rounds(tokens: f64, seconds: &[f64]) -> Rounds {
        Rounds { tokens: vec![tokens; seconds.len()], seconds: seconds.to_vec() }
    }

    proptest! {
        #[test]
        fn an_interval_contains_its_figure_and_a_constant_ratio_has_no_spread(
            times in prop::collection::vec(prop::collection::vec(0.01_f64..10.0, 1..4), 1..12),
            factor in 0.2_f64..5.0,
        ) {
            let base: Vec<Rounds> = times.iter().map(|t| rounds(100.0, t)).collect();
            let arm: Vec<Rounds> =
                times.iter().map(|t| rounds(100.0, &t.iter().map(|t| t / factor).collect::<Vec<_>>())).collect();
            let rate = rate(&base);
            prop_assert!(rate.low <= rate.high && rate.low > 0.0);
            let ratio = speedup(&arm, &base);
            prop_assert!((ratio.value / factor - 1.0).abs() < 1e-9, "{ratio:?}");
            prop_assert!((ratio.low / factor - 1.0).abs() < 1e-9 && (ratio.high / factor - 1.0).abs() < 1e-9);
        }

        #[test]
        fn one_round_of_one_prompt_has_no_spread(seconds in 0.1_f64..9.0) {
            let rate = rate(&[rounds(10.0, &[seconds])]);
            prop_assert_eq!((rate.low, rate.high), (rate.value, rate.value));
        }
    }

    #[test]
    fn one_slow_round_does_not_move_the_figure() {
        let calm = [rounds(100.0, &[1.0, 1.0, 1.0]), rounds(100.0, &[1.0, 1.0, 1.0])];
        let stormy = [rounds(100.0, &[1.0, 9.0, 1.0]), rounds(100.0, &[1.0, 1.0, 1.0])];
        assert_eq!(rate(&calm).value, rate(&stormy).value);
        assert!(rate(&stormy).low < rate(&calm).low, "the interval shows it");
    }

    #[test]
    fn a_slow_round_of_both_arms_does_not_change_their_ratio() {
        // The machine slows down, and the arm's median round is another than its baseline's.
        let base = [rounds(100.0, &[1.0, 1.1, 1.2, 1.3, 1.4])];
        let arm = [rounds(100.0, &[1.3, 1.1, 1.2, 1.3, 1.4])];
        assert_eq!(
            arm[0].median_ratio_round(&base[0]).map(|round| arm[0].seconds[round] / base[0].seconds[round]),
            Some(1.0)
        );
        assert_eq!(speedup(&arm, &base).value, 1.0);
        // The lower of two; rounds of only one arm are ignored.
        assert_eq!(rounds(1.0, &[2.0, 3.0]).median_ratio_round(&rounds(1.0, &[2.0, 2.0, 2.0])), Some(1));
        assert_eq!(rounds(1.0, &[]).median_ratio_round(&rounds(1.0, &[2.0])), None);
    }

    #[test]
    fn without_measurements_there_is_no_figure() {
        assert_eq!(rate(&[]), Estimate { value: 0.0, low: 0.0, high: 0.0 });
        assert_eq!(median(Vec::new()), None);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
    }
}
