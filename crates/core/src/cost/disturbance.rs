//! Whether other programs disturbed the timing of passes.

use std::fmt;

use crate::cost::ContextTimes;

/// Times of a quiet machine vary less: the median over all sizes of [`ContextTimes::spread`].
const MAX_SPREAD: f64 = 1.3;
/// The most of the time that threads may wait for a processor.
const MAX_WAITED: f64 = 0.1;
/// The most processors that other programs may use of those that this program needs.
const MAX_TAKEN: f64 = 0.25;

/// How busy other programs kept the machine for a while. What is not known is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MachineLoad {
    /// How long this program's threads waited for a processor, as a share of the time in which they ran or waited for one: 0 to 1.
    pub waited: Option<f64>,
    /// The processors that other programs used, on average, beyond those that this program left free.
    pub taken: Option<f64>,
}

/// What shows that the machine was busy.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Disturbance {
    /// Threads waited for a processor.
    Waited {
        /// The share of the time, 0 to 1.
        share: f64,
    },
    /// Other programs used processors that this one needs.
    Taken {
        /// How many, on average.
        processors: f64,
    },
    /// The times of passes with equally many rows differ too much.
    Spread {
        /// The median time of a pass divided by its least.
        ratio: f64,
    },
}

impl MachineLoad {
    /// What shows that the machine was busy, if it was.
    #[must_use]
    pub fn disturbance(self) -> Option<Disturbance> {
        match self {
            Self { waited: Some(share), .. } if share > MAX_WAITED => Some(Disturbance::Waited { share }),
            Self { taken: Some(processors), .. } if processors > MAX_TAKEN => {
                Some(Disturbance::Taken { processors })
            }
            _ => None,
        }
    }
}

/// What shows that the machine was busy while these passes were timed; `None` on a quiet machine, whose times can be kept.
#[must_use]
pub fn disturbance(timed: &[ContextTimes], load: MachineLoad) -> Option<Disturbance> {
    let mut spreads: Vec<f64> = timed.iter().flat_map(|timed| timed.spread.iter().copied()).collect();
    spreads.sort_unstable_by(f64::total_cmp);
    let ratio = spreads.get(spreads.len() / 2).copied().unwrap_or(1.0);
    let spread = (ratio > MAX_SPREAD).then_some(Disturbance::Spread { ratio });
    load.disturbance().or(spread)
}

impl fmt::Display for Disturbance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waited { share } => {
                write!(f, "threads waited for a processor {:.0} % of the time", share * 100.0)
            }
            Self::Taken { processors } => {
                write!(f, "other programs used {processors:.1} processors that this one needs")
            }
            Self::Spread { ratio } => {
                write!(f, "the times of one size differ: the median is {ratio:.2} times the least")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(spread: &[f64]) -> Vec<ContextTimes> {
        let rows: Vec<usize> = (1..=spread.len()).collect();
        vec![ContextTimes { context: 32, seconds: vec![1.0; rows.len()], rows, spread: spread.to_vec() }]
    }

    #[test]
    fn a_quiet_machine_is_undisturbed() {
        let quiet = MachineLoad { waited: Some(0.02), taken: Some(0.0) };
        assert_eq!(disturbance(&timed(&[1.0, 1.1, 1.05]), quiet), None);
        assert_eq!(disturbance(&timed(&[1.0, 9.0, 1.05]), quiet), None, "one outlier");
        assert_eq!(disturbance(&[], MachineLoad::default()), None, "nothing is known");
    }

    #[test]
    fn each_sign_of_a_busy_machine_is_seen() {
        let quiet = MachineLoad { waited: Some(0.0), taken: Some(0.0) };
        let waited = MachineLoad { waited: Some(0.5), ..quiet };
        let taken = MachineLoad { taken: Some(1.0), ..quiet };
        assert_eq!(disturbance(&timed(&[1.0]), waited), Some(Disturbance::Waited { share: 0.5 }));
        assert_eq!(disturbance(&timed(&[1.0]), taken), Some(Disturbance::Taken { processors: 1.0 }));
        let spread = disturbance(&timed(&[1.5, 1.6, 1.0]), MachineLoad::default());
        assert_eq!(spread, Some(Disturbance::Spread { ratio: 1.5 }));
    }
}
