//! The adjacency matrix `[vocab, k]`: after this token, these came next.

use crate::template::MAX_RANKS;
use crate::{Candidates, TokenId};

/// The largest vocabulary that a matrix takes; the largest in use are near 2^18.
pub const MAX_VOCAB: usize = 1 << 24;

/// For every token the k candidates that the model ranked highest when it last scored it (paper, section 3.1).
///
/// Slots never written are vacant: no node is drafted from them. A row may also hold how sure the model was of each
/// candidate, one byte each. All `vocab * k` slots are one zeroed allocation, of which the operating system hands out only the
/// pages that are touched, and so are the scores; 49152 x 8 slots are 1.57 MB, their scores 0.39 MB.
///
/// ```
/// use upcycle_core::AdjacencyMatrix;
///
/// let mut matrix = AdjacencyMatrix::new(100, 2)?;
/// assert_eq!(matrix.candidate(7, 0), None, "vacant");
/// matrix.update(7, &[42, 43, 44]);
/// assert_eq!(matrix.row(7).collect::<Vec<_>>(), [42, 43]);
/// # Ok::<(), upcycle_core::MatrixError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdjacencyMatrix {
    vocab: usize,
    k: usize,
    /// Token + 1; 0 is vacant, so that fresh memory needs no writing. Vacant slots stand behind the others.
    slots: Vec<u32>,
    /// The softmax over a row's own candidates, in 255ths, `[vocab, k]`; all 0 in a row where it is not known.
    scores: Vec<u8>,
    rows: usize,
}

/// Why a matrix cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// k is out of range.
    #[error("a matrix keeps 1 to {MAX_RANKS} candidates of each token, not {k}; choose k in that range")]
    K {
        /// The k asked for.
        k: usize,
    },
    /// The vocabulary is empty or too large.
    #[error("a matrix takes vocabularies of 1 to {MAX_VOCAB} tokens, not {vocab}")]
    Vocab {
        /// The size asked for.
        vocab: usize,
    },
}

impl AdjacencyMatrix {
    /// A vacant matrix.
    ///
    /// # Errors
    /// [`MatrixError`] unless `k` is in 1..=32 and `vocab` in 1..=[`MAX_VOCAB`].
    pub fn new(vocab: usize, k: usize) -> Result<Self, MatrixError> {
        if !(1..=MAX_RANKS).contains(&k) {
            return Err(MatrixError::K { k });
        }
        if !(1..=MAX_VOCAB).contains(&vocab) {
            return Err(MatrixError::Vocab { vocab });
        }
        Ok(Self { vocab, k, slots: vec![0; vocab * k], scores: vec![0; vocab * k], rows: 0 })
    }

    /// The number of tokens that have a row.
    #[must_use]
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// The candidates kept of each token.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// The rows that hold something.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The bytes of all slots and scores.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u32>() + self.scores.len()
    }

    /// How sure the model was of each candidate after `token` when the row was written by
    /// [`update_scored`](Self::update_scored): the softmax over the row's own candidates in 255ths, `[k]`. All 0 where that is not
    /// known, empty outside the vocabulary.
    #[must_use]
    pub fn scores(&self, token: TokenId) -> &[u8] {
        self.scores.get(token as usize * self.k..).and_then(|rest| rest.get(..self.k)).unwrap_or(&[])
    }

    /// The slots of `token`, `[k]`: candidate + 1, or 0 where vacant; empty outside the vocabulary.
    pub(crate) fn slots(&self, token: TokenId) -> &[u32] {
        self.slots.get(token as usize * self.k..).and_then(|rest| rest.get(..self.k)).unwrap_or(&[])
    }

    /// The candidate of rank `rank` after `token`; none if that slot is vacant or does not exist.
    #[must_use]
    pub fn candidate(&self, token: TokenId, rank: usize) -> Option<TokenId> {
        self.slots(token).get(rank)?.checked_sub(1)
    }

    /// The candidates after `token`, best first: at most k, none for a vacant row.
    pub fn row(&self, token: TokenId) -> impl Iterator<Item = TokenId> + '_ {
        self.slots(token).iter().map_while(|slot| slot.checked_sub(1))
    }

    /// Every token whose row holds something, rising.
    pub fn tokens(&self) -> impl Iterator<Item = TokenId> + '_ {
        (0..self.vocab as TokenId).filter(|&token| self.candidate(token, 0).is_some())
    }

    /// Replaces the row of `token` by the first k of `candidates`; fewer leave the rest vacant. How sure the model was of them
    /// is then not known.
    ///
    /// Tokens outside the vocabulary have no row and are never candidates, so that nothing drafted from a matrix
    /// lies outside it.
    pub fn update(&mut self, token: TokenId, candidates: &[TokenId]) {
        let vocab = self.vocab;
        if token as usize >= vocab {
            return;
        }
        let row = &mut self.slots[token as usize * self.k..][..self.k];
        let was_vacant = row[0] == 0;
        let mut sound = candidates.iter().filter(|&&candidate| (candidate as usize) < vocab);
        for slot in row.iter_mut() {
            *slot = sound.next().map_or(0, |candidate| candidate + 1);
        }
        self.rows = self.rows + usize::from(was_vacant) - usize::from(row[0] == 0);
        self.scores[token as usize * self.k..][..self.k].fill(0);
    }

    /// As [`update`](Self::update), and keeps how sure the model was of each candidate. Logits whose softmax is no number, or fewer than
    /// there are candidates, leave that unknown.
    pub fn update_scored(&mut self, token: TokenId, candidates: &Candidates<'_>) {
        self.update(token, candidates.ids);
        let held = self.row(token).count();
        // A candidate that the vocabulary lacks was left out, and those behind it moved up.
        let whole = candidates.ids.iter().take(held).copied().eq(self.row(token));
        let Some(logits) = candidates.logits.get(..held).filter(|_| whole && held > 0) else { return };
        softmax(logits, &mut self.scores[token as usize * self.k..]);
    }

    /// Puts back scores that were kept elsewhere, `[k]`.
    pub(crate) fn restore_scores(&mut self, token: TokenId, scores: &[u8]) {
        if let Some(own) = self.scores.get_mut(token as usize * self.k..).and_then(|s| s.get_mut(..self.k)) {
            own.copy_from_slice(scores);
        }
    }

    /// Vacates every row.
    pub fn clear(&mut self) {
        self.slots.fill(0);
        self.scores.fill(0);
        self.rows = 0;
    }
}

/// The softmax over `logits` in 255ths, into the first of `scores`; all 0 where it is no number.
pub(crate) fn softmax(logits: &[f32], scores: &mut [u8]) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| (logit - highest).exp();
    let sum: f32 = logits.iter().map(|&logit| weight(logit)).sum();
    for (score, &logit) in scores.iter_mut().zip(logits) {
        // Of a NaN the cast makes 0.
        *score = (255.0 * weight(logit) / sum).round() as u8;
    }
}
