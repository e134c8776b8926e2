//! A verifier with configurable faults.

use upcycle::ModelSource;
use upcycle_core::{Commit, Limits, Row, SeqId, TopK, TreeInput, Verifier, VerifyError};
use upcycle_testkit::NaiveVerifier;
use upcycle_text::Tokenizer;

/// The model uses only the first few tokens, so its text repeats itself and drafts have branches.
const SAID: usize = 24;

/// A naive verifier behind a real tokenizer with a small vocabulary. It can round logits and fail.
pub(crate) struct Known {
    inner: NaiveVerifier,
    /// The largest change of a logit with the size of the pass, as in a backend that is not row-invariant.
    jitter: f32,
    /// The tolerance that it declares.
    states: f32,
    /// The number of commits before it fails.
    luck: usize,
    rows: usize,
    row: Vec<f32>,
}

impl Known {
    /// An exact one for the vocabulary of `source`.
    pub(crate) fn new(source: &ModelSource<'_>) -> Self {
        let vocab = source
            .gguf
            .and_then(|gguf| Tokenizer::from_gguf(gguf).ok())
            .map_or(SAID, |tokenizer| tokenizer.vocab_size());
        let inner = NaiveVerifier::new(vocab, 7);
        Self { inner, jitter: 0.0, states: 0.0, luck: usize::MAX, rows: 0, row: Vec::new() }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(NaiveVerifier) -> NaiveVerifier) -> Self {
        self.inner = change(self.inner);
        self
    }

    pub(crate) fn jittery(mut self, jitter: f32, states: f32) -> Self {
        (self.jitter, self.states) = (jitter, states);
        self
    }

    pub(crate) fn failing_after(mut self, commits: usize) -> Self {
        self.luck = commits;
        self
    }
}

impl Verifier for Known {
    fn limits(&self) -> &Limits {
        self.inner.limits()
    }
    fn row_tolerance(&self) -> f32 {
        self.states
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
            if token < SAID { logit + sign * self.jitter } else { logit - 100.0 }
        }));
        Ok(&self.row)
    }
    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        let Some(luck) = self.luck.checked_sub(1) else {
            return Err(VerifyError::backend("failing", "go on", "out of luck"));
        };
        self.luck = luck;
        self.inner.commit(commits)
    }
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        self.inner.truncate(seq, len)
    }
}
