//! Times how long a prompt takes to read, and how much of that is ranking its rows.

use crate::clock::Clock;
use crate::cost::timing::{chain, median_after_first, read};
use crate::input::{RowSelection, TreeInput};
use crate::top::TopK;
use crate::verifier::{Verifier, VerifyError};

/// Rows of the timed chunk.
const ROWS: usize = 64;
/// Timed repetitions, after one that is not counted.
const SWEEPS: usize = 3;
/// Candidates ranked for each row.
const K: usize = 8;

/// Times what ranking every row of a prompt adds to reading it, as a share of the time with the last row ranked alone. Each
/// ranked row costs a product with the output head and a search for its best tokens. Returns 0 if the clock stands still.
///
/// Makes eight passes of 64 rows, or of fewer where the backend takes no more, in a sequence of its own that is closed at the
/// end.
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
    let seq = verifier.open()?;
    let mut top = TopK::new(K);
    let mut times = [Vec::new(), Vec::new()];
    let mut time = || {
        for _ in 0..=SWEEPS {
            for (rows, times) in [RowSelection::Last, RowSelection::All].into_iter().zip(&mut times) {
                let start = clock.now();
                verifier.forward(&[TreeInput { seq, tree: &tree, rows }], &mut top)?;
                times.push(clock.now().saturating_sub(start).as_secs_f64());
            }
        }
        Ok(())
    };
    let timed = time();
    verifier.close(seq);
    timed?;
    let [last, all] = times.map(|times| median_after_first(times).unwrap_or_default());
    Ok(if last > 0.0 { (all / last - 1.0).max(0.0) } else { 0.0 })
}

/// Times reading a prompt of `tokens` tokens with its last row ranked. Returns the tokens, at most the backend's context, and
/// the median seconds of three repetitions, after one that is not counted.
///
/// # Errors
/// [`VerifyError`] if a pass fails.
pub fn time_prompt<V: Verifier + ?Sized>(
    verifier: &mut V,
    clock: &dyn Clock,
    tokens: usize,
) -> Result<(usize, f64), VerifyError> {
    let tokens = tokens.min(verifier.limits().max_context);
    let seq = verifier.open()?;
    let mut top = TopK::new(K);
    let mut times = Vec::with_capacity(SWEEPS + 1);
    let mut time = || {
        for _ in 0..=SWEEPS {
            verifier.truncate(seq, 0)?;
            let start = clock.now();
            read(verifier, seq, 0..tokens, &mut top)?;
            times.push(clock.now().saturating_sub(start).as_secs_f64());
        }
        Ok(())
    };
    let timed = time();
    verifier.close(seq);
    timed.map(|()| (tokens, median_after_first(times).unwrap_or_default()))
}
