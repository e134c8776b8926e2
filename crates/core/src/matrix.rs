//! The adjacency matrix `[vocab, k]`: for every token the candidates that may follow it.

use crate::template::MAX_RANKS;
use crate::token::TokenId;
use crate::top::Candidates;

/// The largest vocabulary that a matrix supports. The largest in use are near 2^18.
pub const MAX_VOCAB: usize = 1 << 24;

/// For every token the k candidates that the model ranked highest when it last scored that token (paper, section 3.1).
///
/// A slot that was never written is *vacant*, and no node is drafted from it. A row may also have a score for each candidate:
/// its softmax probability among the candidates of the row, in one byte.
///
/// All `vocab * k` slots are one zeroed allocation, and so are the scores. The operating system provides only the pages that
/// are touched. 49152 x 8 slots take 1.57 MB, their scores 0.39 MB.
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
    /// Token + 1, or 0 for a vacant slot, `[vocab, k]`. Zeroed memory is vacant. In a row vacant slots come last.
    slots: Vec<u32>,
    /// The softmax over the candidates of a row, in 255ths, `[vocab, k]`; all 0 in a row where it is unknown.
    scores: Vec<u8>,
    rows: usize,
}

/// Why a matrix cannot be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// k is out of range.
    #[error("k = {k} is out of range: a matrix keeps 1 to {MAX_RANKS} candidates of each token")]
    K {
        /// The k asked for.
        k: usize,
    },
    /// The vocabulary is empty or too large.
    #[error("a vocabulary of {vocab} tokens is out of range: a matrix supports 1 to {MAX_VOCAB}")]
    Vocab {
        /// The size asked for.
        vocab: usize,
    },
}

impl AdjacencyMatrix {
    /// An empty matrix.
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

    /// How many candidates each row holds.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// The number of rows that are not vacant.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The size of all slots and scores in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.slots.len() * size_of::<u32>() + self.scores.len()
    }

    /// The scores of the candidates after `token`, `[k]`: the softmax over the candidates of the row, in 255ths, as
    /// [`update_scored`](Self::update_scored) wrote them. All 0 if they are unknown, empty outside the vocabulary.
    #[must_use]
    pub fn scores(&self, token: TokenId) -> &[u8] {
        self.scores.get(token as usize * self.k..).and_then(|rest| rest.get(..self.k)).unwrap_or(&[])
    }

    /// The slots of `token`, `[k]`: candidate + 1, or 0 where vacant; empty outside the vocabulary.
    pub(crate) fn slots(&self, token: TokenId) -> &[u32] {
        self.slots.get(token as usize * self.k..).and_then(|rest| rest.get(..self.k)).unwrap_or(&[])
    }

    /// The candidate of rank `rank` after `token`. `None` if that slot is vacant or does not exist.
    #[must_use]
    pub fn candidate(&self, token: TokenId, rank: usize) -> Option<TokenId> {
        self.slots(token).get(rank)?.checked_sub(1)
    }

    /// The candidates after `token`, best first: at most k, and none for a vacant row.
    pub fn row(&self, token: TokenId) -> impl Iterator<Item = TokenId> + '_ {
        self.slots(token).iter().map_while(|slot| slot.checked_sub(1))
    }

    /// Every token whose row is not vacant, in ascending order. O(vocab).
    pub fn tokens(&self) -> impl Iterator<Item = TokenId> + '_ {
        (0..self.vocab as TokenId).filter(|&token| self.candidate(token, 0).is_some())
    }

    /// Replaces the row of `token` by the first k of `candidates`. With fewer than k, the remaining slots become vacant. The
    /// scores become unknown.
    ///
    /// Tokens outside the vocabulary have no row. They are skipped among `candidates`, so a matrix never yields one.
    pub fn update(&mut self, token: TokenId, candidates: &[TokenId]) {
        let vocab = self.vocab;
        if token as usize >= vocab {
            return;
        }
        let row = &mut self.slots[token as usize * self.k..][..self.k];
        let was_vacant = row[0] == 0;
        let mut valid = candidates.iter().filter(|&&candidate| (candidate as usize) < vocab);
        for slot in row.iter_mut() {
            *slot = valid.next().map_or(0, |candidate| candidate + 1);
        }
        self.rows = self.rows + usize::from(was_vacant) - usize::from(row[0] == 0);
        self.scores[token as usize * self.k..][..self.k].fill(0);
    }

    /// As [`update`](Self::update), but also keeps the scores of the candidates. They stay unknown if their softmax is not a
    /// number or if there are fewer logits than candidates.
    pub fn update_scored(&mut self, token: TokenId, candidates: &Candidates<'_>) {
        self.update(token, candidates.ids);
        let count = self.row(token).count();
        // `update` skips candidates outside the vocabulary, and then the logits do not match the row.
        let matching = candidates.ids.iter().take(count).copied().eq(self.row(token));
        let Some(logits) = candidates.logits.get(..count).filter(|_| matching && count > 0) else { return };
        softmax(logits, &mut self.scores[token as usize * self.k..]);
    }

    /// Sets the scores of a row from a snapshot, `[k]`.
    pub(crate) fn restore_scores(&mut self, token: TokenId, scores: &[u8]) {
        if let Some(row) = self.scores.get_mut(token as usize * self.k..).and_then(|s| s.get_mut(..self.k)) {
            row.copy_from_slice(scores);
        }
    }

    /// Makes every row vacant.
    pub fn clear(&mut self) {
        self.slots.fill(0);
        self.scores.fill(0);
        self.rows = 0;
    }
}

/// Writes the softmax over `logits`, in 255ths, into the first of `scores`; all 0 if it is not a number.
pub(crate) fn softmax(logits: &[f32], scores: &mut [u8]) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| (logit - highest).exp();
    let sum: f32 = logits.iter().map(|&logit| weight(logit)).sum();
    for (score, &logit) in scores.iter_mut().zip(logits) {
        // The cast turns a NaN into 0.
        *score = (255.0 * weight(logit) / sum).round() as u8;
    }
}
