//! Times what reading a prompt costs, and what ranking its rows adds.

use super::timing::{chain, read, settled};
use crate::{Clock, RowSelection, TopK, TreeInput, Verifier, VerifyError};

/// Rows of the chunk that is timed.
const ROWS: usize = 64;
/// How often each way is timed, one more at the start not counted.
const SWEEPS: usize = 3;
/// Candidates ranked for each row.
const K: usize = 8;

/// What ranking every row of a prompt adds to reading it, as a share of reading it with its last row ranked alone: the head's
/// product and the choice of the best for each row. 0 where a clock stands still.
///
/// Eight passes of 64 rows (fewer where the backend takes no more), in a sequence of its own, which is closed in any case.
///
/// # Errors
/// Whatever the passes fail with.
pub fn time_prompt_rows<V: Verifier + ?Sized>(
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
    let [last, all] = times.map(|times| settled(times).unwrap_or_default());
    Ok(if last > 0.0 { (all / last - 1.0).max(0.0) } else { 0.0 })
}

/// Seconds that reading a prompt of `tokens` tokens takes, its last row ranked: the median of three times, one more at the
/// start not counted. A prompt longer than the context is cut to it; the tokens read are returned too.
///
/// # Errors
/// Whatever the passes fail with.
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
            read(verifier, seq, 0, tokens, &mut top)?;
            times.push(clock.now().saturating_sub(start).as_secs_f64());
        }
        Ok(())
    };
    let timed = time();
    verifier.close(seq);
    timed.map(|()| (tokens, settled(times).unwrap_or_default()))
}
