//! A made-up language in the place of a model.

use fastrand::Rng;
use upcycle_core::TokenId;

/// Candidates of each row, as the paper has it.
pub(crate) const K: usize = 8;

/// How often the text goes on with the candidate of each rank; in about a third of all places it goes on with another
/// word. These are the acceptance probabilities of the paper's tree.
const RANK_ACCEPTANCE: [f64; K] = [0.43, 0.09, 0.05, 0.04, 0.02, 0.01, 0.01, 0.01];

/// The logits of a row's candidates, best first.
pub(crate) const LOGITS: [f32; K] = [18.0, 16.3, 15.6, 15.1, 14.7, 14.4, 14.1, 13.9];

/// Eight candidates after each pair of tokens, always the same ones. Half of them depend on the last token alone, so
/// that tables keyed by one token, by two and by three agree in part, as they do for a real model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Language {
    vocab: usize,
    /// The vocabulary's size to the power 1 - 1.2.
    tail: f64,
}

impl Language {
    pub(crate) fn new(vocab: usize) -> Self {
        Self { vocab, tail: (vocab as f64).powf(-0.2) }
    }

    /// A token by Zipf's law with exponent 1.2, that of texts which stay with a subject. As in vocabularies of merged
    /// pairs, low ids are the frequent ones.
    pub(crate) fn word(self, rng: &mut Rng) -> TokenId {
        // The continuous law, inverted: 1 at 0, the vocabulary's size towards 1.
        let rank = (1.0 - rng.f64() * (1.0 - self.tail)).powi(-5);
        (rank as usize).clamp(1, self.vocab) as TokenId - 1
    }

    /// The candidates after `token` where `before` stands before it, distinct, best first.
    pub(crate) fn candidates(self, before: TokenId, token: TokenId) -> [TokenId; K] {
        let own = u64::from(token) + 1;
        let mut of_one = Rng::with_seed(own << 32);
        let mut of_two = Rng::with_seed(own << 32 | (u64::from(before) + 1));
        let mut ids = [0; K];
        for rank in 0..K {
            let rng = if rank % 2 == 0 { &mut of_one } else { &mut of_two };
            let mut id = self.word(rng);
            while ids[..rank].contains(&id) {
                id = self.word(rng);
            }
            ids[rank] = id;
        }
        ids
    }

    /// What the text says after `token`.
    pub(crate) fn next(self, before: TokenId, token: TokenId, rng: &mut Rng) -> TokenId {
        let mut left = rng.f64();
        for (id, probability) in self.candidates(before, token).into_iter().zip(RANK_ACCEPTANCE) {
            left -= probability;
            if left < 0.0 {
                return id;
            }
        }
        self.word(rng)
    }

    /// A full row of logits, `[vocab]`: a bell as wide as that of real models, and the candidates above it.
    pub(crate) fn logits(self, token: TokenId) -> Vec<f32> {
        let mut rng = Rng::with_seed(u64::from(token));
        // The sum of twelve even numbers less its mean is a bell of width 1.
        let mut bell = || 2.5 * ((0..12).map(|_| rng.f32()).sum::<f32>() - 6.0);
        let mut logits: Vec<f32> = (0..self.vocab).map(|_| bell()).collect();
        for (id, logit) in self.candidates(0, token).into_iter().zip(LOGITS) {
            logits[id as usize] = logit;
        }
        logits
    }
}
