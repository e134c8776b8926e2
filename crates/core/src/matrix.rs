//! The adjacency matrix `[vocab, k]`: for every token the candidates that may follow it.

use crate::template::MAX_K;
use crate::token::TokenId;
use crate::top::Candidates;

/// The largest vocabulary that a matrix supports. The largest in use are near 2^18.
pub const MAX_VOCAB: usize = 1 << 24;

/// For every token the k candidates that the model ranked highest when it last scored that token (paper, section 3.1).
///
/// An entry that was never written is *empty*, and no node is drafted from it. A row may also have the probability of each
/// candidate: the softmax over the candidates of the row, in one byte.
///
/// All `vocab * k` entries are one zeroed allocation, and so are the probabilities. The operating system provides only the
/// pages that are touched. 49152 x 8 entries take 1.57 MB, their probabilities 0.39 MB.
///
/// ```
/// use upcycle_core::AdjacencyMatrix;
///
/// let mut matrix = AdjacencyMatrix::new(100, 2)?;
/// assert_eq!(matrix.candidate(7, 0), None, "empty");
/// matrix.update(7, &[42, 43, 44]);
/// assert_eq!(matrix.candidates(7).collect::<Vec<_>>(), [42, 43]);
/// # Ok::<(), upcycle_core::MatrixError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdjacencyMatrix {
    vocab: usize,
    k: usize,
    /// Token + 1, or 0 for an empty entry, `[vocab, k]`. Zeroed memory is empty. In a row empty entries come last.
    entries: Vec<u32>,
    /// The softmax over the candidates of a row, in 255ths, `[vocab, k]`; all 0 in a row where it is unknown.
    probabilities: Vec<u8>,
    rows: usize,
}

/// Why a matrix cannot be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// k is out of range.
    #[error("k = {k} is out of range: a matrix keeps 1 to {MAX_K} candidates of each token")]
    K {
        /// The requested k.
        k: usize,
    },
    /// The vocabulary is empty or too large.
    #[error("a vocabulary of {vocab} tokens is out of range: a matrix supports 1 to {MAX_VOCAB}")]
    Vocab {
        /// The requested size.
        vocab: usize,
    },
}

impl AdjacencyMatrix {
    /// An empty matrix.
    ///
    /// # Errors
    /// [`MatrixError`] unless `k` is in 1..=32 and `vocab` in 1..=[`MAX_VOCAB`].
    pub fn new(vocab: usize, k: usize) -> Result<Self, MatrixError> {
        if !(1..=MAX_K).contains(&k) {
            return Err(MatrixError::K { k });
        }
        if !(1..=MAX_VOCAB).contains(&vocab) {
            return Err(MatrixError::Vocab { vocab });
        }
        Ok(Self { vocab, k, entries: vec![0; vocab * k], probabilities: vec![0; vocab * k], rows: 0 })
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

    /// The number of rows that are not empty.
    #[must_use]
    pub fn filled_rows(&self) -> usize {
        self.rows
    }

    /// The size of all entries and probabilities in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.entries.len() * size_of::<u32>() + self.probabilities.len()
    }

    /// The probabilities of the candidates after `token`, `[k]`: the softmax over the candidates of the row, in 255ths, as
    /// [`update_with_probabilities`](Self::update_with_probabilities) wrote them. All 0 if they are unknown, empty outside the
    /// vocabulary.
    #[must_use]
    pub fn probabilities(&self, token: TokenId) -> &[u8] {
        self.probabilities.get(token as usize * self.k..).and_then(|rest| rest.get(..self.k)).unwrap_or(&[])
    }

    /// The entries of `token`, `[k]`: candidate + 1, or 0 where empty; empty outside the vocabulary.
    pub(crate) fn entries(&self, token: TokenId) -> &[u32] {
        self.entries.get(token as usize * self.k..).and_then(|rest| rest.get(..self.k)).unwrap_or(&[])
    }

    /// The candidate of rank `rank` after `token`. `None` if that entry is empty or does not exist.
    #[must_use]
    pub fn candidate(&self, token: TokenId, rank: usize) -> Option<TokenId> {
        self.entries(token).get(rank)?.checked_sub(1)
    }

    /// The candidates after `token`, best first: at most k, and none for an empty row.
    pub fn candidates(&self, token: TokenId) -> impl Iterator<Item = TokenId> + '_ {
        self.entries(token).iter().map_while(|entry| entry.checked_sub(1))
    }

    /// Every token whose row is not empty, in ascending order. O(vocab).
    pub fn tokens(&self) -> impl Iterator<Item = TokenId> + '_ {
        (0..self.vocab as TokenId).filter(|&token| self.candidate(token, 0).is_some())
    }

    /// Replaces the row of `token` by the first k of `candidates`. With fewer than k, the remaining entries become empty. The
    /// probabilities become unknown.
    ///
    /// Tokens outside the vocabulary have no row. They are skipped among `candidates`, so a matrix never yields one.
    pub fn update(&mut self, token: TokenId, candidates: &[TokenId]) {
        let vocab = self.vocab;
        if token as usize >= vocab {
            return;
        }
        let row = &mut self.entries[token as usize * self.k..][..self.k];
        let was_empty = row[0] == 0;
        let mut valid = candidates.iter().filter(|&&candidate| (candidate as usize) < vocab);
        for entry in row.iter_mut() {
            *entry = valid.next().map_or(0, |candidate| candidate + 1);
        }
        self.rows = self.rows + usize::from(was_empty) - usize::from(row[0] == 0);
        self.probabilities[token as usize * self.k..][..self.k].fill(0);
    }

    /// As [`update`](Self::update), but also keeps the probabilities of the candidates. They stay unknown if their softmax
    /// is not a number or if there are fewer logits than candidates.
    pub fn update_with_probabilities(&mut self, token: TokenId, candidates: &Candidates<'_>) {
        self.update(token, candidates.ids);
        let count = self.candidates(token).count();
        // `update` skips candidates outside the vocabulary, and then the logits do not match the row.
        let matching = candidates.ids.iter().take(count).copied().eq(self.candidates(token));
        let Some(logits) = candidates.logits.get(..count).filter(|_| matching && count > 0) else { return };
        softmax(logits, &mut self.probabilities[token as usize * self.k..]);
    }

    /// Sets the probabilities of a row from a snapshot, `[k]`.
    pub(crate) fn restore_probabilities(&mut self, token: TokenId, probabilities: &[u8]) {
        if let Some(row) =
            self.probabilities.get_mut(token as usize * self.k..).and_then(|s| s.get_mut(..self.k))
        {
            row.copy_from_slice(probabilities);
        }
    }

    /// Makes every row empty.
    pub fn clear(&mut self) {
        self.entries.fill(0);
        self.probabilities.fill(0);
        self.rows = 0;
    }
}

/// Writes the softmax over `logits`, in 255ths, into the first of `probabilities`; all 0 if it is not a number.
pub(crate) fn softmax(logits: &[f32], probabilities: &mut [u8]) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |logit: f32| (logit - highest).exp();
    let sum: f32 = logits.iter().map(|&logit| weight(logit)).sum();
    for (probability, &logit) in probabilities.iter_mut().zip(logits) {
        // The cast turns a NaN into 0.
        *probability = (255.0 * weight(logit) / sum).round() as u8;
    }
}
