//! The margin rule of law 10, on a verifier whose logits depend slightly on the number of rows in a pass, like those of a
//! matrix product that is not row-invariant.

use upcycle_core::{Commit, Limits, Row, SeqId, TopK, TreeInput, Verifier, VerifyError};
use upcycle_testkit::{Cause, NaiveVerifier, Subject, Tolerance, laws};

/// Changes each logit by at most `size`, depending on the number of rows.
struct Jittery {
    inner: NaiveVerifier,
    size: f32,
    rows: usize,
    row: Vec<f32>,
}

impl Jittery {
    fn new(size: f32) -> Self {
        Self { inner: NaiveVerifier::new(64, 1), size, rows: 0, row: Vec::new() }
    }
}

impl Verifier for Jittery {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }
    fn open(&mut self) -> Result<SeqId, VerifyError> {
        self.inner.open()
    }
    fn close(&mut self, seq: SeqId) {
        self.inner.close(seq);
    }
    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        self.inner.forward(inputs, top)?;
        self.rows = inputs.iter().map(|input| input.tree.len()).sum();
        for input in 0..inputs.len() {
            for node in top.nodes(input) {
                let row = Row { input, node };
                let logits = self.logits(row)?.to_vec();
                top.set_from_logits(row, &logits)?;
            }
        }
        Ok(())
    }
    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        let right = self.inner.logits(row)?;
        self.row.clear();
        self.row.extend(right.iter().enumerate().map(|(token, logit)| {
            let sign = if (token * 7 + self.rows * 5).is_multiple_of(3) { 1.0 } else { -1.0 };
            logit + sign * self.size / 2.0
        }));
        Ok(&self.row)
    }
    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        self.inner.commit(commits)
    }
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        self.inner.truncate(seq, len)
    }
}

fn subject(size: f32, tolerance: Tolerance) -> Subject {
    Subject::new(move || Jittery::new(size)).tolerance(tolerance).output(100)
}

#[test]
fn a_difference_within_the_margin_is_counted() {
    let agreement = laws::text_is_plain(&subject(0.2, Tolerance::Within(0.25))).unwrap();
    assert!(agreement.within_margin > 0, "{agreement:?}");
    assert!(agreement.tokens > 0, "{agreement:?}");
}

#[test]
fn a_difference_beyond_the_tolerance_is_an_error() {
    let broken = laws::text_is_plain(&subject(0.2, Tolerance::Within(0.1))).unwrap_err();
    assert!(matches!(broken.cause, Cause::Differs { .. }), "{broken}");
    let broken = laws::text_is_plain(&subject(0.2, Tolerance::Exact)).unwrap_err();
    assert!(matches!(broken.cause, Cause::Differs { .. }), "{broken}");
}

#[test]
fn the_other_laws_hold_within_the_tolerance_and_not_below() {
    for (tolerance, holds) in [(0.25, true), (0.1, false)] {
        let found = laws::paths_are_chains(&subject(0.2, Tolerance::Within(tolerance)));
        assert_eq!(found.is_ok(), holds, "{found:?}");
    }
}
