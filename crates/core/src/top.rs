//! The k best candidates of each scored row: what backends return and drafters learn from.

use std::ops::Range;

use crate::input::{RowLayout, TreeInput};
use crate::token::{Row, TokenId};
use crate::verifier::error::VerifyError;

/// The k best candidates of every row that was requested from a [`forward`](crate::Verifier::forward).
///
/// Holds ids and logits, each `[rows, min(k, vocab)]`, the rows by input and then by node. The caller chooses k. The backend
/// calls [`reset`](Self::reset) with the inputs of the pass and then fills every row, best first: by descending logit,
/// equal logits by ascending id. Memory is reused from pass to pass.
#[derive(Clone, Debug)]
pub struct TopK {
    /// The k that the caller requested.
    k: usize,
    /// Candidates in a row: `min(k, vocab)`.
    width: usize,
    vocab: usize,
    log_sum_exp: bool,
    ids: Vec<TokenId>,
    logits: Vec<f32>,
    log_sums: Vec<f32>,
    layout: RowLayout,
}

/// One row's candidates, best first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidates<'a> {
    /// Token ids, `[min(k, vocab)]`, by descending logit, equal logits by ascending id.
    pub ids: &'a [TokenId],
    /// Their logits, `[min(k, vocab)]`.
    pub logits: &'a [f32],
    /// The log-sum-exp of the whole row, if it was requested.
    pub log_sum_exp: Option<f32>,
}

impl TopK {
    /// Asks for the `k` best candidates of each row (0 counts as 1).
    #[must_use]
    pub fn new(k: usize) -> Self {
        Self {
            k: k.max(1),
            width: 0,
            vocab: 0,
            log_sum_exp: false,
            ids: Vec::new(),
            logits: Vec::new(),
            log_sums: Vec::new(),
            layout: RowLayout::default(),
        }
    }

    /// Also asks for each row's log-sum-exp, which turns logits into probabilities.
    #[must_use]
    pub fn with_log_sum_exp(mut self) -> Self {
        self.log_sum_exp = true;
        self
    }

    /// The k that the caller requested. A row holds `min(k, vocab)` candidates.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Whether each row's log-sum-exp is requested.
    #[must_use]
    pub fn wants_log_sum_exp(&self) -> bool {
        self.log_sum_exp
    }

    /// For backends: makes an empty row for every row that `inputs` ask for, of a model of `vocab` tokens.
    pub fn reset(&mut self, inputs: &[TreeInput<'_>], vocab: usize) {
        (self.width, self.vocab) = (self.k.min(vocab), vocab);
        self.layout.reset(inputs);
        let rows = self.layout.len();
        self.ids.clear();
        self.ids.resize(rows * self.width, 0);
        self.logits.clear();
        self.logits.resize(rows * self.width, f32::NEG_INFINITY);
        self.log_sums.clear();
        self.log_sums.resize(if self.log_sum_exp { rows } else { 0 }, f32::NEG_INFINITY);
    }

    /// The number of requested rows of all inputs. A backend runs its output head on these rows, by input, then by node.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.layout.len()
    }

    /// The nodes of `input` that were requested, ascending. Empty for an unknown input.
    pub fn nodes(&self, input: usize) -> impl ExactSizeIterator<Item = usize> + use<> {
        self.layout.nodes(input)
    }

    /// The index of `row` among all [`rows`](Self::rows); `None` if it was not requested.
    #[must_use]
    pub fn index(&self, row: Row) -> Option<usize> {
        self.layout.index(row)
    }

    /// The candidates of `row`. `None` if it was not requested.
    #[must_use]
    pub fn get(&self, row: Row) -> Option<Candidates<'_>> {
        let index = self.index(row)?;
        let range = self.range(index);
        Some(Candidates {
            ids: &self.ids[range.clone()],
            logits: &self.logits[range],
            log_sum_exp: self.log_sums.get(index).copied(),
        })
    }

    fn range(&self, index: usize) -> Range<usize> {
        index * self.width..(index + 1) * self.width
    }

    /// For backends that rank on the device: the ids and logits of row `index` to be written, `[min(k, vocab)]` each.
    ///
    /// # Panics
    /// If `index` is not below [`rows`](Self::rows).
    pub fn candidates_mut(&mut self, index: usize) -> (&mut [TokenId], &mut [f32]) {
        let range = self.range(index);
        (&mut self.ids[range.clone()], &mut self.logits[range])
    }

    /// For backends that rank on the device: sets the candidates of `row`, `[min(k, vocab)]` ids and their logits, by
    /// descending logit, equal logits by ascending id.
    ///
    /// The backend has to make sure that no better candidate is missing and that the rest of the row is finite.
    ///
    /// # Errors
    /// [`VerifyError::NoSuchRow`] if `row` was not requested, [`VerifyError::NotFinite`] if a logit is NaN or infinite,
    /// [`VerifyError::TokenOutOfRange`] for an id outside the vocabulary, [`VerifyError::BadRanking`] for another order or
    /// number. The row is then unchanged.
    pub fn set_candidates(&mut self, row: Row, ids: &[TokenId], logits: &[f32]) -> Result<(), VerifyError> {
        let index = self.index(row).ok_or(VerifyError::NoSuchRow { row })?;
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(VerifyError::NotFinite { row });
        }
        let mut pairs = ids.windows(2).zip(logits.windows(2));
        let ordered =
            pairs.all(|(ids, logits)| logits[0] > logits[1] || (logits[0] == logits[1] && ids[0] < ids[1]));
        if !ordered || ids.len() != self.width || logits.len() != self.width {
            return Err(VerifyError::BadRanking { row });
        }
        if let Some(&token) = ids.iter().find(|&&id| id as usize >= self.vocab) {
            return Err(VerifyError::TokenOutOfRange { token, vocab: self.vocab });
        }
        let (row_ids, row_logits) = self.candidates_mut(index);
        row_ids.copy_from_slice(ids);
        row_logits.copy_from_slice(logits);
        Ok(())
    }

    /// For backends that rank on the device: sets the log-sum-exp of row `index`. Ignored if it was not requested.
    ///
    /// # Panics
    /// If it was requested and `index` is not below [`rows`](Self::rows).
    pub fn set_log_sum_exp(&mut self, index: usize, log_sum_exp: f32) {
        if self.log_sum_exp {
            self.log_sums[index] = log_sum_exp;
        }
    }

    /// For backends with logits in host memory: finds the best of `logits`, `[vocab]`, in one pass without a sort, and sets
    /// the candidates of `row`.
    ///
    /// # Errors
    /// [`VerifyError::NotFinite`] if a logit is NaN or infinite, [`VerifyError::NoSuchRow`] if `row` was not asked
    /// for, [`VerifyError::WrongRowLength`] if there is not one logit for each token.
    pub fn set_from_logits(&mut self, row: Row, logits: &[f32]) -> Result<(), VerifyError> {
        let index = self.index(row).ok_or(VerifyError::NoSuchRow { row })?;
        if logits.len() != self.vocab {
            return Err(VerifyError::WrongRowLength { expected: self.vocab, found: logits.len() });
        }
        let (ids, best) = self.candidates_mut(index);
        if !select(logits, ids, best) {
            return Err(VerifyError::NotFinite { row });
        }
        if self.log_sum_exp {
            self.log_sums[index] = log_sum_exp(logits);
        }
        Ok(())
    }
}

/// The logarithm of the sum of the exponentials of `logits`.
#[must_use]
pub fn log_sum_exp(logits: &[f32]) -> f32 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - highest).exp()).sum();
    (f64::from(highest) + sum.ln()) as f32
}

/// Logits per block. A block in which no logit beats the worst candidate so far is skipped as a whole.
const BLOCK: usize = 32;

/// Fills `ids` and `best` with the highest of `logits`, best first. Returns whether every logit is finite.
pub(crate) fn select(logits: &[f32], ids: &mut [TokenId], best: &mut [f32]) -> bool {
    let k = ids.len();
    best.fill(f32::NEG_INFINITY);
    let mut len = 0;
    // A number times 0 is NaN if the number is not finite, and a sum keeps a NaN. So one check at the end is enough.
    let mut non_finite = 0.0_f32;
    for (block, chunk) in logits.chunks(BLOCK).enumerate() {
        let mut highest = [f32::NEG_INFINITY; 8];
        let mut lane_non_finite = [0.0_f32; 8];
        let (eights, rest) = chunk.as_chunks::<8>();
        for eight in eights {
            for lane in 0..8 {
                highest[lane] = if eight[lane] > highest[lane] { eight[lane] } else { highest[lane] };
                lane_non_finite[lane] += eight[lane] * 0.0;
            }
        }
        let mut block_max = highest.into_iter().fold(f32::NEG_INFINITY, f32::max);
        non_finite += lane_non_finite.iter().sum::<f32>();
        for &logit in rest {
            block_max = block_max.max(logit);
            non_finite += logit * 0.0;
        }
        // Ids ascend, so an equal logit never displaces an earlier one.
        if len == k && block_max <= best[k - 1] {
            continue;
        }
        for (i, &logit) in chunk.iter().enumerate() {
            if len == k && logit <= best[k - 1] {
                continue;
            }
            let rank = best[..len].partition_point(|&other| other >= logit);
            let end = (len + 1).min(k);
            best[rank..end].rotate_right(1);
            ids[rank..end].rotate_right(1);
            best[rank] = logit;
            ids[rank] = (block * BLOCK + i) as TokenId;
            len = end;
        }
    }
    non_finite == 0.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::input::RowSelection;
    use crate::token::SeqId;
    use crate::tree::DraftTree;

    fn naive(logits: &[f32], k: usize) -> Vec<TokenId> {
        let mut ids: Vec<TokenId> = (0..logits.len() as TokenId).collect();
        ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]).then(a.cmp(&b)));
        ids.truncate(k);
        ids
    }

    proptest! {
        #[test]
        fn selection_is_the_head_of_a_sort(
            // Few distinct values, so that ties are common.
            logits in prop::collection::vec((-9_i8..9).prop_map(|x| f32::from(x) / 2.0), 1..300),
            k in 1_usize..33,
        ) {
            let k = k.min(logits.len());
            let (mut ids, mut best) = (vec![0; k], vec![0.0; k]);
            prop_assert!(select(&logits, &mut ids, &mut best));
            prop_assert_eq!(&ids, &naive(&logits, k));
            let expected: Vec<f32> = ids.iter().map(|&id| logits[id as usize]).collect();
            prop_assert_eq!(best, expected);
        }

        #[test]
        fn candidates_ranked_elsewhere_are_taken_only_in_order(
            logits in prop::collection::vec((-9_i8..9).prop_map(|x| f32::from(x) / 2.0), 2..60),
            k in 2_usize..9,
            at in any::<prop::sample::Index>(),
        ) {
            let vocab = logits.len();
            let (row, tree) = (Row { input: 0, node: 0 }, DraftTree::chain(&[0]));
            let inputs = [TreeInput { seq: SeqId::new(0), tree: &tree, rows: RowSelection::All }];
            let [mut selected, mut handed] = [TopK::new(k), TopK::new(k)];
            selected.reset(&inputs, vocab);
            handed.reset(&inputs, vocab);
            selected.set_from_logits(row, &logits)?;
            let expected = selected.get(row).expect("it was requested");
            let (mut ids, mut best) = (expected.ids.to_vec(), expected.logits.to_vec());
            handed.set_candidates(row, &ids, &best)?;
            prop_assert_eq!(handed.get(row), Some(expected));

            let before = handed.get(row).map(|row| row.ids.to_vec());
            let refused = |result| matches!(result, Err(VerifyError::BadRanking { .. }));
            prop_assert!(refused(handed.set_candidates(row, &ids[1..], &best[1..])));
            prop_assert!(refused(handed.set_candidates(row, &ids, &best[1..])));
            let right = std::mem::replace(&mut ids[0], vocab as TokenId);
            let error = handed.set_candidates(row, &ids, &best);
            let outside = matches!(error, Err(VerifyError::TokenOutOfRange { .. } | VerifyError::BadRanking { .. }));
            prop_assert!(outside, "{error:?}");
            ids[0] = right;
            let rank = at.index(ids.len() - 1);
            ids.swap(rank, rank + 1);
            best.swap(rank, rank + 1);
            prop_assert!(refused(handed.set_candidates(row, &ids, &best)));
            best[rank] = f32::NAN;
            let error = handed.set_candidates(row, &ids, &best);
            prop_assert!(matches!(error, Err(VerifyError::NotFinite { .. })), "{error:?}");
            let error = handed.set_candidates(Row { input: 0, node: 1 }, &ids, &best);
            prop_assert!(matches!(error, Err(VerifyError::NoSuchRow { .. })), "{error:?}");
            prop_assert_eq!(handed.get(row).map(|row| row.ids.to_vec()), before);
        }

        #[test]
        fn a_row_has_a_logit_for_each_token(vocab in 1_usize..60, len in 0_usize..90, k in 1_usize..9) {
            let (row, tree) = (Row { input: 0, node: 0 }, DraftTree::chain(&[0]));
            let mut top = TopK::new(k);
            top.reset(&[TreeInput { seq: SeqId::new(0), tree: &tree, rows: RowSelection::All }], vocab);
            match top.set_from_logits(row, &vec![1.0; len]) {
                Ok(()) => prop_assert_eq!(len, vocab),
                Err(VerifyError::WrongRowLength { expected, found }) => {
                    prop_assert_eq!((expected, found), (vocab, len));
                    prop_assert_ne!(len, vocab);
                }
                Err(error) => prop_assert!(false, "{error}"),
            }
        }

        #[test]
        fn a_row_that_is_not_finite_is_found_wherever_it_is(
            len in 1_usize..300,
            at in any::<prop::sample::Index>(),
            bad in prop::sample::select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY]),
        ) {
            let mut logits = vec![1.0; len];
            logits[at.index(len)] = bad;
            prop_assert!(!select(&logits, &mut [0; 1], &mut [0.0; 1]));
        }
    }
}
