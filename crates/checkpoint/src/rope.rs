//! Rotary position embeddings (Su et al., arXiv 2104.09864).

use std::f64::consts::TAU;

/// Which elements of a head form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopeLayout {
    /// Neighbours, `2i` and `2i + 1`: Llama in GGUF files, whose rows are permuted for this.
    Interleaved,
    /// `i` and `i + rotary_dim / 2`: all others.
    Halves,
}

/// How frequencies are scaled for contexts longer than in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All frequencies are divided.
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// As in Llama 3.1: low frequencies are divided, high ones are not, and those between are interpolated.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f32,
        /// The most turns within the original context of a low frequency.
        low_frequency: f32,
        /// The fewest turns within the original context of a high frequency; above `low_frequency`.
        high_frequency: f32,
        /// The context length in training.
        original_context: usize,
    },
    /// YaRN (Peng et al., arXiv 2309.00071): as in Llama 3.1, but interpolated by pair index.
    Yarn {
        /// The divisor of low frequencies.
        factor: f32,
        /// The fewest turns within the original context of a high frequency: usually 32.
        beta_fast: f32,
        /// The most turns within the original context of a low frequency: usually 1.
        beta_slow: f32,
        /// The context length in training.
        original_context: usize,
        /// The factor of cosines and sines.
        magnitude: f32,
    },
}

impl RopeScaling {
    /// The magnitude that the YaRN paper recommends for a factor of at least 1.
    #[must_use]
    pub fn yarn_magnitude(factor: f32) -> f32 {
        0.1 * factor.ln() + 1.0
    }

    /// The factor of cosines and sines.
    #[must_use]
    pub fn magnitude(&self) -> f32 {
        match *self {
            Self::Yarn { magnitude, .. } => magnitude,
            _ => 1.0,
        }
    }

    /// Scales `frequencies`, in radians per position.
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
            Self::Yarn { factor, beta_fast, beta_slow, original_context, .. } => {
                let base = f64::from(base);
                // The (fractional) index of the pair with so many turns within the original context.
                let pair = |turns: f32| {
                    let turn = original_context as f64 / (f64::from(turns) * TAU);
                    pairs as f64 * turn.ln() / base.ln()
                };
                let first = pair(beta_fast).floor().max(0.0);
                let last = pair(beta_slow).ceil().min(2.0 * pairs as f64 - 1.0);
                for (index, frequency) in frequencies.iter_mut().enumerate() {
                    let slow = ((index as f64 - first) / (last - first).max(1e-3)).clamp(0.0, 1.0);
                    *frequency *= slow / f64::from(factor) + (1.0 - slow);
                }
            }
        }
    }
}
