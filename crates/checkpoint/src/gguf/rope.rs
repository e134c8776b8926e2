//! Rotary position embeddings (Su et al., arXiv 2104.09864): how fast each pair turns.

use std::f64::consts::TAU;

/// Which elements of a head turn together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// Neighbours, `2i` and `2i + 1`: llama's in GGUF files, whose rows are permuted for it.
    Interleaved,
    /// Halves, `i` and `i + rotated / 2`: all others.
    Halves,
}

/// What is done to the frequencies for contexts longer than a model was first trained on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Nothing.
    None,
    /// Positions are divided.
    Linear {
        /// By this.
        factor: f32,
    },
    /// Llama 3.1's: slow pairs are divided, fast ones are not, those between in part.
    Llama3 {
        /// What divides the slow ones.
        factor: f32,
        /// Turns in the original context up to which a pair is slow.
        low_frequency: f32,
        /// Turns in the original context from which on a pair is fast; above `low_frequency`.
        high_frequency: f32,
        /// The context before scaling.
        original_context: usize,
    },
    /// YaRN (Peng et al., arXiv 2309.00071): as above, along the pairs instead of the frequencies.
    Yarn {
        /// What divides the slow ones.
        factor: f32,
        /// Turns in the original context from which on a pair is fast: usually 32.
        fast: f32,
        /// Turns in the original context up to which a pair is slow: usually 1.
        slow: f32,
        /// The context before scaling.
        original_context: usize,
        /// What cosines and sines are multiplied with.
        magnitude: f32,
    },
}

impl RopeScaling {
    /// The magnitude that the paper on YaRN suggests for a factor of at least 1.
    #[must_use]
    pub fn yarn_magnitude(factor: f32) -> f32 {
        0.1 * factor.ln() + 1.0
    }

    /// What cosines and sines are multiplied with.
    #[must_use]
    pub fn magnitude(&self) -> f32 {
        match *self {
            Self::Yarn { magnitude, .. } => magnitude,
            _ => 1.0,
        }
    }

    /// The frequencies, in radians per position, of pairs that would turn by `frequencies` without scaling.
    pub(crate) fn apply(&self, base: f32, frequencies: &mut [f64]) {
        let pairs = frequencies.len();
        match *self {
            Self::None => {}
            Self::Linear { factor } => {
                frequencies.iter_mut().for_each(|frequency| *frequency /= f64::from(factor));
            }
            Self::Llama3 { factor, low_frequency, high_frequency, original_context } => {
                let (low, high) = (f64::from(low_frequency), f64::from(high_frequency));
                for frequency in frequencies {
                    let turns = original_context as f64 * *frequency / TAU;
                    let fast = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    *frequency *= (1.0 - fast) / f64::from(factor) + fast;
                }
            }
            Self::Yarn { factor, fast, slow, original_context, .. } => {
                let base = f64::from(base);
                // The pair that makes so many turns in the original context.
                let pair = |turns: f32| {
                    let turn = original_context as f64 / (f64::from(turns) * TAU);
                    pairs as f64 * turn.ln() / base.ln()
                };
                let first = pair(fast).floor().max(0.0);
                let last = pair(slow).ceil().min(2.0 * pairs as f64 - 1.0);
                for (index, frequency) in frequencies.iter_mut().enumerate() {
                    let slow = ((index as f64 - first) / (last - first).max(1e-3)).clamp(0.0, 1.0);
                    *frequency *= slow / f64::from(factor) + (1.0 - slow);
                }
            }
        }
    }
}
