//! Lends one verifier to several decoders. All arms of a setup share one loaded model, but each has its own decoder,
//! because what a decoder learns must stay with its arm.

use upcycle_core::{Commit, Limits, Row, SeqId, TopK, TreeInput, Verifier, VerifyError};

/// Holds a verifier while its decoder works. When empty, it has no tolerance and no engine, and every call except `limits` and
/// `close` fails.
pub(super) struct VerifierSlot {
    verifier: Option<Box<dyn Verifier>>,
    limits: Limits,
}

impl VerifierSlot {
    /// An empty slot, with the limits of its future verifier.
    pub(super) fn empty(limits: Limits) -> Self {
        Self { verifier: None, limits }
    }

    pub(super) fn put(&mut self, verifier: Box<dyn Verifier>) {
        self.verifier = Some(verifier);
    }

    pub(super) fn take(&mut self) -> Option<Box<dyn Verifier>> {
        self.verifier.take()
    }

    fn get(&mut self) -> Result<&mut Box<dyn Verifier>, VerifyError> {
        self.verifier
            .as_mut()
            .ok_or_else(|| VerifyError::backend("benchmark", "use its model", "another arm uses the model"))
    }
}

impl Verifier for VerifierSlot {
    fn limits(&self) -> &Limits {
        &self.limits
    }
    fn row_tolerance(&self) -> f32 {
        self.verifier.as_ref().map_or(0.0, |verifier| verifier.row_tolerance())
    }
    fn description(&self) -> String {
        self.verifier.as_ref().map_or_else(String::new, |verifier| verifier.description())
    }
    fn threads(&self) -> Option<usize> {
        self.verifier.as_ref()?.threads()
    }
    fn open(&mut self) -> Result<SeqId, VerifyError> {
        self.get()?.open()
    }
    fn close(&mut self, seq: SeqId) {
        if let Some(verifier) = &mut self.verifier {
            verifier.close(seq);
        }
    }
    fn forward(&mut self, inputs: &[TreeInput<'_>], top: &mut TopK) -> Result<(), VerifyError> {
        self.get()?.forward(inputs, top)
    }
    fn logits(&mut self, row: Row) -> Result<&[f32], VerifyError> {
        self.get()?.logits(row)
    }
    fn commit(&mut self, commits: &[Commit<'_>]) -> Result<(), VerifyError> {
        self.get()?.commit(commits)
    }
    fn truncate(&mut self, seq: SeqId, len: usize) -> Result<(), VerifyError> {
        self.get()?.truncate(seq, len)
    }
}
