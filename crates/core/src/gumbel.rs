//! Counter-based noise: Philox4x32-10, and Gumbel noise made from it.

/// The random number generator Philox4x32-10: four random words from a counter of four words and a key of two. It has no
/// state, so the noise at a position never depends on how much noise was used before.
///
/// Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#[must_use]
pub fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        }
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
    }
    counter
}

/// The noise of one position: 32 random bits for each token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PositionNoise {
    key: [u32; 2],
    position: u64,
    sample_index: u32,
    block: u32,
    words: [u32; 4],
}

impl PositionNoise {
    pub(crate) fn new(seed: u64, sample_index: u32, position: u64) -> Self {
        let key = [seed as u32, (seed >> 32) as u32];
        let mut noise = Self { key, position, sample_index, block: 0, words: [0; 4] };
        noise.words = noise.generate();
        noise
    }

    fn generate(&self) -> [u32; 4] {
        let position = [self.position as u32, (self.position >> 32) as u32];
        philox4x32_10([self.block, position[0], position[1], self.sample_index], self.key)
    }

    /// The bits of `token`. Four neighbouring tokens share one block of the generator.
    pub(crate) fn bits(&mut self, token: u32) -> u32 {
        if token / 4 != self.block {
            self.block = token / 4;
            self.words = self.generate();
        }
        self.words[token as usize % 4]
    }
}

/// Standard Gumbel noise from 32 random bits: -ln(-ln u) with u = (bits + 1/2) / 2^32.
pub(crate) fn gumbel(bits: u32) -> f64 {
    let u = (f64::from(bits) + 0.5) / 4_294_967_296.0;
    -(-u.ln()).ln()
}

/// An upper bound of `gumbel(bits)` that needs no logarithm.
///
/// With z leading ones in `bits`, 1 - u >= 2^-(z + 1). Since -ln u >= 1 - u, the noise is at most (z + 1) ln 2. The small
/// addition covers rounding.
pub(crate) fn gumbel_bound(bits: u32) -> f64 {
    f64::from(bits.leading_ones() + 1) * std::f64::consts::LN_2 + 1e-9
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The test vectors that the authors publish with Random123 (`kat_vectors`).
    #[test]
    fn philox_matches_its_published_test_vectors() {
        let zeros = [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8];
        assert_eq!(philox4x32_10([0; 4], [0; 2]), zeros);
        let ones = [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd];
        assert_eq!(philox4x32_10([u32::MAX; 4], [u32::MAX; 2]), ones);
        let pi =
            philox4x32_10([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]);
        assert_eq!(pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    proptest! {
        #[test]
        fn the_bound_is_never_exceeded(bits in any::<u32>(), ones in 0_u32..=32) {
            let bits = bits | u32::MAX.checked_shl(32 - ones).unwrap_or(0);
            prop_assert!(gumbel(bits) <= gumbel_bound(bits));
            prop_assert!(gumbel(bits).is_finite());
        }

        #[test]
        fn noise_depends_on_position_and_token_only(tokens in prop::collection::vec(0_u32..64, 1..40), position: u64) {
            let mut noise = PositionNoise::new(7, 3, position);
            for &token in &tokens {
                prop_assert_eq!(noise.bits(token), PositionNoise::new(7, 3, position).bits(token));
            }
        }
    }
}
