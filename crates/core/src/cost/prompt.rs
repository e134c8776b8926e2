//! Times prefill, and how much ranking every row of the prompt adds to it.

use crate::clock::Clock;
use crate::cost::timing::{K, chain, median_after_first, prefill_positions};
use crate::input::{RowSelection, TreeInput};
use crate::top::TopK;
use crate::verifier::{Verifier, VerifyError, with_sequence};

/// Rows of the timed chunk.
const ROWS: usize = 64;
/// Timed repetitions, after one that is not counted.
const REPETITIONS: usize = 3;

/// Times how much longer prefill takes if every row is ranked instead of only the last, as a share: 0.3 is 30 % longer. Each
/// ranked row costs a matrix-vector product with the output head and a search for its best tokens. Returns 0 if the clock
/// does not advance.
///
/// Makes eight passes of 64 rows, or of fewer if the backend's limits are lower. Opens a sequence for them and closes it.
///
/// # Errors
/// [`VerifyError`] if a pass fails.
pub fn time_prompt_ranking<V: Verifier + ?Sized>(
    verifier: &mut V,
    clock: &dyn Clock,
) -> Result<f64, VerifyError> {
    let limits = verifier.limits();
    let rows = ROWS.min(limits.max_rows).min(limits.max_context.saturating_sub(1)).max(1);
    let tree = chain(rows, limits.vocab);
    let mut top = TopK::new(K);
    let mut times = [Vec::new(), Vec::new()];
    with_sequence(verifier, |verifier, seq| {
        for _ in 0..=REPETITIONS {
            for (rows, times) in [RowSelection::Last, RowSelection::All].into_iter().zip(&mut times) {
                let start = clock.now();
                verifier.forward(&[TreeInput { seq, tree: &tree, rows }], &mut top)?;
                times.push(clock.now().saturating_sub(start).as_secs_f64());
            }
        }
        Ok(())
    })?;
    let [last, all] = times.map(|times| median_after_first(times).unwrap_or_default());
    Ok(if last > 0.0 { (all / last - 1.0).max(0.0) } else { 0.0 })
}

/// Times prefill of a prompt of `tokens` tokens with its last row ranked. Returns the number of tokens, at most the backend's
/// context, and the median seconds of three repetitions after an uncounted one.
///
/// # Errors
/// [`VerifyError`] if a pass fails.
pub fn time_prefill<V: Verifier + ?Sized>(
    verifier: &mut V,
    clock: &dyn Clock,
    tokens: usize,
) -> Result<(usize, f64), VerifyError> {
    let tokens = tokens.min(verifier.limits().max_context);
    let mut top = TopK::new(K);
    let mut times = Vec::with_capacity(REPETITIONS + 1);
    with_sequence(verifier, |verifier, seq| {
        for _ in 0..=REPETITIONS {
            verifier.truncate(seq, 0)?;
            let start = clock.now();
            prefill_positions(verifier, seq, 0..tokens, &mut top)?;
            times.push(clock.now().saturating_sub(start).as_secs_f64());
        }
        Ok(())
    })?;
    Ok((tokens, median_after_first(times).unwrap_or_default()))
}
